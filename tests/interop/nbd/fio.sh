#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# fio writes with checksums in every block and reads them back, over several connections.
. "$TOP/tests/lib/lib.sh"

write_config
"$ZEROFS" nbd create -c "$CONFIG" --name disk --size 256M >/dev/null
server_start
size=$([ -n "${SOAK:-}" ] && echo 1024M || echo 96M)
for bs in 4k 512-64k 1m; do
    echo "blocks of $bs"
    case $bs in
    *-*) bs_arg="--bsrange=$bs --blockalign=512" ;;
    *) bs_arg="--bs=$bs" ;;
    esac
    fio --name=verify --ioengine=nbd --uri="nbd://127.0.0.1:$NBD_PORT/disk" --rw=randwrite \
        $bs_arg --iodepth=32 --size=128M --io_size="$size" \
        --verify=crc32c --verify_fatal=1 --do_verify=1 --fsync=200 --trim_backlog=0 \
        --randseed=17 --output=fio.log || { cat fio.log; fail "fio"; }
    grep -q 'err= 0' fio.log || { cat fio.log; fail "fio saw an error"; }
done
server_stop
