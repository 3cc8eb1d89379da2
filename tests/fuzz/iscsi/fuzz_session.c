/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session in full feature phase that is sent PDUs of any header with data of any bytes. The
 * target answers or ends the connection: as long as that is open, a ping at the end is answered.
 *
 * Input: a byte of flags, and then PDUs: 48 bytes of header, and as much as it says of additional
 * segments and data; what is missing is left out, and the header made to agree. Unless a flag says
 * otherwise, what decides whether anything else of the PDU is looked at is put right: CmdSN.
 */
#include "base/bytes.h"
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum {
    RAW_NUMBERS = 1, /* CmdSN as it is in the input */
    DIGESTS = 2,
    UNSOLICITED = 4, /* InitialR2T=No */
    SHORT = 8,       /* short bursts and segments */
    PATIENT = 16,    /* each PDU is sent when the one before was answered */
    RECOVERY = 32,   /* ErrorRecoveryLevel=2 */
    SPOILT = 64,     /* every third digest of data is wrong */
};

#define DATA_MAX 8192u
#define PDUS_MAX 32
#define NAMES "InitiatorName=iqn.2024-01.test:fuzz\0TargetName=" FAKE_IQN "\0SessionType=Normal\0"

static struct bytes_reader input;
static uint8_t flags;
static uint32_t cmdsn;
static uint32_t digests; /* of data that were sent */

static size_t put_key(char *text, size_t at, const char *key, const char *value)
{
    return at + (size_t)snprintf(text + at, 512 - at, "%s=%s", key, value) + 1;
}

/* Straight to full feature phase. */
static void log_in(struct wire *w)
{
    char text[512] = NAMES;
    size_t len = sizeof NAMES - 1;
    const char *digest = flags & DIGESTS ? "CRC32C" : "None";
    len = put_key(text, len, "HeaderDigest", digest);
    len = put_key(text, len, "DataDigest", digest);
    len = put_key(text, len, "InitialR2T", flags & UNSOLICITED ? "No" : "Yes");
    len = put_key(text, len, "MaxBurstLength", flags & SHORT ? "1024" : "262144");
    len = put_key(text, len, "FirstBurstLength", flags & SHORT ? "512" : "65536");
    len = put_key(text, len, "MaxRecvDataSegmentLength", flags & SHORT ? "512" : "65536");
    len = put_key(text, len, "MaxOutstandingR2T", "2");
    len = put_key(text, len, "ErrorRecoveryLevel", flags & RECOVERY ? "2" : "0");
    uint8_t bhs[ISCSI_BHS_BYTES] = {0x43, 0x87, [8] = 0x80, [15] = 0};
    be24_store(bhs + 5, (uint32_t)len);
    be32_store(bhs + 24, cmdsn);
    ASSERT(wire_send(w, bhs, sizeof bhs) && wire_send(w, text, iscsi_padded((uint32_t)len)));
    ASSERT(wire_recv(w) == 0 && w->bhs[0] == 0x23 && be16_load(w->bhs + 36) == 0);
    w->digests = flags & DIGESTS;
}

/* Everything that is there to be received: whether the connection is still open. */
static bool listen_to(struct wire *w, uint32_t itt, bool *ret_answered)
{
    int r = wire_recv(w);
    while (r == 0) {
        if (w->bhs[0] == 0x20 && be32_load(w->bhs + 16) == itt) {
            *ret_answered = true;
        }
        r = wire_recv(w);
    }
    return r == -ETIMEDOUT;
}

static bool send_pdu(struct wire *w, uint8_t *bhs, const uint8_t *ahs, const uint8_t *data)
{
    static const uint8_t zeros[3];
    size_t ahs_len = bhs[4] * 4u;
    uint32_t len = be24_load(bhs + 5);
    uint32_t pad = iscsi_padded(len) - len;
    uint8_t digest[ISCSI_DIGEST_BYTES];
    bool sent = wire_send(w, bhs, ISCSI_BHS_BYTES) && wire_send(w, ahs, ahs_len);
    if (w->digests) {
        le32_store(digest, crc32c(crc32c(0, bhs, ISCSI_BHS_BYTES), ahs, ahs_len));
        sent = sent && wire_send(w, digest, sizeof digest);
    }
    sent = sent && wire_send(w, data, len) && wire_send(w, zeros, pad);
    if (w->digests && len > 0) {
        bool spoilt = flags & SPOILT && ++digests % 3 == 0;
        le32_store(digest, crc32c(crc32c(0, data, len), zeros, pad) ^ spoilt);
        sent = sent && wire_send(w, digest, sizeof digest);
    }
    return sent;
}

static bool next_pdu(struct wire *w)
{
    uint8_t bhs[ISCSI_BHS_BYTES];
    const uint8_t *p = bytes_take(&input, sizeof bhs);
    if (!p) {
        return false;
    }
    memcpy(bhs, p, sizeof bhs);
    bhs[4] = (uint8_t)MIN_OF(bhs[4], bytes_left(&input) / 4);
    const uint8_t *ahs = bytes_take(&input, bhs[4] * 4u);
    uint32_t len = (uint32_t)MIN_OF(be24_load(bhs + 5), MIN_OF(bytes_left(&input), DATA_MAX));
    be24_store(bhs + 5, len);
    const uint8_t *data = bytes_take(&input, len);
    bool has_number = (bhs[0] & 0x3f) <= 6 && (bhs[0] & 0x3f) != 5;
    if (has_number && !(flags & RAW_NUMBERS)) {
        be32_store(bhs + 24, cmdsn);
        cmdsn += !(bhs[0] & 0x40);
    }
    return send_pdu(w, bhs, ahs, data);
}

static void ping(struct wire *w)
{
    const uint32_t itt = 0xfedcba98;
    uint8_t bhs[ISCSI_BHS_BYTES] = {0x40, 0x80};
    bool answered = false;
    be32_store(bhs + 16, itt);
    be32_store(bhs + 20, ISCSI_TAG_NONE);
    be32_store(bhs + 24, cmdsn);
    be32_store(bhs + 28, w->statsn + 1);
    bool open = send_pdu(w, bhs, NULL, NULL) && listen_to(w, itt, &answered);
    ASSERT(!open || answered);
}

static void run_input(void *arg)
{
    struct wire w;
    bool open = true;
    bool ignored = false;
    (void)arg;
    flags = bytes_u8(&input);
    cmdsn = 1;
    digests = 0;
    wire_open(&w);
    log_in(&w);
    for (int i = 0; open && i < PDUS_MAX && bytes_left(&input) > 0; i++) {
        open = next_pdu(&w);
        if (open && flags & PATIENT) {
            open = listen_to(&w, ISCSI_TAG_NONE, &ignored);
        }
    }
    if (open) {
        ping(&w);
    }
    wire_close(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    input = bytes_reader_of(data, len);
    wire_run(run_input);
    return 0;
}
