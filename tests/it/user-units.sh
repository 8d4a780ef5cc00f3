# Runs systemd's manager of a user's units where no systemd has been booted, in a mount namespace
# of its own: it wants /run/systemd/system, a cgroup2 that it may write, and a runtime directory.
#
#   unshare --mount sh user-units.sh COMMAND…      runs COMMAND beside it, then ends it
set -eu
cgroup=/sys/fs/cgroup/user-units-$$
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /run
mkdir -p /run/systemd/system "$cgroup"
echo $$ >"$cgroup/cgroup.procs"
XDG_RUNTIME_DIR=$(mktemp -d)
export XDG_RUNTIME_DIR
/lib/systemd/systemd --user --log-target=console >"$XDG_RUNTIME_DIR/log" 2>&1 &
manager=$!
end() {
  kill "$manager" 2>/dev/null || true
  wait "$manager" || true
  echo $$ >/sys/fs/cgroup/cgroup.procs
  find "$cgroup" -depth -type d -exec rmdir {} + || true
  rm -rf "$XDG_RUNTIME_DIR"
}
trap end EXIT
tries=0
until systemctl --user is-system-running >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ $tries -gt 100 ]; then
    cat "$XDG_RUNTIME_DIR/log" >&2
    exit 1
  fi
  sleep 0.1
done
"$@"
