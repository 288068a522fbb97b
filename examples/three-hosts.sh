#!/bin/bash
# Three hosts with one log, on this machine: ZooKeeper, and three mounts that are one cluster. Appends on one host, follows on the others, kills one in between, and shows that nothing is missing.
# As root each host is a network namespace with an address of its own, else (and with the word loopback) they are loopback addresses. Nothing is left behind.
#   examples/three-hosts.sh [loopback]      SPOOLFS=PATH where it is not installed; needs Debian's zookeeper and attr
set -euo pipefail
spoolfs=$(realpath "$(command -v "${SPOOLFS:-spoolfs}")")
for tool in java getfattr; do command -v $tool >/dev/null || { echo "$0: $tool is not installed" >&2; exit 1; }; done
place=$(mktemp -d)
hosts=(a b c zookeeper)
declare -A address namespace pid
cd "$place"

say() { printf '\n# %s\n' "$*"; }
show() { printf '\n$ %s\n' "$1"; eval "$1"; }
patiently() { # until it is so, a minute at most
	for _ in $(seq 600); do
		if "$@" >/dev/null 2>&1; then return; fi
		sleep 0.1
	done
	echo "it is not so within a minute: $*" >&2
	tail -n 20 ./*.said >&2
	return 1
}

finish() {
	set +e
	for p in $(jobs -p); do kill -KILL "$p"; done 2>/dev/null
	wait 2>/dev/null
	for host in a b c; do umount -l "$host" || fusermount3 -uz "$host"; done 2>/dev/null
	for name in "${namespace[@]}"; do ip netns del "$name"; done 2>/dev/null
	ip link del "sp$$" 2>/dev/null
	cd / && rm -rf "$place"
}
trap finish EXIT
trap 'exit 1' INT TERM

# Hosts: namespaces on a bridge, if we may make them.
net=$((RANDOM % 250)).$((RANDOM % 250))
make_network() {
	[ "$(id -u)" = 0 ] && ip link add "sp$$" type bridge && ip link set "sp$$" up || return 1
	for i in "${!hosts[@]}"; do
		local name=spoolfs-$$-${hosts[i]}
		ip netns add "$name" && namespace[${hosts[i]}]=$name || return 1
		ip link add "sp$$-$i" type veth peer name eth0 netns "$name" && ip link set "sp$$-$i" master "sp$$" up || return 1
		ip -n "$name" link set lo up && ip -n "$name" link set eth0 up && ip -n "$name" address add "10.$net.$((i + 1))/24" dev eth0 || return 1
		address[${hosts[i]}]=10.$net.$((i + 1))
	done
}
if [ "${1:-}" = loopback ] || ! make_network 2>/dev/null; then
	namespace=()
	for i in "${!hosts[@]}"; do address[${hosts[i]}]=127.$net.$((i + 1)); done
fi

# Runs a command on a host, in the background. A mount that it makes is seen from everywhere.
run_on() {
	local host=$1 there=()
	shift
	[ -z "${namespace[$host]:-}" ] || there=(nsenter "--net=/run/netns/${namespace[$host]}")
	"${there[@]}" "$@" >>"$host.said" 2>&1 </dev/null &
	pid[$host]=$!
}

mount_on() { # a is broker 1, b broker 2
	local host=$1 id
	id=$(($(printf '%d' "'$1") - 96))
	mkdir -p "$host"
	run_on "$host" "$spoolfs" mount -f -d "$host.data" --listen "${address[$host]}:9092" -o "broker.id=$id" -o "zookeeper.connect=${address[zookeeper]}:2181/spool" \
		-o zookeeper.connection.timeout.ms=30000 -o zookeeper.session.timeout.ms=3000 -o default.replication.factor=3 -o min.insync.replicas=2 -o acks=all "$host"
	patiently mountpoint -q "$host"
}

say "ZooKeeper at ${address[zookeeper]}, three mounts at ${address[a]}, ${address[b]}, ${address[c]}"
cat >zoo.cfg <<END
dataDir=$place/zookeeper
clientPort=2181
clientPortAddress=${address[zookeeper]}
tickTime=500
admin.enableServer=false
END
run_on zookeeper java -cp /etc/zookeeper/conf:/usr/share/java/zookeeper.jar org.apache.zookeeper.server.quorum.QuorumPeerMain "$place/zoo.cfg"
for host in a b c; do mount_on "$host"; done

show 'mkdir a/orders                            # on one host: a topic, with a replica on each'
patiently test -e b/orders/0
patiently test -e c/orders/0
show 'cat b/.cluster/brokers                    # who is there, seen from another'

leader=$(getfattr --only-values -n user.spoolfs.leader a/orders/0)
leader=$(printf "\\x$(printf '%x' $((leader + 96)))")
writer=a
[ "$leader" != a ] || writer=b
say "$leader leads orders/0. Lines are appended on $writer, a line a write, and followed on all hosts"
for host in a b c; do
	tail -n +1 -s 0.1 -f "$host/orders/0" >"seen.$host" 2>>"$host.said" &
done
(i=0; while [ ! -e enough ]; do echo "order $((++i))"; done >>"$writer/orders/0"; echo "$i" >written) &
writing=$!
lines_of() { wc -l <"seen.$1"; } # that were seen on a host
has() { [ "$(lines_of "$1")" -ge "$2" ]; }
patiently has "$writer" 200

say "$leader is killed, in the middle of it, and another leads"
kill -KILL "${pid[$leader]}"
wait "${pid[$leader]}" 2>/dev/null || true
umount -l "$leader" 2>/dev/null || fusermount3 -uz "$leader"
patiently has "$writer" $(($(lines_of "$writer") + 500))
touch enough
wait "$writing" || { echo "a write has failed" >&2; exit 1; }
lines=$(cat written)
show "wc -l $writer/orders/0                       # every write has returned"
show "cat $writer/.cluster/under-replicated        # partition, leader, replicas, in sync, missing"
for host in a b c; do
	[ "$host" = "$leader" ] && continue
	patiently has "$host" "$lines"
	seq -f 'order %.0f' "$lines" | cmp - "seen.$host"
	echo "$host has seen order 1 to $lines, each once, in order"
done

say "$leader comes back, and gets what it has missed"
mount_on "$leader"
patiently test ! -s "$writer/.cluster/under-replicated"
for host in a b c; do
	seq -f 'order %.0f' "$lines" | cmp - "$host/orders/0"
done
show 'md5sum a/orders/0 b/orders/0 c/orders/0'
say "nothing is missing"
