# SPDX-License-Identifier: Apache-2.0
# For jobs in the guest: . ./guest.sh (docs/TESTING.md). Sets -eu.
set -eu
. ./wait.sh

step() { printf '== %4.1f s  %s\n' "$(cut -d ' ' -f 1 /proc/uptime)" "$*"; }
fail() {
    echo "FAILED: $*"
    tail -n 30 server.log 2>/dev/null || true
    dmesg | tail -n 30
    exit 1
}
same() { [ "$2" = "$3" ] || fail "$1: $2, and should be $3"; }

# refused CODE COMMAND...: the command ends with this code.
refused() {
    local want=$1 code=0
    shift
    "$@" >refused.log 2>&1 || code=$?
    same "exit code of '$*' ($(cat refused.log))" "$code" "$want"
}

# -- the server, with ./zerofs.toml ----------------------------------------------------------------

server_is_ready() {
    kill -0 "$server" 2>/dev/null || fail "the server ended while starting"
    grep -q ready server.log
}
serve() {
    : >server.log
    zerofs run -c zerofs.toml >>server.log 2>&1 &
    server=$!
    wait_for 120 server_is_ready || fail "the server did not become ready"
}
# The drain with clients attached: code 0, and its 10 s, which are longer in an emulated machine.
end_server() {
    local begin code=0
    begin=$(date +%s)
    kill -TERM "$server"
    wait "$server" || code=$?
    same "the server's exit code" "$code" 0
    [ $(($(date +%s) - begin)) -le 30 ] || fail "the server took $(($(date +%s) - begin)) s to end"
}

# -- the kernel's initiator ------------------------------------------------------------------------

# disks_of LUN: its disk in each session; disk_of: in the first.
disks_of() {
    local path
    for path in /sys/class/iscsi_session/session*/device/target*/*:*:*:$1/block/*; do
        [ ! -e "$path" ] || echo "/dev/${path##*/}"
    done
}
disk_of() { disks_of "$1" | grep -m 1 .; }
no_disk() { [ -z "$(disks_of '*')" ]; }
session_is_up() { grep -qx LOGGED_IN /sys/class/iscsi_session/session*/state; }
