# What the tests of two machines share, which are the namespaces $NAME-a and $NAME-b, with homes in $DIR: it is sourced. (nsenter, for ip netns exec would hide the mounts.)
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
