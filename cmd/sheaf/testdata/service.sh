# What a service promises, in a systemd of its own: run as root in a mount namespace by TestService_InARealSystemd, with SHEAF naming the command and
# WORK an empty folder. Each line that begins with "==" is what holds.
set -eu
systemd=/lib/systemd/systemd
[ -x $systemd ] || systemd=/usr/lib/systemd/systemd
# It looks whether the system was booted with systemd, and it moves the processes of its own group.
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd
mkdir /run/systemd/system
for group in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
	if [ -e $group/cgroup.procs ]; then
		own=$group/sheaf-test-$$
		mkdir $own && echo $$ >$own/cgroup.procs || own=
		break
	fi
done
export HOME="$WORK/user" XDG_RUNTIME_DIR="$WORK/run"
export SHEAF_HOME="$WORK/a ho\"me %h \$HOME ö"
unset XDG_CONFIG_HOME XDG_DATA_HOME XDG_STATE_HOME XDG_CACHE_HOME NOTIFY_SOCKET
mkdir -m 700 -p "$HOME" "$XDG_RUNTIME_DIR/systemd"
one="$WORK/mount %n \$x 'one'" two="$WORK/two"

# until WORDS...: tries for a minute.
until_() {
	i=0
	while ! "$@" >/dev/null 2>&1; do
		i=$((i + 1))
		[ $i -lt 600 ] || { echo "FAIL: this does not come to be: $*"; tail -30 "$SHEAF_HOME/state/sheaf.log" "$WORK/systemd.log"; exit 1; }
		sleep 0.1
	done
}
not() { ! "$@"; }
now() { date +%s%N; }
ms() { echo $((($(now) - $1) / 1000000)); }
pid() { systemctl --user show --property=MainPID --value "$name"; }
up() { systemctl --user is-active --quiet "$name"; }
fail() { echo "FAIL: $*"; exit 1; }

$systemd --user --log-target=console >"$WORK/systemd.log" 2>&1 &
manager=$!
ended() {
	systemctl --user stop 'sheaf*' 2>/dev/null || true
	kill $manager 2>/dev/null || true
	wait $manager 2>/dev/null || true
	umount -l "$one" "$two" 2>/dev/null || true
	cd /
	if [ -n "${own:-}" ]; then echo $$ >"${own%/*}/cgroup.procs"; rmdir "$own"/*/ 2>/dev/null || true; fi
}
trap ended EXIT
until_ systemctl --user is-system-running

"$SHEAF" service status && fail "a status of what is not installed"
"$SHEAF" service install && fail "a service without a drive"
"$SHEAF" init --quiet >/dev/null
"$SHEAF" service install "$one"
name=$("$SHEAF" service status --json | sed 's/.*"name":"\([^"]*\)".*/\1/')
systemd-analyze --user verify "$HOME/.config/systemd/user/$name.service" 2>&1 | tee "$WORK/verify"
[ ! -s "$WORK/verify" ] || fail "systemd-analyze finds something"
systemctl --user is-enabled --quiet "$name" || fail "not enabled"
echo "== installed, and systemd-analyze finds nothing"

"$SHEAF" service start
mountpoint -q "$one" || fail "not mounted when start returns"
"$SHEAF" service status --json | grep -q '"running":true' || fail "status does not say that it runs"
"$SHEAF" mount "$two" --read-only
printf hello | dd of="$one/f" conv=fsync status=none
echo "== started: mounted when start returns"

p=$(pid)
begin=$(now)
kill -9 "$p"
until_ cat "$two/f"
echo "== killed: both mounts are back after $(ms "$begin") ms"
[ "$(cat "$one/f")" = hello ] || fail "what was synced is gone"
touch "$two/g" 2>/dev/null && fail "the read-only mount can be written"
[ "$(pid)" != "$p" ] || fail "it was not started anew"

"$SHEAF" umount "$two"
p=$(pid)
kill -9 "$p"
until_ cat "$one/f"
not mountpoint -q "$two" || fail "what was unmounted is back"
"$SHEAF" mount "$two"
fusermount3 -u "$two"
until_ sh -c '"$SHEAF" mount list | grep -c . | grep -qx 1'
"$SHEAF" service restart
until_ cat "$one/f"
not mountpoint -q "$two" || fail "what was unmounted by fusermount3 is back"
echo "== what was unmounted stays so"

"$SHEAF" mount "$two"
"$SHEAF" service restart
until_ cat "$two/f"
echo "== restarted: both are back"

"$SHEAF" service stop
not mountpoint -q "$one" || fail "mounted when stop returns"
not up || fail "it runs when stop returns"
"$SHEAF" service start
until_ cat "$two/f"
"$SHEAF" stop
until_ not up
sleep 1 # twice the time after which it would be started again
not up || fail "it was started again after sheaf stop"
"$SHEAF" service start
until_ cat "$one/f"
not mountpoint -q "$two" || fail "sheaf stop did not end what was mounted"
echo "== stopped, in both ways"

"$SHEAF" service logs -n 5 >/dev/null
"$SHEAF" service uninstall
not mountpoint -q "$one" || fail "mounted after it was uninstalled"
[ ! -e "$HOME/.config/systemd/user/$name.service" ] || fail "the unit stays"
"$SHEAF" cat /f | grep -q hello || fail "the drive is gone"
echo "== uninstalled"
