#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/vm/build.sh - makes the guest that tests with a real kernel run in, and prints its folder.
#
# Root file system and kernel are Debian 12's, fetched through apt from the mirrors that this
# machine uses. Every product is named by a digest of what it is made from, so that nothing is ever
# stale:
#
#   root-DIGEST.tar     the packages of sections [guest] and [guest-alone] in scripts/packages.txt
#                                                                                   (slow: fetched)
#   kernel-VERSION/     the kernel package, unpacked                                (slow: fetched)
#   guest-DIGEST/       vmlinux, initrd.img, root.sqfs                              (about 10 s)
#
# They are kept in ${ZEROFS_VM_CACHE:-${XDG_CACHE_HOME:-~/.cache}/zerofs-vm}, so that a second clone
# finds them; what was not used for a month goes. Needs root, or sudo. What it does is told on
# stderr.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
cache=${ZEROFS_VM_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/zerofs-vm}
suite=bookworm
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

if [ "$(id -u)" -ne 0 ]; then
    exec sudo env ZEROFS_VM_CACHE="$cache" "$0"
fi
mkdir -p "$cache"
work=$cache/work
exec 9>"$cache/lock"
flock 9

say() { printf 'vm: %s\n' "$*" >&2; }
digest() { sha256sum | cut -c 1-16; }

# The address that this machine's apt has for a release.
mirror_of() {
    apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
        awk -v want="$1" '$2 == want && !found { print $1; found = 1 }'
}

source_lines() {
    local release uri
    for release in $suite $suite-updates $suite-security; do
        uri=$(mirror_of "$release")
        [ -z "$uri" ] || echo "deb [signed-by=$keyring] $uri $release main"
    done
}

# The packages of a section.
packages_of() {
    awk -v want="[$1]" '/^\[/ { on = $0 == want; next } on && !/^#/ && NF { print $1 }' \
        "$top/scripts/packages.txt"
}

# -- the root file system: as small as Debian goes, without manuals and translations ---------------

make_root() {
    local packages alone sources
    packages=$(packages_of guest)
    alone=$(packages_of guest-alone)
    sources=$(source_lines)
    [ -n "$sources" ] || { say "apt knows of no mirror with $suite"; exit 1; }
    root=$cache/root-$(printf '%s\n' "$packages" "$alone" "$sources" | digest).tar
    [ ! -s "$root" ] || return 0
    say "fetching the guest's packages"
    mmdebstrap --mode=root --variant=minbase --format=tar --quiet \
        --include="$(echo "$packages" | paste -sd ,)" \
        --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='cd "$1/tmp" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download -qq \
            -o APT::Sandbox::User=root '"$(echo $alone)"' && for deb in *.deb; do
            dpkg-deb --fsys-tarfile "$deb" | tar -C "$1" -xf - --keep-directory-symlink \
                --exclude="./usr/share/doc" --exclude="./usr/share/man"; done && rm *.deb' \
        --customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*' \
        --customize-hook='rm -rf "$1"/usr/share/zoneinfo "$1"/usr/lib/udev/hwdb*' \
        $suite "$root.part" - <<<"$sources" >&2
    mv "$root.part" "$root"
}

# -- the kernel -----------------------------------------------------------------------------------

make_kernel() {
    local package version
    package=$(apt-cache depends linux-image-amd64 |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ && !found { print $2; found = 1 }')
    [ -n "$package" ] || { say "apt knows of no kernel; try: apt-get update"; exit 1; }
    version=$(apt-cache policy "$package" | awk '$1 == "Candidate:" { print $2 }')
    release=${package#linux-image-}
    kernel=$cache/kernel-$release-$(echo "$version" | digest)
    [ ! -d "$kernel" ] || return 0
    say "fetching $package $version"
    rm -rf "$work" && mkdir -p "$work/deb"
    (cd "$work/deb" && apt-get download -qq -o APT::Sandbox::User=root "$package" >&2)
    dpkg-deb -x "$work"/deb/*.deb "$work/kernel"
    mv "$work/kernel" "$kernel"
}

# -- the images -----------------------------------------------------------------------------------

# QEMU starts an ELF kernel by its PVH entry: the emulated CPU is spared the unpacking of a bzImage.
unpack_kernel() { # bzImage vmlinux
    python3 - "$1" "$2" <<'PYTHON'
import lzma, struct, sys
image = open(sys.argv[1], "rb").read()
setup_sectors = image[0x1F1] or 4
start, length = struct.unpack_from("<II", image, 0x248)
payload = image[(setup_sectors + 1) * 512 + start:][:length]
elf = lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(payload)
assert elf[:4] == b"\x7fELF"
open(sys.argv[2], "wb").write(elf)
PYTHON
}

# The modules that a client of block storage can want; drivers of real hardware stay away.
copy_modules() { # tree
    local from=$kernel/lib/modules/$release to=$1/lib/modules/$release part
    mkdir -p "$to/kernel"
    cp "$from"/modules.{order,builtin,builtin.modinfo} "$to/"
    for part in arch/x86 block crypto lib net/core net/802 drivers/block drivers/md \
        drivers/virtio drivers/dax drivers/scsi/{scsi_,sd_,sg.,sr_,iscsi,libiscsi}* \
        drivers/scsi/device_handler drivers/net/{virtio_net.ko,net_failover.ko} \
        fs/{ext4,xfs,btrfs,jbd2,overlayfs,squashfs,fuse,nls,fat} fs/{mbcache,fscache}*; do
        (cd "$from/kernel" && for path in $part; do
            [ ! -e "$path" ] || cp -a --parents "$path" "$to/kernel/"
        done)
    done
    rm -rf "$to/kernel/drivers/block/drbd"
    chroot "$1" depmod "$release" 2> >(grep -v 'needs unknown symbol' >&2)
}

make_tree() { # tree
    mkdir -p "$1"
    tar -C "$1" -xpf "$root" --exclude='./dev/*'
    copy_modules "$1"
    rm -rf "$1"/var/cache/* "$1"/var/log/*
    # Names that are the same in every run.
    echo 'InitiatorName=iqn.1993-08.org.debian:01:guest' >"$1/etc/iscsi/initiatorname.iscsi"
    echo 0123456789abcdef0123456789abcdef >"$1/etc/machine-id"
    echo guest >"$1/etc/hostname"
    echo '127.0.0.1 localhost guest' >"$1/etc/hosts"
    : >"$1/etc/resolv.conf"
    : >"$1/etc/fstab"
    ln -sf /proc/mounts "$1/etc/mtab"
    mkdir -p "$1"/{dev,proc,sys,run,tmp,mnt,job,out}
    install -m 755 "$here/guest-init" "$1/guest-init"
}

# Static busybox and just the modules by which the first disk is reached, in the order of loading.
make_initrd() { # tree ird initrd.img
    local number=10 module
    mkdir -p "$2"/{bin,modules,dev,proc,sys,lower,upper,new}
    cp "$1/usr/bin/busybox" "$2/bin/"
    install -m 755 "$here/initramfs-init" "$2/init"
    for module in $(chroot "$1" modprobe -S "$release" --show-depends -a virtio_pci virtio_blk \
        squashfs overlay 2>/dev/null | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'); do
        cp "$1$module" "$2/modules/$number-$(basename "$module")"
        number=$((number + 1))
    done
    (cd "$2" && find . | cpio -o -H newc --quiet) >"$3"
}

make_guest() {
    local name
    name=$(cat "$here"/{build.sh,guest-init,initramfs-init} - <<<"$root $kernel" | digest)
    guest=$cache/guest-$name
    [ ! -d "$guest" ] || return 0
    say "making the guest's images"
    rm -rf "$work" && mkdir -p "$work/out"
    unpack_kernel "$kernel/boot/vmlinuz-$release" "$work/out/vmlinux"
    make_tree "$work/tree"
    # lz4, because an emulated CPU unpacks it.
    mksquashfs "$work/tree" "$work/out/root.sqfs" -comp lz4 -b 64K -noappend -no-progress -quiet \
        -no-exports >&2
    make_initrd "$work/tree" "$work/initrd" "$work/out/initrd.img"
    chmod -R a+rX "$work/out"
    mv "$work/out" "$guest"
}

make_root
make_kernel
make_guest
rm -rf "$work"
touch "$root" "$kernel" "$guest"
find "$cache" -mindepth 1 -maxdepth 1 -name '*-*' -mtime +30 -exec rm -rf {} +
echo "$guest"
