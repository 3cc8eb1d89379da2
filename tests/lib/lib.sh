# SPDX-License-Identifier: Apache-2.0
# For shell tests: . "$TOP/tests/lib/lib.sh" (docs/TESTING.md). Sets -eu; ends the server on exit.
set -eu
. "$TOP/tests/lib/wait.sh"
CONFIG=$TMPDIR/zerofs.toml
SERVER_LOG=$TMPDIR/server.log
SERVER_PID=
STORE_SERVER_PID=

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

# free_ports: two of them.
free_ports() {
    python3 -c 'import zt; print(zt.free_port(), zt.free_port())'
}

# The S3 server of the run, or one that ends with this test.
store_server() {
    if [ "${TEST_STORE:-file}" != s3 ] || [ -n "$STORE_SERVER_PID" ]; then
        return
    fi
    ! python3 -m stores reachable || return 0
    # The server ends when the pipe does.
    mkfifo "$TMPDIR/s3.alive"
    python3 -m stores serve "$TMPDIR" <"$TMPDIR/s3.alive" &
    STORE_SERVER_PID=$!
    exec 9>"$TMPDIR/s3.alive"
    wait_for 60 test -f "$TMPDIR/s3.endpoint" || fail "no S3 server"
    TEST_S3=$(cat "$TMPDIR/s3.endpoint")
    export TEST_S3
}

# write_config [LINES]: a whole configuration below $TMPDIR on free ports, and LINES merged into it.
# The store is of the kind that this run is for (stores.py).
write_config() {
    ports=$(free_ports)
    NBD_PORT=${ports% *} ISCSI_PORT=${ports#* }
    store_server
    mkdir -p "$TMPDIR/cache"
    python3 -m stores config "$(python3 -m stores url s)" >"$CONFIG.part"
    cat >>"$CONFIG.part" <<EOF
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
EOF
    python3 -m stores merged "$CONFIG.part" "${1:-}" >"$CONFIG"
}

server_start() {
    : >"$SERVER_LOG"
    "$ZEROFS" run -c "$CONFIG" >>"$SERVER_LOG" 2>&1 &
    SERVER_PID=$!
    wait_for 60 server_is_ready || fail "the server did not become ready"
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
    [ -z "$STORE_SERVER_PID" ] || {
        exec 9>&-
        wait "$STORE_SERVER_PID" || true
    }
}
trap lib_at_exit EXIT
