/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a message on the admin socket, as far as a request is read before the volume is
 * asked; and as a response, which a command turns into its exit code. */
#include "base/assert.h"
#include "ctl/ops.h"
#include "ctl/ops_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    json_t *message = json_loadb((const char *)data, len, 0, NULL);
    if (!message) {
        return 0;
    }
    uint64_t bytes = 0;
    json_t *failed = ops_size(message, 512, &bytes);
    ASSERT(failed ? ops_exit_of(failed) == OPS_USAGE : bytes > 0 && bytes % 512 == 0);
    json_decref(failed);
    uint64_t lun;
    (void)ops_number(message, "lun", &lun);
    (void)ops_flag(message, "force", false);
    const char *name = ops_text(message, "name");
    char why[256] = "", iqn[DEV_IQN_MAX + 1];
    if (name) {
        int r = dev_name_check(name, why, sizeof why);
        ASSERT(r == 0 || why[0]);
        r = dev_iqn_check(name, iqn, why, sizeof why);
        ASSERT(r == 0 || why[0]);
    }
    ASSERT(ops_exit_of(message) <= OPS_STORE);
    json_decref(message);
    return 0;
}
