/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Back-references: for each frame that was copied, who else has it. The page map of a place says
 * where its blocks are, so who moves live frames has to know of all the maps that name one.
 *
 * They are written when a copy is applied, and go with their segment. Those that are not true any
 * more do no harm: who follows one looks at the map.
 */
#pragma once
#include "vol/stage.h"

MUST int vol_backrefs_stage(struct vol_stage *st, const struct vol_record *rec) WAITS;
/* All of a segment that is deleted. */
MUST int vol_backrefs_drop(struct vol_stage *st, uint64_t seq) WAITS;
