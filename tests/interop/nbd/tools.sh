#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# nbdinfo, nbdcopy, qemu-img and qemu-io against one server, over TCP and its unix socket.
. "$TOP/tests/lib/lib.sh"

write_config
"$ZEROFS" nbd create -c "$CONFIG" --name first --size 64M >/dev/null
"$ZEROFS" nbd create -c "$CONFIG" --name second --size 64M >/dev/null
server_start
uri=nbd://127.0.0.1:$NBD_PORT
local="nbd+unix:///second?socket=$TMPDIR/nbd.sock"

echo "nbdinfo"
nbdinfo --list "$uri" >list
grep -q 'export="first"' list && grep -q 'export="second"' list || fail "the list is not whole"
grep -q 'base:allocation' list || fail "no meta context"
nbdinfo --list --json "$uri" | python3 -c '
import json, sys
exports = json.load(sys.stdin)["exports"]
assert {e["export-name"] for e in exports} == {"first", "second"}, exports
for e in exports:
    assert e["export-size"] == 64 << 20
    assert e["block_size_minimum"] == 1
'
nbdinfo --json "$uri/first" | python3 -c '
import json, sys
e = json.load(sys.stdin)["exports"][0]
for can in ("cache", "df", "fast_zero", "flush", "fua", "multi_conn", "trim", "zero"):
    assert e["can_" + can] is True, can
assert e["is_read_only"] is False
assert e["description"].startswith("ZeroFS device ")
'
nbdinfo --is rotational "$uri/first" && fail "it turns" || true
nbdinfo --size "$uri" >/dev/null 2>&1 && fail "an empty name is not one of two" || true

echo "maps"
# nbdsh takes the first python3 there is; the binding belongs to the system one.
PATH=/usr/bin:$PATH nbdsh -u "$uri/first" -c 'h.pwrite(b"x" * 8192, 1 << 20)' \
    -c 'h.zero(65536, 2 << 20, nbd.CMD_FLAG_NO_HOLE)'
nbdinfo --map "$uri/first" >map
cat >want <<END
         0     1048576    3  hole,zero
   1048576        8192    0  data
   1056768     1040384    3  hole,zero
   2097152       65536    2  zero
   2162688    64946176    3  hole,zero
END
diff want map
nbdinfo --map --totals "$uri/first" >/dev/null

echo "nbdcopy"
dd if=/dev/urandom of=image bs=1M count=48 2>/dev/null
truncate -s 64M image
want=$(sha256sum <image)
nbdcopy --flush image "$uri/first"
nbdcopy "$uri/first" "$local"
have=$(nbdcopy --no-extents "$local" - | sha256sum)
[ "$have" = "$want" ] || fail "nbdcopy"
data=$(nbdinfo --map --totals "$local" | awk '$4 ~ /data/ {print $1}')
[ "$data" = 50331648 ] || fail "holes were filled: $data bytes of data"

echo "qemu-img"
qemu-img convert -n -f raw -O raw image "$uri/second"
qemu-img compare -f raw -F raw image "$uri/second"
qemu-img convert -O qcow2 -f raw "$uri/second" back.qcow2
qemu-img compare -f qcow2 -F raw back.qcow2 image
qemu-img map --output=json -f raw "$uri/second" >/dev/null
qemu-img bench -f raw -w -c 2000 -d 16 -s 4096 --flush-interval=100 "$local" >/dev/null

echo "qemu-io"
qemu-io -f raw "$uri/first" -c 'write -P 0x5a 12345 70000' -c 'read -P 0x5a 12345 70000' \
    -c 'write -z 20000 10000' -c 'read -P 0 20000 10000' -c 'read -P 0x5a 12345 7655' \
    -c 'discard 65536 1M' -c 'write -f -P 0x77 67108352 512' -c 'read -P 0x77 67108352 512' \
    -c 'aio_write -P 1 0 64k' -c 'aio_write -P 2 64k 64k' -c 'aio_flush' -c 'read -P 1 0 64k' \
    -c 'read -P 2 64k 64k' -c flush >out
grep -qi 'pattern verification failed\|error' out && { cat out; fail "qemu-io"; }
server_stop
server_start
uri=nbd://127.0.0.1:$NBD_PORT
qemu-io -f raw -r "$uri/first" -c 'read -P 2 64k 64k' >out
grep -q 'read 65536/65536' out || { cat out; fail "after a restart"; }
server_stop
