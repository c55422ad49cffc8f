# What the tests of two machines share, which are the namespaces $NAME-a and $NAME-b, with homes in $DIR: it is sourced. (nsenter, for ip netns exec would hide the mounts.)
linked() { # linked NETWORK: the two namespaces come, joined by a link, with the addresses NETWORK.1 and NETWORK.2, and folders for their mounts
	ip netns add "$NAME-a"
	ip netns add "$NAME-b"
	ip -n "$NAME-a" link add v0 type veth peer name v0 netns "$NAME-b"
	ip -n "$NAME-a" addr add "$1.1/24" dev v0
	ip -n "$NAME-b" addr add "$1.2/24" dev v0
	for n in a b; do
		ip -n "$NAME-$n" link set lo up
		ip -n "$NAME-$n" link set v0 up
		mkdir -p "$DIR/m$n"
	done
}
halt() { # on both
	for x in a b; do
		nsenter --net="/run/netns/$NAME-$x" sheaf --home "$DIR/$x" stop --force >/dev/null 2>&1 || true
	done
}
away() { # away NAMESPACE…: the namespaces of these names go
	for n in "$@"; do ip netns del "$NAME-$n" 2>/dev/null || true; done
}
on() { # on a|b COMMAND…: on one of the machines
	h=$1
	shift
	nsenter --net="/run/netns/$NAME-$h" env SHEAF_HOME="$DIR/$h" SHEAF_POLL=2s "$@"
}
await() { # await SECONDS COMMAND…
	end=$(($(date +%s) + $1))
	shift
	until "$@"; do
		if [ "$(date +%s)" -ge "$end" ]; then
			echo "not in time: $*" >&2
			on a sheaf device peers >&2 || true
			on b sheaf device peers >&2 || true
			exit 1
		fi
		sleep 0.1
	done
}
reached() { # reached WAY: a reaches b so
	on a sheaf device peers --json | grep -q "\"way\":\"$1\""
}
