#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# long
# heavy
# limit: 480
# Linux' own initiator with each way to move data it knows: digests, immediate data, R2T. (libiscsi
# has no data digests.) Resets under load, and a session that is given up and comes back.
set -eu
. "$TOP/tests/lib/lib.sh"

# The guest reaches this machine's loopback as 10.0.2.2; a store in a folder is its own.
store_server
python3 -m stores config "$(python3 -m stores url s)" |
    sed "s|//127.0.0.1:|//10.0.2.2:|; s|file://[^\"]*|file:///job/store|" >"$TMPDIR/store.toml"
printf '[cache]\ndir = "/job/cache"\n[servers.iscsi]\n' >"$TMPDIR/cache.toml"
tar -C "$BUILD" -cf "$TMPDIR/program.tar" zerofs
"$TOP/tests/vm/run.sh" -n -t 300 -m 1536 "$TOP/tests/vm/jobs/initiator" "$TMPDIR/store.toml" \
    "$TMPDIR/cache.toml" "$TMPDIR/program.tar" "$TOP/tests/lib/wait.sh" | tee "$TMPDIR/initiator"
[ "${PIPESTATUS[0]}" -eq 0 ] || fail "the guest's job"
grep -qx 'initiator done' "$TMPDIR/initiator" || fail "the job did not come to its end"
