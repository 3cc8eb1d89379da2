/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a configuration: entries that are whole, or a line and a reason; and each string
 * through what is done to strings of a configuration. */
#include "base/assert.h"
#include "ctl/config.h"
#include "ctl/config_priv.h"
#include "ctl/toml.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct toml_doc doc = {0};
    unsigned line = 0;
    char why[64] = "";
    int r = toml_parse((const char *)data, len, &doc, &line, why, sizeof why);
    ASSERT(r == 0 || (r == -EINVAL && line > 0 && why[0] && !doc.entries));
    for (size_t i = 0; i < doc.count; i++) {
        const struct toml_entry *e = &doc.entries[i];
        ASSERT(e->key && e->line > 0 && (e->type == TOML_STRING) == (e->string != NULL));
        if (e->string) {
            auto_free char *text = config_expand(e->string, why, sizeof why);
            ASSERT(text || why[0]);
            (void)config_address_ok(text ? text : e->string, why, sizeof why);
        }
    }
    toml_free(&doc);
    return 0;
}
