/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "lg.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct lg_options lg_options = {
    .block_size = 4096, .depth = 32, .seconds = 3, .device_size = UINT64_MAX, .connections = 1};
uint8_t *lg_payload;

void lg_die(const char *what)
{
    (void)fprintf(stderr, "lg: %s (%s)\n", what, err_text(-errno));
    exit(1);
}

uint64_t lg_number(const char *text, uint64_t max)
{
    char *end;
    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != 0 || text[0] == '-' || n > max) {
        lg_die("a number is wrong or too large");
    }
    return n;
}

uint64_t lg_now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static NORETURN void usage(void)
{
    (void)fprintf(
        stderr,
        "usage: lg nbd|iscsi HOST PORT NAME [options]        (HOST may be unix:/path, PORT then "
        "-)\n"
        "  -w PERCENT  share of writes, 0 to 100 (0)    -f N      a flush after N writes (none)\n"
        "  -b BYTES    block size (4096)                -d N      depth of each connection (32)\n"
        "  -t SECONDS  for so long (3)                  -n BYTES  at most so much per connection\n"
        "  -s BYTES    use so much of the device (all; needed for iscsi)\n"
        "  -c N        connections (1)                  -q        in sequence, not random\n"
        "  -l N        the LUN (0)                      -u        each write is durable (FUA)\n"
        "  -g          digests of headers and data (iscsi)\n"
        "prints: ops IOPS MB/s p50_us p99_us client_user_s client_system_s\n");
    exit(2);
}

static void parse_options(int argc, char **argv)
{
    struct lg_options *o = &lg_options;
    int opt;
    if (argc < 5) {
        usage();
    }
    o->iscsi = strcmp(argv[1], "iscsi") == 0;
    o->host = argv[2];
    o->port = argv[3];
    o->name = argv[4];
    optind = 5;
    while ((opt = getopt(argc, argv, "w:f:b:d:t:n:s:c:l:qug")) != -1) {
        switch (opt) {
        case 'w':
            o->write_percent = (unsigned)lg_number(optarg, 100);
            break;
        case 'f':
            o->flush_every = (unsigned)lg_number(optarg, UINT32_MAX);
            break;
        case 'b':
            o->block_size = (uint32_t)lg_number(optarg, LG_PAYLOAD_SIZE);
            break;
        case 'd':
            o->depth = (uint32_t)lg_number(optarg, 65536);
            break;
        case 't':
            o->seconds = strtod(optarg, NULL);
            break;
        case 'n':
            o->bytes_max = lg_number(optarg, UINT64_MAX);
            break;
        case 's':
            o->device_size = lg_number(optarg, UINT64_MAX);
            break;
        case 'c':
            o->connections = (unsigned)lg_number(optarg, 1000);
            break;
        case 'l':
            o->lun = (unsigned)lg_number(optarg, 255);
            break;
        case 'u':
            o->durable = true;
            break;
        case 'g':
            o->digests = true;
            break;
        case 'q':
            o->sequential = true;
            break;
        default:
            usage();
        }
    }
    if (o->block_size < 512 || o->block_size % 512 != 0 || o->block_size > LG_PAYLOAD_SIZE ||
        o->depth == 0 || o->connections == 0 || (o->iscsi && o->device_size == UINT64_MAX)) {
        usage();
    }
}

static void make_payload(void)
{
    struct rng g = rng_seeded(1);
    lg_payload = malloc(LG_PAYLOAD_SIZE);
    if (!lg_payload) {
        lg_die("no memory");
    }
    for (size_t i = 0; i < LG_PAYLOAD_SIZE; i += 8) {
        uint64_t v = rng_next(&g);
        memcpy(lg_payload + i, &v, 8);
    }
}

static void *conn_thread(void *arg)
{
    lg_conn_run(arg);
    return NULL;
}

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void report(const struct lg_conn *conns, const struct rusage *before)
{
    static struct lg_stats sum;
    struct rusage now;
    double seconds = 0;
    (void)getrusage(RUSAGE_SELF, &now);
    for (unsigned i = 0; i < lg_options.connections; i++) {
        lg_stats_merge(&sum, &conns[i].stats);
        seconds = MAX_OF(seconds, conns[i].seconds_used);
    }
    (void)printf("%llu %.0f %.1f %.1f %.1f %.3f %.3f\n", (unsigned long long)sum.ops,
                 (double)sum.ops / seconds, (double)sum.bytes / seconds / 1e6,
                 lg_stats_quantile_us(&sum, 0.5), lg_stats_quantile_us(&sum, 0.99),
                 seconds_of(now.ru_utime) - seconds_of(before->ru_utime),
                 seconds_of(now.ru_stime) - seconds_of(before->ru_stime));
}

int main(int argc, char **argv)
{
    struct rusage before;
    parse_options(argc, argv);
    make_payload();
    unsigned count = lg_options.connections;
    struct lg_conn *conns = calloc(count, sizeof *conns);
    pthread_t *threads = calloc(count, sizeof *threads);
    if (!conns || !threads) {
        lg_die("no memory");
    }
    for (unsigned i = 0; i < count; i++) {
        conns[i].proto = lg_options.iscsi ? &lg_iscsi : &lg_nbd;
        conns[i].rng = rng_seeded(lg_now_ns() + i);
        lg_wire_open(&conns[i].wire);
        conns[i].proto->login(&conns[i]);
    }
    if (lg_options.device_size < lg_options.block_size) {
        lg_die("the device is smaller than a block");
    }
    (void)getrusage(RUSAGE_SELF, &before);
    for (unsigned i = 0; i < count; i++) {
        /* Each begins in its own part when it goes in sequence. */
        conns[i].next_block = lg_options.device_size / lg_options.block_size / count * i;
        if (pthread_create(&threads[i], NULL, conn_thread, &conns[i]) != 0) {
            lg_die("pthread_create");
        }
    }
    for (unsigned i = 0; i < count; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    report(conns, &before);
    return 0;
}
