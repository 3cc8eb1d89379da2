#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# store: file
# On a machine that has only what [build] names, scripts/run builds the program and nothing that
# wants cmocka; when the tests' packages have come, the same build directory gets the tests.
. "$TOP/tests/lib/lib.sh"
bare=$TMPDIR/bare
mkdir "$TMPDIR/pc" "$TMPDIR/bin"
for folder in $(pkg-config --variable pc_path pkg-config | tr : ' '); do
    [ ! -d "$folder" ] || find "$folder" -name '*.pc' ! -name 'cmocka.pc' \
        -exec ln -sf -t "$TMPDIR/pc" {} +
done

PKG_CONFIG_LIBDIR=$TMPDIR/pc meson setup "$bare" "$TOP" >setup.log || fail "$(tail -n 5 setup.log)"
sed -n 's/^ *"file": "\(.*\)".*/\1/p' "$bare/compile_commands.json" >files
grep -q 'src/main/main\.c$' files || fail "there is no program"
(cd "$bare" && xargs -d '\n' realpath) <files >paths
! grep -qF "$(realpath "$TOP")/tests/" paths || fail "tests are built without cmocka"

# What scripts/build asks of meson; the building itself is left out.
real=$(command -v ninja)
printf '#!/bin/sh\n[ "$1" != -C ] || exit 0\nexec %s "$@"\n' "$real" >"$TMPDIR/bin/ninja"
chmod +x "$TMPDIR/bin/ninja"
PATH=$TMPDIR/bin:$PATH "$TOP/scripts/build" "$bare" >build.log || fail "$(tail -n 5 build.log)"
meson introspect --tests "$bare" | grep -q ':unit"' || fail "the tests were not found afterwards"
