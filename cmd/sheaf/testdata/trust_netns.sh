# P4: four machines on one switch, with nobody else there. Anna trusts Bob, Bob vouches for Cleo at the level that Anna asks for: Cleo gets in. Dora, for whom nobody vouches, is refused in the handshake. Anna takes back her trust in
# Bob: Cleo's connections drop. The caller gives DIR and a NAME for the namespaces.
set -eu
. "$(dirname "$0")/two_machines.sh"
cleanup() {
	for x in a b c d; do on "$x" sheaf stop --force >/dev/null 2>&1 || true; done
	away a b c d sw
}
trap cleanup EXIT
sw=$NAME-sw
ip netns add "$sw"
ip -n "$sw" link add br0 type bridge
ip -n "$sw" link set br0 up
i=0
for n in a b c d; do
	i=$((i + 1))
	ip netns add "$NAME-$n"
	ip -n "$NAME-$n" link add v0 type veth peer name "p$n" netns "$sw"
	ip -n "$sw" link set "p$n" master br0
	ip -n "$sw" link set "p$n" up
	ip -n "$NAME-$n" link set lo up
	ip -n "$NAME-$n" link set v0 up
	ip -n "$NAME-$n" addr add "10.79.0.$i/24" dev v0
done
shows() { on "$1" sheaf device show "$2" 2>/dev/null | grep -q "$3"; }     # shows ON DEVICE TEXT
lacks() { ! on "$1" sheaf device show "$2" 2>/dev/null | grep -q "$3"; }   # lacks ON DEVICE TEXT
print_of() { on "$1" sheaf key list "$2" | awk 'NR == 2 { print $1 }'; }   # print_of ON NAME
letin() { # letin BY NEW DEVICE
	on "$1" sheaf invite --no-wait --json >"$DIR/invite"
	on "$2" sheaf join --yes --device-name "$3" "$(sed -n 's/.*"link":"\([^"]*\)".*/\1/p' "$DIR/invite")" >/dev/null
}

on a sheaf init --device-name annas >/dev/null
on a sheaf key new Anna >/dev/null
echo from anna >"$DIR/anna.txt"
on a sheaf cp "$DIR/anna.txt" sheaf:/anna.txt
letin a b bobs
letin b c cleos
letin b d doras
on b sheaf key new Bob >/dev/null
on c sheaf key new Cleo >/dev/null
on d sheaf key new Dora >/dev/null

# As long as members need nothing else, all are connected: nothing but the refusal keeps Dora out below.
await 60 shows a cleos 'connected at'
await 60 shows a doras 'connected at'
await 60 shows a bobs 'owned by Bob'
on a sheaf device vouch bobs --fingerprint "$(print_of b Bob)" --introducer full >/dev/null
on a sheaf device trust --need full >/dev/null
await 10 lacks a cleos 'connected at'
await 10 lacks a doras 'connected at'
shows a bobs 'accepted here: you said yes' # she let it in herself

await 60 shows b cleos 'owned by Cleo'
on b sheaf device vouch cleos --fingerprint "$(print_of c Cleo)" >/dev/null
begun=$(date +%s%N)
await 60 shows a cleos 'connected at'
echo "Cleo is let in $((($(date +%s%N) - begun) / 1000000)) ms after Bob vouched"
shows a cleos 'Bob.*certified Cleo'
on c sheaf cat sheaf:/anna.txt | grep -q 'from anna'
# Dora is refused, however often she tries, and by her own account too.
sleep 5 # for so long she may try
lacks a doras 'connected at'
shows a doras 'not accepted here'
lacks d annas 'connected at'
shows d bobs 'connected at'

begun=$(date +%s%N)
on a sheaf device vouch bobs --withdraw >/dev/null
await 10 lacks a cleos 'connected at'
await 10 lacks c annas 'connected at'
took=$((($(date +%s%N) - begun) / 1000000))
echo "Cleo is cut off $took ms after Anna took back her trust in Bob"
[ "$took" -lt 10000 ]
shows a cleos 'not accepted here'
on a sheaf device revoke bobs >/dev/null
await 10 lacks a bobs 'connected at'
echo well
