"""The wire between the hosts of lib/hosts.py, as a program: it carries each packet from the one's tun device to the other's, or not.

    python switch.py NAME=NAMESPACE=ADDRESS ...      NAMESPACE "" is where the program runs itself

It says "ready", then takes a command a line from stdin, and says "done" when it holds:

    link FROM TO DELAY_MS LOSS          of packets that way; LOSS from 0 to 1, which is a cut
"""

import ctypes
import fcntl
import heapq
import ipaddress
import os
import random
import select
import struct
import subprocess
import sys
import threading
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
MTU = 16000  # large frames, so that a program in Python is fast enough
DEEP = 4096  # packets on their way, at most


def open_tun(name: str, namespace: str) -> int:
    """A device is in the namespace of the thread that makes it."""
    result = []

    def make():
        if namespace:
            with open(f"/run/netns/{namespace}") as there:
                if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), CLONE_NEWNET):
                    result.append(OSError(ctypes.get_errno(), f"setns {namespace}"))
                    return
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
        result.append(fd)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(result[0], OSError):
        raise result[0]
    return result[0]


def main() -> None:
    hosts, by_address, links, waiting = {}, {}, {}, []
    for word in sys.argv[1:]:
        name, namespace, address = word.split("=")
        device = f"{name}-{os.getppid()}"[:15] if not namespace else "net0"
        fd = open_tun(device, namespace)
        ip = ["ip", "-n", namespace] if namespace else ["ip"]
        subprocess.run([*ip, "link", "set", "dev", device, "mtu", str(MTU), "txqueuelen", "2000", "up"], check=True)
        subprocess.run([*ip, "address", "add", f"{address}/24", "dev", device], check=True)
        hosts[fd] = name
        by_address[ipaddress.ip_address(address).packed] = (name, fd)
    print("ready", flush=True)
    poll = select.epoll()
    for fd in hosts:
        poll.register(fd, select.EPOLLIN)
    poll.register(0, select.EPOLLIN)
    rng, number = random.Random(1), 0
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, to, packet = heapq.heappop(waiting)
            send(to, packet)
        for fd, _ in poll.poll(max(waiting[0][0] - now, 0) if waiting else -1):
            if fd == 0:
                line = sys.stdin.readline()
                if not line:
                    return
                _, source, target, delay, loss = line.split()
                links[source, target] = float(delay) / 1000, float(loss)
                print("done", flush=True)
                continue
            for _ in range(64):
                try:
                    packet = os.read(fd, MTU + 100)
                except BlockingIOError:
                    break
                if packet[0] >> 4 != 4 or packet[16:20] not in by_address:
                    continue
                name, to = by_address[packet[16:20]]
                delay, loss = links.get((hosts[fd], name), (0, 0))
                if loss and rng.random() < loss:
                    continue
                if delay and len(waiting) < DEEP:
                    number += 1
                    heapq.heappush(waiting, (time.monotonic() + delay, number, to, packet))
                elif not delay:
                    send(to, packet)


def send(fd: int, packet: bytes) -> None:
    try:
        os.write(fd, packet)
    except OSError:
        pass  # its device is down, or full: a packet is lost, as packets are


if __name__ == "__main__":
    main()
