#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# libiscsi's own tools and qemu against a target: discovery, identity, capacity, data to and fro.
. "$TOP/tests/lib/lib.sh"
IQN=iqn.2024-01.net.zerofs:tools
write_config
"$ZEROFS" iscsi create-target -c "$CONFIG" --iqn $IQN --lun 0 --size 256M
"$ZEROFS" iscsi create-target -c "$CONFIG" --iqn $IQN.second --lun 3 --size 1G
server_start
PORTAL=iscsi://127.0.0.1:$ISCSI_PORT
URL=$PORTAL/$IQN/0

iscsi-ls "$PORTAL" >targets
grep -q "Target:$IQN Portal:127.0.0.1:$ISCSI_PORT,1" targets || fail "iscsi-ls: $(cat targets)"
grep -q "Target:$IQN.second " targets || fail "iscsi-ls: $(cat targets)"
iscsi-ls -s "$PORTAL" >luns
grep -q "Lun:3 .*Size:1023M" luns || fail "iscsi-ls -s: $(cat luns)"

iscsi-inq "$URL" >inquiry
grep -q "Vendor:ZEROFS" inquiry || fail "iscsi-inq: $(cat inquiry)"
iscsi-inq -e 1 -c 131 "$URL" >identity
grep -qi "naa" identity || fail "iscsi-inq -c 0x83: $(cat identity)"
iscsi-inq -e 1 -c 128 "$URL" >serial
"$ZEROFS" iscsi resize-lun -c "$CONFIG" --iqn $IQN --lun 0 --size 512M
iscsi-inq -e 1 -c 128 "$URL" | cmp - serial || fail "the serial number has changed"
iscsi-readcapacity16 "$URL" >capacity
grep -q "Total size:536870912" capacity || fail "iscsi-readcapacity16: $(cat capacity)"

if iscsi-inq "$PORTAL/$IQN.none/0" >none 2>&1; then
    fail "a target that does not exist was logged in to"
fi
grep -q "Target not found" none || fail "iscsi-inq: $(cat none)"

qemu-img create -q -f qcow2 image.qcow2 64M
qemu-io -c 'write -P 0x11 0 20M' -c 'write -P 0x22 30M 4k' -c 'write -P 0x33 50M 1M' \
    -f qcow2 image.qcow2 >/dev/null
qemu-img convert -n -f qcow2 -O raw image.qcow2 "$URL"
qemu-img compare -q -f qcow2 -F raw image.qcow2 "$URL" || [ $? -eq 1 ] || fail "qemu-img compare"
qemu-io -f raw -c 'read -P 0x11 0 20M' -c 'read -P 0x22 30M 4k' -c 'read -P 0x33 50M 1M' \
    -c 'read -P 0 20M 10M' "$URL" >read.out
! grep -i "fail\|error" read.out || fail "qemu-io: $(cat read.out)"
qemu-io -f raw -t writeback -c 'discard 0 16M' -c 'write -z 40M 2M' -c 'write -P 0x44 512 1536' \
    -c flush -c 'read -P 0 0 512' -c 'read -P 0x44 512 1536' -c 'read -P 0 2048 16775168' \
    "$URL" >discard.out
! grep -i "fail\|error" discard.out || fail "qemu-io: $(cat discard.out)"

# What was flushed is there after the server's end.
server_stop
server_start
qemu-io -f raw -c 'read -P 0x44 512 1536' -c 'read -P 0x11 16M 4M' -c 'read -P 0x33 50M 1M' \
    "$URL" >again.out
! grep -i "fail\|error" again.out || fail "after a restart: $(cat again.out)"
server_stop
