/* SPDX-License-Identifier: Apache-2.0 */
/* The records of a batch: what decodes keeps its rules, and is the same after encoding it again. */
#include "base/assert.h"
#include "vol/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(const struct vol_record *rec)
{
    unsigned next = 0;
    uint32_t kind_max = rec->kind == VOL_RECORD_COPY ? VOL_RUN_STORED : VOL_RUN_NONE;
    for (uint32_t i = 0; i < rec->run_count; i++) {
        ASSERT(rec->runs[i].first >= next && rec->runs[i].kind <= kind_max);
        next = (unsigned)rec->runs[i].first + rec->runs[i].count;
    }
    ASSERT(next <= VOL_PAGE_BLOCKS);
    struct bytes_writer w = {0};
    struct vol_record again;
    vol_record_encode(rec, &w);
    struct bytes_reader r = bytes_reader_of(w.data, w.len);
    int got = vol_record_next(&r, &again);
    ASSERT(got == 1 && bytes_done(&r) && again.kind == rec->kind);
    ASSERT(again.run_count == rec->run_count && again.value_len == rec->value_len);
    bytes_writer_free(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes_reader r = bytes_reader_of(data, len);
    struct vol_record rec;
    while (vol_record_next(&r, &rec) > 0) {
        check(&rec);
    }
    return 0;
}
