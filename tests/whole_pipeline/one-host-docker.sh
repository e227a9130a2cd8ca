#!/usr/bin/env bash
# A real Docker of one host, for tests.
#
# Starts dockerd with all that it writes in a temporary folder and without a network, says `ready DOCKER_HOST` when it answers,
# and stops it and removes the folder when its standard input is closed, so that nothing outlives whoever has started it.
# Needs root and the package docker.io (Debian, Ubuntu); without them it says `skip: REASON`.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
skip() { echo "skip: $*" && exit 0; }
[ "$(id -u)" = 0 ] || skip "a Docker for tests takes root"
for program in docker dockerd containerd runc; do
    command -v "$program" >/dev/null || skip "$program is not installed (apt-get install docker.io)"
done

folder=$(mktemp -d)
daemon=
stop() {
    trap - EXIT
    if [ -n "$daemon" ] && kill "$daemon" 2>/dev/null; then
        for _ in $(seq 100); do kill -0 "$daemon" 2>/dev/null || break; sleep 0.1; done
        kill -9 "$daemon" 2>/dev/null || true
    fi
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 1' INT TERM HUP

# The driver vfs needs nothing of the file system below.
dockerd --data-root "$folder/data" --exec-root "$folder/run" --pidfile "$folder/pid" --host "unix://$folder/socket" \
    --bridge none --iptables=false --ip6tables=false --storage-driver vfs >"$folder/log" 2>&1 </dev/null &
daemon=$!
export DOCKER_HOST=unix://$folder/socket
for _ in $(seq 300); do
    kill -0 "$daemon" 2>/dev/null || skip "Docker does not start here: $(tail -n 1 "$folder/log")"
    if docker version >/dev/null 2>&1; then
        echo "ready $DOCKER_HOST"
        cat >/dev/null
        exit 0
    fi
    sleep 0.1
done
echo "Docker did not come up; the end of its log:" >&2
tail -n 20 "$folder/log" >&2
exit 1
