#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# compression: any (how bytes come to the server)
# TLS off, allow and require, with and without client certificates, seen by nbdinfo and qemu-img.
. "$TOP/tests/lib/lib.sh"

# cert FOLDER/NAME SUBJECT CA: a key and a certificate signed by the CA.
cert() {
    openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$2" 2>/dev/null
    printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >ext
    openssl x509 -req -in "$1.csr" -CA "$3.pem" -CAkey "$3.key" -CAcreateserial -days 2 \
        -extfile ext -out "$1.pem" 2>/dev/null
}

authority() {
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.pem" -days 2 \
        -subj "/CN=$1" -addext basicConstraints=critical,CA:TRUE \
        -addext keyUsage=critical,keyCertSign 2>/dev/null
}

# pki FOLDER CA CLIENT: the layout that libnbd and qemu look for.
pki() {
    mkdir -p "$1"
    cp "$2.pem" "$1/ca-cert.pem"
    [ -z "$3" ] || { cp "$3.pem" "$1/client-cert.pem" && cp "$3.key" "$1/client-key.pem"; }
}

authority ca
authority stranger
cert server localhost ca
cert client alice ca
cert mallory mallory stranger
pki trusted ca client
pki anonymous ca ""
pki foreign ca mallory
pki fooled stranger client

# serve MODE [LINE]
serve() {
    write_config
    lines="tls = \"$1\""
    if [ "$1" != off ]; then
        lines="$lines\ntls_cert = \"$PWD/server.pem\"\ntls_key = \"$PWD/server.key\"\n${2:-}"
    fi
    sed -i "s|^\[servers.nbd\]|&\n$lines|" "$CONFIG"
    [ -d made ] || "$ZEROFS" nbd create -c "$CONFIG" --name disk --size 32M >/dev/null
    mkdir -p made
    server_start
}

plain() {
    nbdinfo --size "nbd://127.0.0.1:$NBD_PORT/disk"
}

# tls FOLDER
tls() {
    nbdinfo --size "nbds://127.0.0.1:$NBD_PORT/disk?tls-certificates=$PWD/$1"
}

qemu() {
    qemu-img info --object "tls-creds-x509,id=t,endpoint=client,dir=$PWD/$1" --image-opts \
        "driver=nbd,host=127.0.0.1,port=$NBD_PORT,export=disk,tls-creds=t" >/dev/null
}

refused() {
    if "$@" >out 2>&1; then
        fail "$* should have been refused"
    fi
}

ok() {
    "$@" >out 2>&1 || { cat out; fail "$*"; }
}

echo "off"
serve off
ok plain
refused tls trusted
server_stop

echo "allow"
serve allow
ok plain
ok tls trusted
ok tls anonymous
ok qemu anonymous
refused tls fooled
server_stop

echo "require"
serve require
refused plain
grep -qi tls out || fail "the refusal does not speak of TLS: $(cat out)"
refused nbdinfo --list "nbd://127.0.0.1:$NBD_PORT"
ok tls anonymous
ok nbdinfo --list "nbds://127.0.0.1:$NBD_PORT?tls-certificates=$PWD/anonymous"
ok qemu anonymous
dd if=/dev/urandom of=image bs=1M count=32 2>/dev/null
ok nbdcopy image "nbds://127.0.0.1:$NBD_PORT/disk?tls-certificates=$PWD/anonymous"
ok nbdcopy "nbds://127.0.0.1:$NBD_PORT/disk?tls-certificates=$PWD/anonymous" back
cmp image back
server_stop

echo "require, client certificates"
serve require "tls_ca = \"$PWD/ca.pem\""
ok tls trusted
ok qemu trusted
refused tls anonymous
refused tls foreign
refused plain
ok tls trusted
server_stop
