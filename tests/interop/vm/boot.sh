#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# long
# heavy
# store: file
# limit: 600
# A guest without disks: its root file system, a whole Debian, is a LUN, which it reaches by
# open-iscsi in its initramfs, after CHAP. The target is started anew under it, and it goes on; what
# it has written is sound when seen from outside.
. "$TOP/tests/lib/lib.sh"
iqn=iqn.2024-01.net.zerofs:boot
guest=$("$TOP/tests/vm/build.sh")
tree=$TMPDIR/tree
size=500M

qemu=
at_exit() {
    [ -z "$qemu" ] || kill -KILL "$qemu" 2>/dev/null || true
    lib_at_exit
}
trap at_exit EXIT

# in_tree COMMAND...: a program of the guest's.
in_tree() {
    local user=
    [ "$(id -u)" -eq 0 ] || user=--map-root-user
    unshare --mount $user chroot "$tree" "$@"
}

# -- the LUN and the initramfs -----------------------------------------------------------------

unsquashfs -q -n -d "$tree" "$guest/root.sqfs" >unsquashfs.log || fail "$(cat unsquashfs.log)"
release=$(ls "$tree/lib/modules")
mkdir -p initrd/{bin,sbin,dev,proc,sys,run,new,modules,etc/iscsi}
cp "$tree/usr/bin/busybox" initrd/bin/
install -m 755 "$TOP/tests/vm/lun-initramfs-init" initrd/init
# iscsistart with the libraries it wants, and the modules in the order of loading.
in_tree ldd /usr/sbin/iscsistart | grep -o '/[^ ]*' | while read -r library; do
    echo "$library" /usr/sbin/iscsistart
done | tr ' ' '\n' | sort -u | while read -r file; do
    install -D "$tree/$file" "initrd/$file"
done
number=10
for module in $(in_tree modprobe -S "$release" --show-depends -a virtio_pci virtio_net \
    iscsi_tcp sd_mod ext4 crc32c 2>/dev/null | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'); do
    cp "$tree$module" "initrd/modules/$number-${module##*/}"
    number=$((number + 1))
done
(cd initrd && find . | cpio -o -H newc --quiet) >initrd.img
install -m 755 "$TOP/tests/vm/lun-init" "$tree/lun-init"
cp "$TOP/tests/lib/wait.sh" "$tree/"
truncate -s $size image
mke2fs -q -t ext4 -d "$tree" image >mke2fs.log 2>&1 || fail "$(cat mke2fs.log)"
rm -rf "$tree" initrd

write_config
"$ZEROFS" iscsi create-target -c "$CONFIG" --iqn $iqn --lun 0 --size $size
echo 'open-sesame-open' | "$ZEROFS" iscsi auth set $iqn diskless -c "$CONFIG" --store-in-clear
server_start
url=iscsi://diskless%open-sesame-open@127.0.0.1:$ISCSI_PORT/$iqn/0
qemu-img convert -n --target-is-zero -f raw -O raw image "$url"
rm image

# -- the guest -------------------------------------------------------------------------------------

# "quiet" and the rest as in tests/vm/run.sh.
words="console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr audit=0 apparmor=0
    random.trust_cpu=on cryptomgr.notests tsc=reliable no_timer_check clocksource=tsc
    i8042.noaux i8042.nokbd edd=off nowatchdog rcupdate.rcu_cpu_stall_suppress=1 net.ifnames=0
    boot.target=$iqn boot.port=$ISCSI_PORT boot.user=diskless boot.secret=open-sesame-open"
: >said
qemu-system-x86_64 -accel tcg,thread=multi,tb-size=256 -cpu max,la57=off -m 768 \
    -M pc,hpet=off,vmport=off -nodefaults -no-user-config -display none -no-reboot \
    -nic user,model=virtio-net-pci -kernel "$guest/vmlinux" -initrd initrd.img \
    -append "$(echo $words)" -serial file:console -serial file:said </dev/null &
qemu=$!
is_at() {
    kill -0 "$qemu" 2>/dev/null || grep -q "$1" said || fail "it ended: $(cat said console)"
    grep -q "$1" said
}
wait_for 240 is_at READY || fail "it did not start: $(cat said console)"
server_stop
server_start
wait_for 240 is_at BOOT || fail "it did not go on: $(cat said console)"
wait "$qemu"
qemu=
grep -q '^BOOT pass' said || fail "$(cat said console)"

# -- what it has left ------------------------------------------------------------------------------

qemu-img convert -f raw -O raw "$url" image
e2fsck -fn image >fsck.log 2>&1 || fail "$(cat fsck.log)"
debugfs -R 'cat /root/sums' image 2>/dev/null >sums
for name in before after; do
    grep -q " /root/$name$" sums || fail "nothing of $name in: $(cat sums)"
    debugfs -R "cat /root/$name" image 2>/dev/null | sha256sum | cut -d ' ' -f 1 >sum
    grep -q "^$(cat sum) " sums || fail "$name is another"
done
server_stop
