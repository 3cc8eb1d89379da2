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
grep -q "password_file = \"$TMPDIR/a b/zerofs.password\"" zerofs.toml || fail "no password file"
[ "$(stat -c %a zerofs.password)" = 600 ] || fail "zerofs.password is readable by others"
grep -qE '^([a-z2-9]{8}-){4}[a-z2-9]{8}$' zerofs.password || fail "the password"
! echo "$said" | grep -qF "$(cat zerofs.password)" || fail "the password is shown"
case $said in *"loses the data"*) ;; *) fail "what a lost password means is not said: $said" ;; esac
cp zerofs.password password.kept
cp zerofs.toml kept
code 5 "$ZEROFS" init
cmp -s zerofs.toml kept || fail "init without --force changed the file"
case $said in *--force*) ;; *) fail "no hint: $said" ;; esac

echo broken >zerofs.toml
code 0 "$ZEROFS" init --force
cmp -s zerofs.toml kept || fail "init --force"
cmp -s zerofs.password password.kept || fail "init --force took another password"
mkdir lone && cp zerofs.password lone/
code 5 "$ZEROFS" init lone/zerofs.toml
cmp -s lone/zerofs.password password.kept || fail "init overwrote a password"
[ ! -e lone/zerofs.toml ] || fail "init wrote a file in spite of the password there"
code 0 "$ZEROFS" init lone/other.toml
! cmp -s lone/other.password password.kept || fail "two volumes, one password"
code 0 "$ZEROFS" init clear.toml --unencrypted
grep -q '^mode = "none"' clear.toml || fail "init --unencrypted"
[ ! -e clear.password ] || fail "a password for a volume in clear"
code 0 "$ZEROFS" init elsewhere.toml --password-file "$TMPDIR/secret"
grep -q "password_file = \"$TMPDIR/secret\"" elsewhere.toml || fail "--password-file"
[ -s "$TMPDIR/secret" ] || fail "no password there"

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
[ -d zerofs-data/store/keys ] || fail "the volume is not encrypted"
