#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# store: file
# scripts/run in a folder where nothing is yet: a server with a demo device and a demo target, and
# every line of the README that can be tried without a kernel; a second run finds what there is.
# In a network of its own, because it takes the default ports.
if [ -z "${IN_OWN_NETWORK:-}" ]; then
    user=
    [ "$(id -u)" -eq 0 ] || user=--map-root-user
    IN_OWN_NETWORK=1 exec unshare --net $user "$0"
fi
. "$TOP/tests/lib/lib.sh"
ip link set lo up
iqn=iqn.2024-01.net.zerofs:demo
mkdir -p "$TMPDIR/house/build"
cp -r "$TOP/scripts" "$TMPDIR/house/"
# A build with nothing left to do.
: >"$TMPDIR/house/build/build.ninja"
ln -s "$ZEROFS" "$TMPDIR/house/build/zerofs"

run() {
    : >"$SERVER_LOG"
    "$TMPDIR/house/scripts/run" >>"$SERVER_LOG" 2>&1 &
    SERVER_PID=$!
    wait_for 60 server_serves || fail "scripts/run does not serve"
}
server_serves() {
    kill -0 "$SERVER_PID" || fail "scripts/run has ended"
    grep -q '^zerofs .* ready' "$SERVER_LOG"
}

run
for line in 'nbd-client 127.0.0.1 10809 /dev/nbd0 -N demo' \
    'iscsiadm --mode discovery --type sendtargets --portal 127.0.0.1' \
    "iscsiadm --mode node --targetname $iqn --login"; do
    grep -qF "$line" "$SERVER_LOG" || fail "no '$line' is shown"
done
! grep -q '^zerofs: ' "$SERVER_LOG" || fail "an error is shown to who runs it for the first time"

[ "$(nbdinfo --size nbd://127.0.0.1/demo)" = $((10 << 30)) ] || fail "size over NBD"
qemu-img info --output=json nbd://127.0.0.1:10809/demo | grep -q '"virtual-size": 10737418240' ||
    fail "qemu-img"
iscsi-ls iscsi://127.0.0.1 | grep -q "Target:$iqn Portal:127.0.0.1:3260,1" || fail "discovery"
iscsi-readcapacity16 "iscsi://127.0.0.1/$iqn/0" | grep -q 'Total size:10737418240' ||
    fail "size over iSCSI: $(iscsi-readcapacity16 "iscsi://127.0.0.1/$iqn/0")"
uuid=$(cd "$TMPDIR/house" && build/zerofs nbd info demo --json | grep '"uuid"')
server_stop

run
[ "$(cd "$TMPDIR/house" && build/zerofs nbd info demo --json | grep '"uuid"')" = "$uuid" ] ||
    fail "the second run made another device"
server_stop
