# Two machines, as far as the network goes: two namespaces joined by a link with delay and loss. O1: from nothing to a file that is read on the
# second one. P1: with UDP blocked, and when it is free again. P14: cut off, and together again. The caller gives DIR and a NAME for the namespaces.
set -eu
. "$(dirname "$0")/two_machines.sh"
a=$NAME-a b=$NAME-b
cleanup() {
	halt
	away a b
}
trap cleanup EXIT
linked 10.77.0
for n in "$a" "$b"; do
	tc -n "$n" qdisc add dev v0 root netem delay "${DELAY:-10ms}" loss "${LOSS:-0.5%}" || echo "this kernel has no netem: the link is a good one"
done
same() { cmp -s "$1" "$2"; }
udp() { # udp block|free
	for n in "$a" "$b"; do
		for v in -4 -6; do # devices on one link find each other by both
			case $1 in
			block) ip "$v" -n "$n" rule add ipproto udp priority 0 blackhole ;;
			free) ip "$v" -n "$n" rule del ipproto udp priority 0 ;;
			esac
		done
	done
}

begun=$(date +%s)
on a sheaf init --device-name first >/dev/null
on a sheaf mount "$DIR/ma" >/dev/null
echo hello >"$DIR/ma/hello"
head -c 8000000 /dev/urandom >"$DIR/ma/big"
on a sheaf invite --no-wait --json >"$DIR/invite"
link=$(sed -n 's/.*"link":"\([^"]*\)".*/\1/p' "$DIR/invite")
on b sheaf join --yes --device-name second "$link" >/dev/null
on b sheaf mount "$DIR/mb" >/dev/null
await 60 test -e "$DIR/mb/big" # the tree is there before the bytes
cat "$DIR/mb/hello" >/dev/null
echo "O1 $(($(date +%s) - begun)) s"
await 60 same "$DIR/ma/big" "$DIR/mb/big"
on a sheaf device peers | grep -q quic

# UDP is blocked: both daemons begin anew, and find each other over TCP.
udp block
on b sheaf stop >/dev/null
on b sheaf mount "$DIR/mb" >/dev/null
echo over tcp >"$DIR/mb/tcp"
await 90 same "$DIR/mb/tcp" "$DIR/ma/tcp"
on b sheaf device peers | grep -q tcp
udp free

# Cut off from each other, both write; together again, both have all.
ip -n "$a" link set v0 down
echo apart a >"$DIR/ma/apart-a"
echo apart b >"$DIR/mb/apart-b"
sleep 3 # apart for so long
ip -n "$a" link set v0 up
await 120 same "$DIR/ma/apart-a" "$DIR/mb/apart-a"
await 120 same "$DIR/mb/apart-b" "$DIR/ma/apart-b"
echo well
