/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection from its first byte on, as a stream: login in all its stages, and whatever follows.
 * A stranger of whom nothing more comes is sent away.
 */
#include "base/bytes.h"
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct bytes_reader input;

static void run_input(void *arg)
{
    struct wire w;
    (void)arg;
    wire_open(&w);
    bool is_open = true;
    /* In pieces, as a network brings them: what is in one may depend on the answer to another. */
    while (is_open && bytes_left(&input) > 0) {
        size_t here = MIN_OF(bytes_left(&input), 1460u);
        is_open = wire_send(&w, bytes_take(&input, here), here);
        int r = 0;
        while (is_open && r == 0) {
            r = wire_recv(&w);
        }
        is_open = r == -ETIMEDOUT;
    }
    wire_close(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    input = bytes_reader_of(data, len);
    wire_run(run_input);
    return 0;
}
