"""What can befall a cluster (lib/cluster.py): each function does it, sees that the others go on where they must, and mends it.

    leader_killed(cluster, rng)
    much(cluster, rng, seconds=60)      any of it, at the same time too
"""

import os
import signal
import time

from lib.cluster import BROKERS, KEEPER

HOUR_MS = 3600 * 1000
SESSION_S = 3


def leader_killed(cluster, rng):
    for _ in range(2):
        leader = cluster.leader("t")
        cluster.kill(leader)
        cluster.other_leader("t", leader)
        cluster.goes_on()
        cluster.agent[leader].start()
        cluster.in_sync("t")


def follower_killed(cluster, rng):
    follower = rng.choice(cluster.followers("t"))
    cluster.kill(follower)
    cluster.goes_on()
    cluster.agent[follower].start()
    cluster.in_sync("t")


def controller_killed(cluster, rng):
    """With it the leader, if that is another: one is left, and goes on alone."""
    killed = {cluster.controller(), cluster.leader("t")}
    for name in killed:
        cluster.kill(name)
    cluster.goes_on()
    for name in killed:
        cluster.agent[name].start()
    cluster.in_sync("t")


def all_restarted_one_by_one(cluster, rng):
    for name in BROKERS:
        cluster.agent[name].restart()
        cluster.in_sync("t")
        cluster.goes_on(5)


def all_killed(cluster, rng):
    """No power is lost: the page cache is there."""
    for name in BROKERS:
        cluster.kill(name)
    for name in rng.sample(list(BROKERS), 3):
        cluster.agent[name].start()
    cluster.goes_on()
    cluster.in_sync("t")


def leader_stopped(cluster, rng):
    """For longer than its session: it goes on, and believes that it leads."""
    leader = cluster.leader("t")
    cluster.signal(leader, signal.SIGSTOP)
    cluster.other_leader("t", leader)
    cluster.goes_on()
    cluster.signal(leader, signal.SIGCONT)
    cluster.in_sync("t")


def follower_stopped(cluster, rng):
    follower = rng.choice(cluster.followers("t"))
    cluster.signal(follower, signal.SIGSTOP)
    cluster.goes_on()
    cluster.signal(follower, signal.SIGCONT)
    cluster.in_sync("t")


def leader_cut_off(cluster, rng):
    """From all but the clients."""
    leader = cluster.leader("t")
    cluster.hosts.cut_off(leader)
    cluster.other_leader("t", leader)
    cluster.goes_on()
    cluster.hosts.heal()
    cluster.in_sync("t")


def leader_cut_off_one_way(cluster, rng):
    """It hears the others, and is not heard; then the other way round."""
    for heard in (False, True):
        leader = cluster.leader("t")
        for other in cluster.hosts.names:
            if other != leader:
                cluster.hosts.cut(*((other, leader) if heard else (leader, other)))
        cluster.other_leader("t", leader)
        cluster.goes_on()
        cluster.hosts.heal()
        cluster.in_sync("t")


def leader_loses_zookeeper(cluster, rng):
    """Its followers fetch on, until they are told of another."""
    leader = cluster.leader("t")
    cluster.cut_between(leader, KEEPER)
    cluster.other_leader("t", leader)
    cluster.goes_on()
    cluster.hosts.heal()
    cluster.in_sync("t")


def leader_loses_followers(cluster, rng):
    """ZooKeeper and the clients it has: it leads on, and nothing is acknowledged before the ISR is smaller, for which it needs the controller."""
    leader = cluster.leader("t")
    for follower in cluster.followers("t"):
        cluster.cut_between(leader, follower)
    if cluster.controller() == leader:
        cluster.in_sync("t", leader)
        cluster.goes_on()
    else:
        cluster.lasts(2 * SESSION_S)
    cluster.hosts.heal()
    cluster.in_sync("t")


def follower_loses_leader(cluster, rng):
    """One way: what it asks for arrives, and the answers do not; then the other way round."""
    for answers in (True, False):
        leader, follower = cluster.leader("t"), rng.choice(cluster.followers("t"))
        cluster.hosts.cut(*((leader, follower) if answers else (follower, leader)))
        cluster.lasts(2 * SESSION_S)
        cluster.hosts.heal()
        cluster.in_sync("t")


def network_slow_and_lossy(cluster, rng):
    for source in cluster.hosts.host:
        for target in cluster.hosts.host:
            cluster.hosts.slow(source, target, rng.randint(1, 30), loss=rng.choice((0, 0.01, 0.05)))
    cluster.goes_on(100)
    cluster.hosts.heal()
    cluster.in_sync("t")


def zookeeper_killed(cluster, rng):
    """acks=all goes on while the whole ISR fetches."""
    cluster.zookeeper.server[0].kill()
    until = time.monotonic() + 2 * SESSION_S
    while time.monotonic() < until:
        cluster.goes_on()
    cluster.zookeeper.server[0].start()
    cluster.goes_on()
    cluster.in_sync("t")


def zookeeper_stopped_and_leader_killed(cluster, rng):
    """Nobody can be elected before ZooKeeper is back."""
    leader = cluster.leader("t")
    cluster.zookeeper.server[0].signal(signal.SIGSTOP)
    cluster.kill(leader)
    cluster.lasts(2 * SESSION_S)
    cluster.zookeeper.server[0].signal(signal.SIGCONT)
    cluster.other_leader("t", leader)
    cluster.goes_on()
    cluster.agent[leader].start()
    cluster.in_sync("t")


def power_lost(cluster, name, rng, keep_all=False):
    """Of a host that is killed: what was not on its disk is gone, in the middle of a batch, and the kernel has booted since."""
    data = cluster.agent[name].data
    (data / "spoolfs.intact").write_text("another boot\n")
    if keep_all:
        return
    log = sorted((data / "t-0").glob("*.log"))[-1]
    synced, size = cluster.synced(name, log), log.stat().st_size
    if synced < size:
        os.truncate(log, rng.randint(synced, size - 1))
        if rng.random() < 0.5:  # the file has its size, and what is in it never came
            os.truncate(log, size)


def follower_loses_power(cluster, rng):
    """It comes back with less than it had said that it has."""
    follower = rng.choice(cluster.followers("t"))
    cluster.kill(follower)
    power_lost(cluster, follower, rng)
    cluster.goes_on()
    cluster.agent[follower].start()
    cluster.in_sync("t")


def leader_loses_power_and_is_back_at_once(cluster, rng):
    """Before its session has ended: it was the leader, and a member of the ISR, and may be neither."""
    leader = cluster.leader("t")
    cluster.kill(leader)
    power_lost(cluster, leader, rng)
    cluster.agent[leader].start()
    cluster.goes_on()
    cluster.in_sync("t")


def all_lose_power(cluster, rng):
    """One has all it had, and only the election finds out which."""
    for name in BROKERS:
        cluster.kill(name)
    lucky = rng.choice(list(BROKERS))
    for name in BROKERS:
        power_lost(cluster, name, rng, keep_all=name == lucky)
    for name in rng.sample(list(BROKERS), 3):
        cluster.agent[name].start()
    cluster.goes_on()
    cluster.in_sync("t")


def clocks_apart(cluster, rng):
    """Hours apart, and set while it goes on. None is an hour behind the clients: what they write would be of a time that is refused (message.timestamp.after.max.ms)."""
    for shifts in ((0, HOUR_MS, 2 * HOUR_MS), (2 * HOUR_MS, 0, -HOUR_MS * 3 // 4), (0, 0, 0)):
        for shift, name in zip(shifts, BROKERS):
            cluster.agent[name].faults.shift_clock(shift)
        leader = cluster.leader("t")
        cluster.goes_on()
        cluster.agent[leader].restart()
        cluster.goes_on()
        cluster.in_sync("t")


TROUBLE = [leader_killed, follower_killed, controller_killed, all_restarted_one_by_one, all_killed, leader_stopped, follower_stopped, leader_cut_off, leader_cut_off_one_way,
           leader_loses_zookeeper, leader_loses_followers, follower_loses_leader, network_slow_and_lossy, zookeeper_killed, zookeeper_stopped_and_leader_killed, follower_loses_power,
           leader_loses_power_and_is_back_at_once, all_lose_power, clocks_apart]
SHORT = {leader_killed, leader_cut_off}


# ---- at the same time ----


class Much:
    """Troubles come and go as `rng` has it, with a chance to overlap. Power is lost only where all are in sync: who has lost power was promised nothing that only it had."""

    def __init__(self, cluster, rng):
        self.cluster, self.rng = cluster, rng
        self.did = []

    def _up(self):
        return [name for name in BROKERS if self.cluster.agent[name].daemon]

    def kill(self):
        if up := self._up():
            name = self.rng.choice(up)
            self.did.append(f"kill {name}")
            self.cluster.kill(name)

    def start(self):
        down = [name for name in BROKERS if not self.cluster.agent[name].daemon]
        if down and self.cluster.zookeeper.server[0].process and not self.cut and not self.keeper_stopped:
            name = self.rng.choice(down)
            self.did.append(f"start {name}")
            self.cluster.agent[name].start()

    def stop(self):
        if up := self._up():
            name = self.rng.choice(up)
            self.did.append(f"SIGSTOP {name}")
            self.cluster.signal(name, signal.SIGSTOP)

    def go_on(self):
        for name in self._up():
            self.cluster.signal(name, signal.SIGCONT)

    cut = False             # somebody may not reach ZooKeeper: who is started must
    keeper_stopped = False

    def cut_link(self):
        source, target = self.rng.sample(self.cluster.hosts.names, 2)
        self.did.append(f"cut {source} {target}")
        self.cluster.hosts.cut(source, target)
        self.cut = True

    def cut_off(self):
        name = self.rng.choice(list(BROKERS))
        self.did.append(f"cut off {name}")
        self.cluster.hosts.cut_off(name)
        self.cut = True

    def slow(self):
        source, target = self.rng.sample(list(self.cluster.hosts.host), 2)
        self.did.append(f"slow {source} {target}")
        self.cluster.hosts.slow(source, target, self.rng.randint(0, 50), self.rng.choice((0, 0.02, 0.1)))

    def heal(self):
        self.did.append("heal")
        self.cluster.hosts.heal()
        self.cut = False

    def keeper(self):
        server = self.cluster.zookeeper.server[0]
        self.keeper_stopped = not self.keeper_stopped
        self.did.append("SIGSTOP ZooKeeper" if self.keeper_stopped else "SIGCONT ZooKeeper")
        server.signal(signal.SIGSTOP if self.keeper_stopped else signal.SIGCONT)

    def clock(self):
        name = self.rng.choice(list(BROKERS))
        self.did.append(f"clock {name}")
        self.cluster.agent[name].faults.shift_clock(self.rng.randint(-HOUR_MS * 3 // 4, HOUR_MS))

    def all_well(self):
        """From time to time: all are in sync again, and perhaps a power cut."""
        self.did.append("all well")
        self.heal()
        if self.keeper_stopped:
            self.keeper()
        self.cluster.heal()
        self.cluster.goes_on(5)
        if self.rng.random() < 0.5:
            what = self.rng.choice((follower_loses_power, all_lose_power, leader_loses_power_and_is_back_at_once))
            self.did.append(what.__name__)
            what(self.cluster, self.rng)

    def run(self, seconds):
        kinds = [self.kill, self.kill, self.start, self.start, self.start, self.stop, self.go_on, self.go_on, self.cut_link, self.cut_off, self.heal, self.slow, self.keeper, self.clock]
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for _ in range(self.rng.randint(3, 10)):
                self.rng.choice(kinds)()
                self.cluster.lasts(self.rng.choice((0, 0.1, 0.5, 2, SESSION_S + 2)))
            self.all_well()


def much(cluster, rng, seconds):
    trouble = Much(cluster, rng)
    try:
        trouble.run(seconds)
    finally:
        print("\n".join(trouble.did))
