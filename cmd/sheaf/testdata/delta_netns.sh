# P7: what two machines send each other when a megabyte within a large file changes, when a megabyte is put in front of it, when a large folder gets another name, and when a
# file gets a copy in another folder. Both directions count, at one end of the link. The caller gives DIR, a NAME for the namespaces, and how many MB the file has.
set -eu
. "$(dirname "$0")/two_machines.sh"
cleanup() {
	halt
	away a b
}
trap cleanup EXIT
linked 10.81.0
wire() { # bytes, to a and from a
	nsenter --net="/run/netns/$NAME-a" awk '$1 == "v0:" { print $2 + $10 }' /proc/net/dev
}
stored() { # stored a|b: bytes of packs
	find "$DIR/$1" -path '*packs/*' -type f -printf '%s\n' | awk '{ s += $1 } END { printf "%d", s }'
}
same() { cmp -s "$1" "$2"; }
whole() { # all is on both
	on a sheaf wait --copies 2 --timeout 100s >/dev/null 2>&1
}
step() { # step WHAT MOST FILE…: all is on both, with no more than MOST bytes on the wire since begin, and these files are the same on both
	what=$1 most=$2
	shift 2
	await "${MOST:-300}" whole
	for f in "$@"; do await 60 same "$DIR/ma/$f" "$DIR/mb/$f"; done
	n=$(($(wire) - begun))
	echo "$what: $n bytes on the wire, at most $most"
	[ "$n" -le "$most" ] || { echo "that is too much"; exit 1; }
}

on a sheaf init --device-name a >/dev/null
on a sheaf mount "$DIR/ma" >/dev/null
on a sheaf invite --no-wait --json >"$DIR/invite"
link=$(sed -n 's/.*"link":"\([^"]*\)".*/\1/p' "$DIR/invite")
on b sheaf join --yes --device-name b "$link" >/dev/null
on b sheaf mount "$DIR/mb" >/dev/null

await 60 reached lan
size=$((MB * 1000000))
begun=$(wire)
mkdir "$DIR/ma/images"
head -c "$size" /dev/urandom >"$DIR/ma/images/one"
step "$MB MB come" $((size + size / 8 + 4000000)) images/one
[ $(($(wire) - begun)) -gt "$size" ] || { echo "fewer bytes than there are: this shows nothing"; exit 1; }

# What is sent anew besides is the rest of the chunks in which the change begins and ends, up to 4 MiB each: how long these are depends on the key and the place, so the median of
# nine counts. 3 MB are what is wanted: of 60 changes with twelve keys the median was 2.97 MB, 1.3 MB the least and 9.3 MB the most.
: >"$DIR/each"
for at in 1 2 3 4 5 6 7 8 9; do
	begun=$(wire)
	head -c 1000000 /dev/urandom | dd of="$DIR/ma/images/one" bs=1000000 seek=$((MB * at / 10)) conv=notrunc status=none
	step "1 MB of them changes" 20000000 images/one
	echo "$n" >>"$DIR/each"
done
median=$(sort -n "$DIR/each" | sed -n 5p)
echo "the median is $median bytes, at most 6000000"
[ "$median" -le 6000000 ] || { echo "that is too much"; exit 1; }

# In front of it: where cuts lie, how far it goes on until the old ones are met again, depends on the key.
begun=$(wire)
{ head -c 1000000 /dev/urandom; cat "$DIR/ma/images/one"; } >"$DIR/ma/images/two"
step "all of them again, with 1 MB in front" 20000000 images/two

before=$(stored b)
begun=$(wire)
mkdir "$DIR/ma/other"
cp "$DIR/ma/images/one" "$DIR/ma/other/copy"
step "a copy in another folder" 1000000 other/copy
more=$(($(stored b) - before))
echo "$more bytes more are stored for the copy"
[ "$more" -le 1000000 ] || { echo "it is stored twice"; exit 1; }

begun=$(wire)
mv "$DIR/ma/images" "$DIR/ma/renamed"
step "a folder of $((2 * MB)) MB gets another name" 500000 renamed/one renamed/two
[ ! -e "$DIR/mb/images" ]
echo well
