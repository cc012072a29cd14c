#!/bin/sh
# Tells conntrackd what keepalived (or another manager of the addresses) made of this node:
#
#     primary-backup.sh primary|backup|fault
#
# Takes the place of the script of the same name of conntrack-tools. What differs: transitions are
# done one after the other, and of several that wait only the newest; caches are emptied only when
# the commit succeeded, since they hold the only copy of the peer's flows until then; the exit
# status is that of the worst step.
set -u
umask 077

# As the service manager looks for it: what was installed beside a package comes before it.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
conntrackd=${CONNTRACKD:-conntrackd}
config=${CONNTRACKD_CONFIG:-/etc/conntrackd/conntrackd.conf}
state=${CONNTRACKD_STATE:-/run/conntrackd-failover}
status=0

say() {
	logger -t conntrackd-failover -p "daemon.$1" -- "$2"
}

do_step() {
	"$conntrackd" -C "$config" "$@" >/dev/null && return
	status=1
	say err "$goal: conntrackd $* failed"
	return 1
}

goal=${1-}
case $goal in
primary | backup | fault) ;;
*)
	echo "usage: ${0##*/} primary|backup|fault" >&2
	exit 2
	;;
esac

# keepalived does not wait for a script before it starts the next one.
echo "$$" >"$state.newest.$$" && mv -f "$state.newest.$$" "$state.newest" || exit 1
exec 9>"$state.lock" && flock 9 || exit 1
if [ "$(cat "$state.newest")" != "$$" ]; then
	say info "$goal: left out, there is a newer transition"
	exit 0
fi

if [ "$goal" != fault ] && ! "$conntrackd" -C "$config" -s runtime >/dev/null 2>&1; then
	say warning "$goal: conntrackd does not answer, starting it"
	# It must not keep the lock of this script.
	do_step -d 9>&- || exit 1
fi

case $goal in
primary)
	# The peer's flows into the kernel; then everything that the kernel holds is this node's. What
	# could not be committed stays in the cache, and keeps nobody from telling the peer of the rest.
	if do_step -c || do_step -c; then
		do_step -f
	fi
	do_step -R
	do_step -B
	;;
backup)
	# Flows that are the new primary's now leave the kernel after PurgeTimeout.
	do_step -t
	do_step -n
	;;
fault)
	do_step -t
	;;
esac
exit $status
