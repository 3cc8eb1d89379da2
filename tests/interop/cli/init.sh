#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# store: file
# zerofs init: overwrites nothing without --force, "-" is standard output, and what it writes works.
. "$TOP/tests/lib/lib.sh"

# code WANT COMMAND...: the exit code; the output is left in $said.
code() {
    want=$1
    shift
    got=0
    said=$("$@" 2>&1) || got=$?
    [ "$got" = "$want" ] || fail "'$*' ended with $got and not $want: $said"
}

mkdir "$TMPDIR/a b" && cd "$TMPDIR/a b"
code 3 "$ZEROFS" nbd list
case $said in *"zerofs init"*) ;; *) fail "no hint: $said" ;; esac

code 0 "$ZEROFS" init
[ "$(stat -c %a zerofs.toml)" = 600 ] || fail "zerofs.toml is readable by others"
grep -q "url = \"file://$TMPDIR/a b/zerofs-data/store\"" zerofs.toml || fail "the folder"
cp zerofs.toml kept
code 5 "$ZEROFS" init
cmp -s zerofs.toml kept || fail "init without --force changed the file"
case $said in *--force*) ;; *) fail "no hint: $said" ;; esac

echo broken >zerofs.toml
code 0 "$ZEROFS" init --force
cmp -s zerofs.toml kept || fail "init --force"

"$ZEROFS" init - >out || fail "init -"
cmp -s out kept || fail "standard output differs"
[ ! -e ./- ] || fail "a file named -"

code 0 "$ZEROFS" init ../other.toml
grep -q "url = \"file://$TMPDIR/a b/../zerofs-data/store\"" ../other.toml || fail "relative folder"
code 0 "$ZEROFS" init "$TMPDIR/third.toml"
grep -q "url = \"file://$TMPDIR/zerofs-data/store\"" "$TMPDIR/third.toml" || fail "absolute folder"
code 1 "$ZEROFS" init no/such/folder.toml
code 2 "$ZEROFS" init a b
code 2 "$ZEROFS" init data.toml --data relative
[ ! -e data.toml ] || fail "a file in spite of the mistake"
code 0 "$ZEROFS" init data.toml --data /srv/data
grep -q 'url = "file:///srv/data/store"' data.toml || fail "--data"

# -c defaults to ./zerofs.toml.
code 0 "$ZEROFS" nbd create my-device 10G
code 0 "$ZEROFS" nbd info my-device
[ -d zerofs-data/store ] || fail "the volume is not where the file says"
