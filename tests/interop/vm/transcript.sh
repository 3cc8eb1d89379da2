#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# long
# store: file
# limit: 480
# README's transcript, word for word, as root of a Debian machine: installed program, nbd-client,
# open-iscsi, file systems of the kernel. The limit has room for fetching the guest the first time.
set -eu
. "$TOP/tests/lib/lib.sh"

DESTDIR=$TMPDIR/tree meson install -C "$BUILD" --no-rebuild >"$TMPDIR/install.log" ||
    fail "make install: $(tail -n 20 "$TMPDIR/install.log")"
[ -x "$TMPDIR/tree/usr/local/bin/zerofs" ] || fail "make install left no program"
tar -C "$TMPDIR/tree" -cf "$TMPDIR/tree.tar" .
"$TOP/tests/vm/run.sh" -t 300 -m 2560 "$TOP/tests/vm/jobs/transcript" \
    "$TMPDIR/tree.tar" "$TOP/tests/lib/wait.sh" | tee "$TMPDIR/transcript"
[ "${PIPESTATUS[0]}" -eq 0 ] || fail "the guest's job"
grep -qx 'transcript done' "$TMPDIR/transcript" || fail "the job did not come to its end"
