/* SPDX-License-Identifier: Apache-2.0 */
/* TransportIDs, one after another: a name that is taken can be told again, and is then the same. */
#include "base/assert.h"
#include "scsi/transport_id.h"
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_again(const struct scsi_transport_id *id)
{
    struct scsi_transport_id again;
    struct bytes_writer out = {0};
    scsi_transport_id_encode(id->name, &out);
    struct bytes_reader in = bytes_reader_of(out.data, out.len);
    ASSERT(scsi_transport_id_decode(&in, &again) == 0 && again.is_port);
    ASSERT(strcmp(again.name, id->name) == 0 && bytes_left(&in) == 0);
    bytes_writer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes_reader in = bytes_reader_of(data, len);
    struct scsi_transport_id id;
    int r = 0;
    while (r == 0 && bytes_left(&in) > 0) {
        r = scsi_transport_id_decode(&in, &id);
        ASSERT(r == 0 || r == -EINVAL);
        if (r == 0 && id.is_port) {
            check_again(&id);
        }
    }
    return 0;
}
