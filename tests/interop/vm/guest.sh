#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# long
# store: file
# limit: 1500
# Every job of tests/vm/jobs, in one guest with Debian's kernel that is booted once; each is a
# result of its own. JOBS="NAME..." runs some. The limit has room for fetching the guest the first
# time.
set -eu
. "$TOP/tests/lib/lib.sh"

DESTDIR=$TMPDIR/tree meson install -C "$BUILD" --no-rebuild >"$TMPDIR/install.log" ||
    fail "make install: $(tail -n 20 "$TMPDIR/install.log")"
[ -x "$TMPDIR/tree/usr/local/bin/zerofs" ] || fail "make install left no program"
tar -C "$TMPDIR/tree" -cf "$TMPDIR/tree.tar" .
mkdir "$TMPDIR/jobs"
for job in ${JOBS:-$(ls "$TOP/tests/vm/jobs")}; do
    cp "$TOP/tests/vm/jobs/$job" "$TMPDIR/jobs/"
done

# In an emulated machine everything takes long, and longer on a busy one: what a job may take is
# said by itself.
code=0
"$TOP/tests/vm/run.sh" -e SOAK="${SOAK:-}" -t $((${SOAK:-0} ? 14400 : 1440)) -m 2560 \
    "$TOP/tests/vm/together" "$TMPDIR/tree.tar" "$TMPDIR/jobs" "$TOP/tests/vm/guest.sh" \
    "$TOP/tests/lib/wait.sh" | tee "$TMPDIR/said" || true
[ "${PIPESTATUS[0]}" -eq 0 ] || code=1
for job in "$TMPDIR"/jobs/*; do
    name=${job##*/}
    line=$(grep -a "^GUEST [a-zA-Z]* $name [0-9]*" "$TMPDIR/said" || echo "GUEST FAIL $name 0")
    read -r _ verdict _ seconds <<<"${line%$'\r'}"
    [ "$verdict" = pass ] || code=1
    echo "$verdict $name $seconds" >>"${TEST_PARTS:-/dev/stderr}"
done
exit $code
