/* SPDX-License-Identifier: Apache-2.0 */
#include "index/index_priv.h"
void index_compact_kick(struct index *ix)
{
    (void)ix;
}
