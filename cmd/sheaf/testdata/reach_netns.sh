# P3 on a LAN: two machines on one switch, with no way out and nobody else there, and with addresses that change: two namespaces joined by a bridge in a third one. The caller gives
# DIR and a NAME for the namespaces.
set -eu
. "$(dirname "$0")/two_machines.sh"
a=$NAME-a b=$NAME-b sw=$NAME-sw
cleanup() {
	halt
	away a b sw
}
trap cleanup EXIT
ip netns add "$sw"
ip -n "$sw" link add br0 type bridge
ip -n "$sw" link set br0 up
for n in a b; do
	ip netns add "$NAME-$n"
	ip -n "$NAME-$n" link add v0 type veth peer name "p$n" netns "$sw"
	ip -n "$sw" link set "p$n" master br0
	ip -n "$sw" link set "p$n" up
	ip -n "$NAME-$n" link set lo up
	ip -n "$NAME-$n" link set v0 up
done
ip -n "$a" addr add 10.78.0.1/24 dev v0
ip -n "$b" addr add 10.78.0.2/24 dev v0
sees() { # sees a|b PATH TEXT
	[ "$(on "$1" sheaf cat "sheaf:/$2" 2>/dev/null)" = "$3" ]
}

on a sheaf init --device-name first >/dev/null
mkdir -p "$DIR/ma" "$DIR/mb"
on a sheaf mount "$DIR/ma" >/dev/null
on a sheaf invite --no-wait --json >"$DIR/invite"
link=$(sed -n 's/.*"link":"\([^"]*\)".*/\1/p' "$DIR/invite")
on b sheaf join --yes --device-name second "$link" >/dev/null
await 20 reached lan
echo one >"$DIR/ma/one"
await 20 sees b one one

# Both are switched off, and come back at other addresses, of which neither knows anything.
on a sheaf stop >/dev/null
on b sheaf stop >/dev/null
for n in a b; do ip -n "$NAME-$n" addr flush dev v0 scope global; done
ip -n "$a" addr add 172.30.5.7/24 dev v0
ip -n "$b" addr add 172.30.5.9/24 dev v0
begun=$(date +%s%N)
on a sheaf mount "$DIR/ma" >/dev/null
on b sheaf mount "$DIR/mb" >/dev/null
await 30 reached lan
echo "found after both were moved and started: $((($(date +%s%N) - begun) / 1000000)) ms"
echo two >"$DIR/mb/two"
await 20 sees a two two

# One is moved while both run.
begun=$(date +%s%N)
ip -n "$b" addr flush dev v0 scope global
ip -n "$b" addr add 172.30.5.77/24 dev v0
echo three >"$DIR/mb/three"
await 60 sees a three three
echo "found after one was moved: $((($(date +%s%N) - begun) / 1000000)) ms"
on a sheaf device peers | grep -q '172.30.5.77\|fe80'

# With the setting off nothing is said, and so nobody is found at a new address.
on a sheaf device reach --lan off | grep -q 'does not announce'
on b sheaf device reach --lan off >/dev/null
on a sheaf stop >/dev/null
on b sheaf stop >/dev/null
for n in a b; do ip -n "$NAME-$n" addr flush dev v0; done
ip -n "$a" addr add 172.31.1.1/24 dev v0
ip -n "$b" addr add 172.31.1.2/24 dev v0
on a sheaf mount "$DIR/ma" >/dev/null
on b sheaf mount "$DIR/mb" >/dev/null
sleep 8 # in which announcements would have been made
if reached lan; then
	echo "found with the setting off" >&2
	exit 1
fi
on a sheaf device reach --lan on >/dev/null
on b sheaf device reach --lan on >/dev/null
await 30 reached lan
echo well
