#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Opens a copy of a kept volume: check.sh GOLDEN_PROGRAM FOLDER [WORD]
set -eu
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r "$2/." "$copy/"
"$1" check "$copy" ${3+"$3"}
