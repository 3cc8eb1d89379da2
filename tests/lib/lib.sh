# SPDX-License-Identifier: Apache-2.0
# For shell tests: . "$TOP/tests/lib/lib.sh" (docs/TESTING.md). Sets -eu; ends the server on exit.
set -eu
. "$TOP/tests/lib/wait.sh"
CONFIG=$TMPDIR/zerofs.toml
SERVER_LOG=$TMPDIR/server.log
SERVER_PID=

fail() {
    echo "FAILED: $*" >&2
    [ ! -f "$SERVER_LOG" ] || tail -n 20 "$SERVER_LOG" >&2
    exit 1
}

# expect_error WORDS COMMAND...: the command fails, and what it prints holds the words.
expect_error() {
    words=$1
    shift
    if output=$("$@" 2>&1); then
        fail "this should have failed: $*"
    fi
    case $output in
    *"$words"*) ;;
    *) fail "'$*' should have said '$words', but said: $output" ;;
    esac
}

free_port() {
    python3 -c 'import zt; print(zt.free_port())'
}

# write_config [LINES]: a whole configuration below $TMPDIR on free ports, and LINES after it.
write_config() {
    NBD_PORT=$(free_port)
    ISCSI_PORT=$(free_port)
    mkdir -p "$TMPDIR/store" "$TMPDIR/cache"
    cat >"$CONFIG" <<EOF
[storage]
url = "${STORE_URL:-file://$TMPDIR/store}"
[cache]
dir = "$TMPDIR/cache"
memory_size_gb = 0.25
disk_size_gb = 1.0
[servers.nbd]
addresses = ["127.0.0.1:$NBD_PORT"]
unix_socket = "$TMPDIR/nbd.sock"
[servers.iscsi]
addresses = ["127.0.0.1:$ISCSI_PORT"]
[admin]
unix_socket = "$TMPDIR/admin.sock"
${1:-}
EOF
}

server_start() {
    : >"$SERVER_LOG"
    "$ZEROFS" run -c "$CONFIG" >>"$SERVER_LOG" 2>&1 &
    SERVER_PID=$!
    wait_for 20 server_is_ready || fail "the server did not become ready"
}

server_is_ready() {
    kill -0 "$SERVER_PID" 2>/dev/null || fail "the server ended while starting"
    grep -q ready "$SERVER_LOG"
}

# A clean end; its exit code must be 0.
server_stop() {
    kill -TERM "$SERVER_PID"
    wait "$SERVER_PID" || fail "the server ended with code $?"
    SERVER_PID=
}

server_kill() {
    kill -KILL "$SERVER_PID"
    wait "$SERVER_PID" 2>/dev/null || true
    SERVER_PID=
}

lib_at_exit() {
    [ -z "$SERVER_PID" ] || kill -KILL "$SERVER_PID" 2>/dev/null || true
}
trap lib_at_exit EXIT
