#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# long
# heavy
# store: s3
# limit: 900
# The job "initiator" with a store that is not the guest's own: guest.sh has it with a folder.
set -eu
. "$TOP/tests/lib/lib.sh"

# The guest reaches this machine's loopback as 10.0.2.2.
store_server
python3 -m stores config "$(python3 -m stores url s)" |
    sed "s|//127.0.0.1:|//10.0.2.2:|" >"$TMPDIR/store.toml"
mkdir "$TMPDIR/tree" "$TMPDIR/jobs"
install -D "$BUILD/zerofs" "$TMPDIR/tree/usr/local/bin/zerofs"
install -D "$TMPDIR/store.toml" "$TMPDIR/tree/etc/store.toml"
tar -C "$TMPDIR/tree" -cf "$TMPDIR/tree.tar" .
cp "$TOP/tests/vm/jobs/initiator" "$TMPDIR/jobs/"
"$TOP/tests/vm/run.sh" -n -t 840 -m 1536 "$TOP/tests/vm/together" "$TMPDIR/tree.tar" \
    "$TMPDIR/jobs" "$TOP/tests/vm/guest.sh" "$TOP"/tests/lib/{wait.sh,history.py,disk_load.py} |
    tee "$TMPDIR/said"
[ "${PIPESTATUS[0]}" -eq 0 ] || fail "the guest's job"
grep -q '^GUEST pass initiator' "$TMPDIR/said" || fail "the job did not come to its end"
