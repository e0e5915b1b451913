#!/bin/sh
# obs.sh ROOT HOME: runs OBS Studio in a root folder, with an X server of its own, until standard input ends; then SIGTERM. For
# unshare --mount --pid: whatever is mounted and runs here ends with it. The exit status is OBS's.
set -eu
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/tmp"
mount -t tmpfs tmpfs "$1/dev/shm"
mount --bind "$2" "$1/mnt"
# shellcheck disable=SC2016 # expanded inside
exec chroot "$1" env -i PATH=/usr/bin:/bin HOME=/mnt XDG_RUNTIME_DIR=/tmp LANG=C.UTF-8 LP_NUM_THREADS=1 DISPLAY=:7 sh -eu -c '
Xvfb :7 -screen 0 800x600x24 -nolisten tcp -listen unix -nolisten local &
while ! [ -e /tmp/.X11-unix/X7 ]; do sleep 0.05; done
obs --startstreaming --minimize-to-tray --disable-shutdown-check --multi --profile gantry --collection gantry --verbose </dev/null &
obs=$!
cat >/dev/null
kill -TERM $obs
wait $obs'
