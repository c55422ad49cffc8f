# P3 and P5 across routers: two homes behind routers of their own, with the same private addresses, and a server on the net between them. An invitation goes by the server; what the
# routers allow goes directly, and the rest by the relay. The caller gives DIR, a NAME for the namespaces, and NAT, "random" or "".
set -eu
. "$(dirname "$0")/two_machines.sh"
pids=
cleanup() {
	halt
	for p in $pids; do kill "$p" 2>/dev/null || true; done
	away a b ra rb s w
}
trap cleanup EXIT
for n in w s ra rb a b; do
	ip netns add "$NAME-$n"
	ip -n "$NAME-$n" link set lo up
done
ip -n "$NAME-w" link add br0 type bridge
ip -n "$NAME-w" link set br0 up
plug() { # plug NAMESPACE ADDRESS: onto the net between
	ip -n "$NAME-$1" link add out type veth peer name "p$1" netns "$NAME-w"
	ip -n "$NAME-w" link set "p$1" master br0 up
	ip -n "$NAME-$1" addr add "$2/24" dev out
	ip -n "$NAME-$1" link set out up
}
plug s 198.51.100.1
plug ra 198.51.100.11
plug rb 198.51.100.12
for x in a b; do
	ip -n "$NAME-$x" link add eth type veth peer name in netns "$NAME-r$x"
	ip -n "$NAME-r$x" addr add 10.0.0.1/24 dev in
	ip -n "$NAME-r$x" link set in up
	ip -n "$NAME-$x" addr add 10.0.0.2/24 dev eth
	ip -n "$NAME-$x" link set eth up
	ip -n "$NAME-$x" route add default via 10.0.0.1
	ip netns exec "$NAME-r$x" sysctl -qw net.ipv4.ip_forward=1
	ip netns exec "$NAME-r$x" nft -f - <<-END
		table ip t {
			chain in { type filter hook input priority 0; iif "out" ip protocol { tcp, udp } drop; }
			chain post { type nat hook postrouting priority 100; oif "out" masquerade ${NAT:-}; }
		}
	END
done
serve() {
	rm -f "$DIR/server"
	nsenter --net="/run/netns/$NAME-s" env SHEAF_HOME="$DIR/s" sheaf server rendezvous --listen 198.51.100.1:7436 --json >"$DIR/server" &
	server=$!
	pids="$pids $server"
	await 20 grep -qs address "$DIR/server"
}
want=direct
[ -z "${NAT:-}" ] || want=relay

mkdir -p "$DIR/ma" "$DIR/mb"
serve
at=$(sed -n 's/.*"address":"\([^"]*\)".*/\1/p' "$DIR/server")
on a sheaf init --device-name first >/dev/null
on a sheaf mount "$DIR/ma" >/dev/null
echo hello >"$DIR/ma/hello"
on a sheaf device reach --server "$at" >/dev/null
on a sheaf invite --no-wait >/dev/null # from here on it listens, and is met
await 20 sh -c "SHEAF_HOME=$DIR/a sheaf device reach | grep -q 'it is met at'"
on a sheaf invite --no-wait --json >"$DIR/invite"
link=$(sed -n 's/.*"link":"\([^"]*\)".*/\1/p' "$DIR/invite")
begun=$(date +%s)
on b sheaf join --yes --device-name second "$link" >/dev/null
echo "joined after $(($(date +%s) - begun)) s"
on b sheaf mount "$DIR/mb" >/dev/null
await 60 cmp -s "$DIR/ma/hello" "$DIR/mb/hello"
await 60 reached "$want"
head -c 3000000 /dev/urandom >"$DIR/mb/big"
await 60 cmp -s "$DIR/mb/big" "$DIR/ma/big"

# Both are started anew, and meet again.
on a sheaf stop >/dev/null
on b sheaf stop >/dev/null
begun=$(date +%s%N)
on a sheaf mount "$DIR/ma" >/dev/null
on b sheaf mount "$DIR/mb" >/dev/null
await 60 reached "$want"
echo "met again by $want after $((($(date +%s%N) - begun) / 1000000)) ms"
echo again >"$DIR/ma/again"
await 60 cmp -s "$DIR/ma/again" "$DIR/mb/again"
on a sheaf device peers | grep -q "$want"

# The server goes, and comes back: what is direct does not mind, and the rest is met again.
kill "$server"
wait "$server" 2>/dev/null || true
if [ "$want" = direct ]; then
	echo without >"$DIR/ma/without"
	await 30 cmp -s "$DIR/ma/without" "$DIR/mb/without"
else
	serve
	echo back >"$DIR/ma/back"
	await 90 cmp -s "$DIR/ma/back" "$DIR/mb/back"
fi
echo well
