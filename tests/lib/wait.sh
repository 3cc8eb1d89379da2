# SPDX-License-Identifier: Apache-2.0
# The one place where shell tests let time pass.

# wait_for SECONDS COMMAND...: until the command succeeds; false when the time is over.
wait_for() {
    turns=$(($1 * 20))
    shift
    while ! "$@"; do
        turns=$((turns - 1))
        [ "$turns" -gt 0 ] || return 1
        sleep 0.05
    done
}
