/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/size.h"
#include "main/commands.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static uint64_t number_of(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static bool flag_of(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

/* "10.00 GB (10,737,418,240 bytes)". */
static void print_size(const char *label, uint64_t bytes)
{
    char size[SIZE_TEXT_SIZE], grouped[SIZE_TEXT_SIZE];
    size_format(bytes, size);
    size_format_grouped(bytes, grouped);
    printf("  %-12s %s (%s bytes)\n", label, size, grouped);
}

static void print_details(const json_t *device)
{
    print_size("Size:", number_of(device, "size"));
    printf("  %-12s %s\n", "UUID:", text_of(device, "uuid"));
    printf("  %-12s %" PRIu64 "\n", "Inode:", number_of(device, "inode"));
    printf("  %-12s %s\n", "Write cache:", flag_of(device, "write_cache") ? "on" : "off");
    if (flag_of(device, "read_only")) {
        printf("  %-12s on\n", "Read-only:");
    }
    if (flag_of(device, "removable")) {
        printf("  %-12s %s\n", "Medium:", flag_of(device, "ejected") ? "ejected" : "in");
    }
    printf("  %-12s %" PRIu64 " logical, %" PRIu64 " physical\n",
           "Block size:", number_of(device, "logical_block_size"),
           number_of(device, "physical_block_size"));
    printf("  %-12s %" PRIu64 "\n", "Clients:", number_of(device, "attached"));
    size_t i;
    json_t *client;
    json_array_foreach(json_object_get(device, "clients"), i, client)
    {
        printf("    %s\n", json_string_value(client));
    }
}

/* "my-device", or "LUN 0 of iqn...". */
static void device_label(const json_t *device, char *ret_text, size_t cap)
{
    if (json_object_get(device, "lun")) {
        snprintf(ret_text, cap, "LUN %" PRIu64 " of '%s'", number_of(device, "lun"),
                 text_of(device, "name"));
    } else {
        snprintf(ret_text, cap, "NBD device '%s'", text_of(device, "name"));
    }
}

static void print_created_device(const json_t *device)
{
    char label[320];
    device_label(device, label, sizeof label);
    printf("Created %s\n", label);
    print_details(device);
    if (!json_object_get(device, "lun")) {
        printf("\nConnect with:\n  nbd-client <host> <port> /dev/nbd0 -N %s\n",
               text_of(device, "name"));
    }
}

static void print_device(const json_t *device)
{
    char label[320];
    device_label(device, label, sizeof label);
    printf("%s\n", label);
    print_details(device);
}

static void print_resized(const json_t *device)
{
    char label[320];
    device_label(device, label, sizeof label);
    printf("Resized %s\n", label);
    print_size("Old size:", number_of(device, "old_size"));
    print_size("New size:", number_of(device, "size"));
    if (number_of(device, "size") < number_of(device, "old_size")) {
        printf("Warning: the device was shrunk; what lay beyond its new end is gone.\n");
    } else if (!json_object_get(device, "lun")) {
        printf("NBD clients see the new size when they connect again.\n");
    }
}

static void print_deleted_device(const json_t *device)
{
    char label[320];
    device_label(device, label, sizeof label);
    printf("Deleted %s\n", label);
}

static void print_devices(const json_t *result)
{
    const json_t *devices = json_object_get(result, "devices");
    if (json_array_size(devices) == 0) {
        printf("No NBD devices found\n");
        return;
    }
    printf("%-32s %12s %24s %8s %8s\n", "NAME", "SIZE", "SIZE (bytes)", "INODE", "CLIENTS");
    size_t i;
    json_t *device;
    json_array_foreach(devices, i, device)
    {
        char size[SIZE_TEXT_SIZE], grouped[SIZE_TEXT_SIZE];
        size_format(number_of(device, "size"), size);
        size_format_grouped(number_of(device, "size"), grouped);
        printf("%-32s %12s %24s %8" PRIu64 " %8" PRIu64 "\n", text_of(device, "name"), size,
               grouped, number_of(device, "inode"), number_of(device, "attached"));
    }
}

/* The trade's name for its sizes of logical and physical blocks. */
static const char *format_of(const json_t *lun)
{
    if (number_of(lun, "logical_block_size") > 512) {
        return "4Kn";
    }
    return number_of(lun, "physical_block_size") > 512 ? "512e" : "512n";
}

static void print_luns(const json_t *target, const char *indent)
{
    size_t i;
    json_t *lun;
    json_array_foreach(json_object_get(target, "luns"), i, lun)
    {
        char size[SIZE_TEXT_SIZE], grouped[SIZE_TEXT_SIZE];
        size_format(number_of(lun, "size"), size);
        size_format_grouped(number_of(lun, "size"), grouped);
        const char *medium = flag_of(lun, "ejected") ? "  removable, ejected" : "  removable";
        const char *sanitize = text_of(lun, "sanitize");
        bool ready = strcmp(sanitize, "running") != 0 && strcmp(sanitize, "failed") != 0;
        printf("%sLUN %-5" PRIu64 " %12s %24s %8" PRIu64 " clients  %5s%s%s%s%s%s\n", indent,
               number_of(lun, "lun"), size, grouped, number_of(lun, "attached"), format_of(lun),
               flag_of(lun, "read_only") ? "  read-only" : "",
               flag_of(lun, "removable") ? medium : "",
               flag_of(lun, "write_same_to_end") ? "  write-same-to-end" : "",
               ready ? "" : "  sanitize: ", ready ? "" : sanitize);
    }
}

static void print_targets(const json_t *result)
{
    const json_t *targets = json_object_get(result, "targets");
    if (json_array_size(targets) == 0) {
        printf("No iSCSI targets found\n");
        return;
    }
    size_t i;
    json_t *target;
    json_array_foreach(targets, i, target)
    {
        printf("%s\n", text_of(target, "iqn"));
        print_luns(target, "  ");
    }
}

static void print_target(const json_t *target)
{
    printf("iSCSI target '%s'\n", text_of(target, "iqn"));
    printf("  %-12s %s\n", "UUID:", text_of(target, "uuid"));
    const json_t *moved = json_object_get(target, "redirect");
    if (moved) {
        printf("  %-12s %s%s\n", "Redirect:", text_of(moved, "to"),
               json_is_true(json_object_get(moved, "permanent")) ? ", permanently" : "");
    }
    print_luns(target, "  ");
}

static void print_created_target(const json_t *target)
{
    const char *iqn = text_of(target, "iqn");
    if (json_object_get(target, "warning")) {
        fprintf(stderr, "zerofs: warning: %s\n", text_of(target, "warning"));
    }
    printf("Created iSCSI target '%s'\n", iqn);
    print_luns(target, "  ");
    printf("\nConnect with:\n"
           "  iscsiadm --mode discovery --type sendtargets --portal <host>\n"
           "  iscsiadm --mode node --targetname %s --login\n",
           iqn);
}

static void print_deleted_target(const json_t *target)
{
    printf("Deleted iSCSI target '%s'\n", text_of(target, "iqn"));
}

static void print_reservations_of(const json_t *lun)
{
    printf("%s LUN %" PRIu64 ": reservation: %s; generation %" PRIu64 "%s\n", text_of(lun, "iqn"),
           number_of(lun, "lun"), text_of(lun, "type"), number_of(lun, "generation"),
           flag_of(lun, "persistent") ? "; persists" : "");
    size_t i;
    json_t *reg;
    json_array_foreach(json_object_get(lun, "registrations"), i, reg)
    {
        printf("  %s  %s  ISID %s, port %" PRIu64 "%s%s\n", text_of(reg, "key"),
               text_of(reg, "initiator"), text_of(reg, "isid"), number_of(reg, "target_port"),
               flag_of(reg, "holder") ? ", holder" : "",
               flag_of(reg, "attached") ? "" : ", not logged in");
    }
}

static void print_reservations(const json_t *result)
{
    const json_t *cleared = json_object_get(result, "cleared");
    const json_t *luns = cleared ? cleared : json_object_get(result, "luns");
    if (json_array_size(luns) == 0) {
        printf("No persistent reservations found\n");
    }
    size_t i;
    json_t *lun;
    json_array_foreach(luns, i, lun)
    {
        printf("%s", cleared ? "Cleared: " : "");
        print_reservations_of(lun);
    }
}

static void print_flushed(const json_t *result)
{
    printf("Flushed: everything up to segment %" PRIu64 " is stored\n",
           number_of(result, "stored_through"));
}

static void print_memory(const json_t *memory)
{
    const char *owner;
    json_t *used;
    char size[SIZE_TEXT_SIZE];
    size_format(number_of(memory, "accounted_bytes"), size);
    printf("Memory       %s accounted", size);
    size_format(number_of(memory, "limit_bytes"), size);
    printf(" of %s\n", size);
    json_object_foreach((json_t *)memory, owner, used)
    {
        if (!json_is_object(used)) {
            continue;
        }
        const char *name;
        json_t *bytes;
        json_object_foreach(used, name, bytes)
        {
            size_format((uint64_t)json_integer_value(bytes), size);
            printf("  %-16s %12s\n", name, size);
        }
    }
}

static void print_status(const json_t *s)
{
    const json_t *volume = json_object_get(s, "volume");
    char dirty[SIZE_TEXT_SIZE], limit[SIZE_TEXT_SIZE];
    size_format(number_of(volume, "dirty_bytes"), dirty);
    size_format(number_of(volume, "dirty_limit_bytes"), limit);
    printf("zerofs %s, %s\n", text_of(s, "version"),
           flag_of(s, "running") ? "running" : "not running (volume opened for this report)");
    printf("Volume       %s %s%s\n", text_of(volume, "url"), text_of(volume, "uuid"),
           flag_of(volume, "fenced") ? " FENCED" : "");
    printf("Encryption   %s\n", text_of(volume, "encryption"));
    printf("Owner        %s\n", text_of(s, "owner"));
    printf("Dirty        %s of %s in %" PRIu64 " batches\n", dirty, limit,
           number_of(volume, "batches"));
    printf("Log          stored through %" PRIu64 ", %" PRIu64 " live segments, %" PRIu64
           " flushes\n",
           number_of(volume, "stored_through"), number_of(volume, "segments_live"),
           number_of(volume, "flushes"));
    if (json_object_get(s, "nbd")) {
        const json_t *nbd = json_object_get(s, "nbd");
        printf("NBD          %" PRIu64 " connections, %" PRIu64 " requests\n",
               number_of(nbd, "connections"), number_of(nbd, "requests"));
    }
    if (json_object_get(s, "iscsi")) {
        const json_t *iscsi = json_object_get(s, "iscsi");
        printf("iSCSI        %" PRIu64 " sessions, %" PRIu64 " commands\n",
               number_of(iscsi, "sessions"), number_of(iscsi, "commands"));
    }
    if (json_object_get(s, "isns")) {
        const json_t *isns = json_object_get(s, "isns");
        const char *why = text_of(isns, "reason");
        printf("iSNS         %s, %" PRIu64 " targets%s%s\n", text_of(isns, "state"),
               number_of(isns, "targets"), *why ? ": " : "", why);
    }
    print_memory(json_object_get(s, "memory"));
}

void print_result(const char *op, const json_t *result)
{
    static const struct {
        const char *op;
        void (*print)(const json_t *result);
    } forms[] = {
        {"nbd.create", print_created_device},
        {"nbd.list", print_devices},
        {"nbd.info", print_device},
        {"nbd.resize", print_resized},
        {"nbd.delete", print_deleted_device},
        {"nbd.set", print_device},
        {"iscsi.create-target", print_created_target},
        {"iscsi.list", print_targets},
        {"iscsi.info", print_target},
        {"iscsi.add-lun", print_created_device},
        {"iscsi.resize-lun", print_resized},
        {"iscsi.remove-lun", print_deleted_device},
        {"iscsi.set-lun", print_device},
        {"iscsi.eject", print_device},
        {"iscsi.insert", print_device},
        {"iscsi.delete-target", print_deleted_target},
        {"iscsi.reservations.list", print_reservations},
        {"iscsi.reservations.clear", print_reservations},
        {"iscsi.redirect", print_target},
        {"flush", print_flushed},
        {"status", print_status},
    };
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        if (strcmp(forms[i].op, op) == 0) {
            forms[i].print(result);
            return;
        }
    }
    if (strncmp(op, "iscsi.portal-group.", strlen("iscsi.portal-group.")) == 0) {
        print_paths_result(result);
        return;
    }
    print_access_result(op, result);
}

int command_show(const char *op, const struct args *a, const json_t *response)
{
    enum ops_exit code = ops_exit_of(response);
    if (args_has(a, "json")) {
        const json_t *document = code == OPS_OK ? json_object_get(response, "result") : response;
        json_dumpf(document, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (code == OPS_OK) {
        print_result(op, json_object_get(response, "result"));
    } else {
        const char *message =
            json_string_value(json_object_get(json_object_get(response, "error"), "message"));
        fprintf(stderr, "zerofs: %s\n", message ? message : "failed");
    }
    return fflush(stdout) == 0 ? (int)code : OPS_FAILED;
}
