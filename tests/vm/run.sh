#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/vm/run.sh [OPTIONS] JOB [FILE...] - runs a script as root in a Debian 12 guest with a real
# kernel, and ends with the script's exit code.
#
#   JOB      the script; FILEs lie beside it in its current folder
#   -e K=V   a variable for it                 -u      start udev first (multipath, /dev/disk/by-*)
#   -t SEC   limit for the whole (default 120) -o DIR  where to unpack what it left in /out
#   -m MIB   memory (default 1024)             -s N    CPUs (default 1, which is the quickest)
#   -n       a network, in which 10.0.2.2 is this machine's loopback
#
# The job's output comes on stdout. 124: the limit was passed; 125: the guest died without a result.
# The guest is emulated (no KVM is needed); without -n it has no network but its own loopback: what
# a test needs runs inside. Times in it say nothing about speed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
variables=() udev=0 out= limit=120 memory=1024 cpus=1 nic=none
while getopts e:ut:o:m:s:n option; do
    case $option in
    e) variables+=("$OPTARG") ;;
    u) udev=1 ;;
    t) limit=$OPTARG ;;
    o) out=$OPTARG ;;
    m) memory=$OPTARG ;;
    s) cpus=$OPTARG ;;
    n) nic=user,model=virtio-net-pci ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -ge 1 ] || { sed -n '3,15p' "$0" >&2; exit 2; }
guest=$("$here/build.sh") || exit 125

tmp=$(mktemp -d) || exit 125
qemu=
cleanup() {
    # timeout passes it on.
    [ -z "$qemu" ] || { kill -TERM "$qemu" && wait "$qemu"; } 2>/dev/null
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 143' TERM INT

mkdir "$tmp/job"
{
    echo '#!/bin/sh'
    for pair in "${variables[@]}"; do
        printf 'export %s=%q\n' "${pair%%=*}" "${pair#*=}"
    done
    echo 'exec ./main'
} >"$tmp/job/run"
cp "$1" "$tmp/job/main" && chmod 755 "$tmp/job/run" "$tmp/job/main"
shift
[ $# -eq 0 ] || cp -a "$@" "$tmp/job/" || exit 125
tar -C "$tmp/job" -cf "$tmp/job.tar" . && rm -r "$tmp/job"
truncate -s 256M "$tmp/result"

# What saves time when each instruction is emulated: no mitigations, no probing for hardware that is
# not there, no self-tests, randomness at once. And no alarm because everything takes so long.
words="console=ttyS0 quiet loglevel=4 panic=-1 oops=panic mitigations=off nokaslr audit=0 apparmor=0
    random.trust_cpu=on cryptomgr.notests tsc=reliable no_timer_check clocksource=tsc i8042.noaux
    i8042.nokbd edd=off rcupdate.rcu_expedited=1 nowatchdog rcupdate.rcu_cpu_stall_suppress=1
    net.ifnames=0 guest.udev=$udev"
timeout --kill-after=5 "$limit" qemu-system-x86_64 \
    -accel tcg,thread=multi,tb-size=256 -cpu max,la57=off -smp "$cpus" -m "$memory" \
    -M pc,hpet=off,vmport=off -nodefaults -no-user-config -display none -no-reboot -nic "$nic" \
    -kernel "$guest/vmlinux" -initrd "$guest/initrd.img" -append "$(echo $words)" \
    -drive file="$guest/root.sqfs",format=raw,if=virtio,readonly=on,aio=threads \
    -drive file="$tmp/job.tar",format=raw,if=virtio,readonly=on \
    -drive file="$tmp/result",format=raw,if=virtio,cache=unsafe \
    -serial "file:$tmp/console" -serial stdio </dev/null &
qemu=$!
wait "$qemu"
ended=$?
qemu=

code=$(head -c 512 "$tmp/result" | tr -d '\0' | sed -n 's/^RESULT=\([0-9]*\).*/\1/p')
if [ -n "$code" ]; then
    if [ -n "$out" ]; then
        mkdir -p "$out" && tail -c +513 "$tmp/result" | tar -C "$out" -xf - 2>/dev/null
    fi
    exit "$code"
fi
tail -n 40 "$tmp/console" >&2
if [ "$ended" -eq 124 ] || [ "$ended" -eq 137 ]; then
    echo "run.sh: the guest did not end within $limit s" >&2
    exit 124
fi
echo "run.sh: the guest died; QEMU gave $ended" >&2
exit 125
