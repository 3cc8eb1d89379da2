/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key objects: the data key, wrapped, apart from everything that it seals.
 *
 * They are numbered, and the one with the highest number is valid: it alone. A change of the
 * password makes the next one, opens it, creates it, reads it back, and only then removes those
 * before it. So at each moment there is a valid one, and one that would not open never is it. A
 * crash in between leaves an old one behind, which opens nothing any more and goes when the volume
 * is opened next. Two changes at once both try to create the same number; the later one takes the
 * number after it, and the last to be created is valid.
 *
 * The superblock says that a volume is encrypted, but holds no key: it can never be removed, and a
 * password that was given up must not open what is left on the store.
 */
#include "vol/keyring.h"
#include "base/err.h"
#include "base/msg.h"
#include "rt/offload.h"
#include "vol/vol_priv.h"
#include <inttypes.h>
#include <stdio.h>

#define TRIES 16
#define NAME_DIGITS 16

static int lost(const char *name, const char *why)
{
    msg_error("vol", "%s: %s", name, why);
    return ERR_CORRUPT_KEY;
}

static void name_of(uint64_t number, char ret_name[OBJ_NAME_SIZE])
{
    (void)snprintf(ret_name, OBJ_NAME_SIZE, VOL_KEYS_PREFIX "%016" PRIx64, UINT64_MAX - number);
}

static bool parse_name(const char *name, uint64_t *ret_number)
{
    const char *digits = name + strlen(VOL_KEYS_PREFIX);
    if (strlen(digits) != NAME_DIGITS || strspn(digits, "0123456789abcdef") != NAME_DIGITS) {
        return false;
    }
    *ret_number = UINT64_MAX - strtoull(digits, NULL, 16);
    return true;
}

/* From a number that was listed to the one whose successor is not there: a listing has nothing but
 * the connection to vouch for it, and a key object that was replaced must not come back so. */
static int newest_from(struct obj_store *store, uint64_t *number)
{
    char name[OBJ_NAME_SIZE];
    uint8_t byte;
    ssize_t n = 0;
    while (n >= 0 && *number < UINT64_MAX) {
        name_of(*number + 1, name);
        n = obj_get(store, OBJ_INDEX, name, 0, &byte, 1);
        *number += n >= 0;
    }
    return n < 0 && n != -ENOENT ? (int)n : 0;
}

/* The number of the valid key object, and whether there are others: 0, -ENOENT when there is none.
 */
static int find_newest(struct obj_store *store, uint64_t *ret_number, bool *ret_others)
{
    struct obj_names names = {0};
    int r = obj_list(store, OBJ_INDEX, VOL_KEYS_PREFIX, "", 2, &names);
    *ret_others = names.names.len > 1;
    if (r == 0 && names.names.len == 0) {
        r = -ENOENT;
    } else if (r == 0 && !parse_name(names.names.at[0], ret_number)) {
        r = lost(names.names.at[0], "this is no name of a key object");
    }
    obj_names_free(&names);
    return r < 0 ? r : newest_from(store, ret_number);
}

/* 0, -ENOENT, ERR_CORRUPT_KEY, ERR_FORMAT_TOO_NEW, or the store's error. */
static int read_wrap(struct obj_store *store, const struct uuid *volume, uint64_t number,
                     struct crypt_wrap *ret_wrap)
{
    uint8_t bytes[WRAP_BYTES];
    char name[OBJ_NAME_SIZE];
    struct crypt_wrap w;
    name_of(number, name);
    int r = ERR_CORRUPT_KEY;
    for (unsigned tries = 0; tries < 2 && r == ERR_CORRUPT_KEY; tries++) {
        if (tries > 0) {
            obj_tell_spoilt(name);
        }
        ssize_t n = obj_get(store, OBJ_INDEX, name, 0, bytes, sizeof bytes);
        if (n < 0) {
            return (int)n;
        }
        r = crypt_wrap_decode(bytes, (size_t)n, &w);
    }
    if (r == ERR_CORRUPT_KEY) {
        return lost(name, "the key object is damaged");
    }
    if (r == 0 && (w.number != number || !uuid_equal(&w.volume, volume))) {
        return lost(name, "the key object belongs elsewhere");
    }
    if (r == 0) {
        *ret_wrap = w;
    }
    return r;
}

/* A superblock alone is what a format leaves that was interrupted before it had made a key. */
static int no_key_object(struct obj_store *store)
{
    struct obj_names names = {0};
    int r = obj_list(store, OBJ_INDEX, "", "", 2, &names);
    bool begun = names.names.len == 1 && strcmp(names.names.at[0], VOL_SUPERBLOCK_NAME) == 0;
    obj_names_free(&names);
    if (r < 0) {
        return r;
    }
    return begun ? ERR_NOT_A_VOLUME : lost(VOL_KEYS_PREFIX, "there is no key object");
}

/* The valid key object, and whether there are others. It may be replaced, and removed, while it is
 * looked for. */
static int read_newest(struct obj_store *store, const struct uuid *volume,
                       struct crypt_wrap *ret_wrap, bool *ret_others)
{
    int r = -ENOENT;
    for (unsigned i = 0; i < TRIES && r == -ENOENT; i++) {
        uint64_t number = 0;
        r = find_newest(store, &number, ret_others);
        if (r < 0) {
            break;
        }
        r = read_wrap(store, volume, number, ret_wrap);
    }
    return r == -ENOENT ? no_key_object(store) : r;
}

struct job {
    struct crypt_wrap *wrap;
    const struct crypt_access *access;
    struct crypt_keys *keys;
};

static int seal_job(void *arg)
{
    struct job *j = arg;
    return crypt_wrap_seal(j->wrap, j->access, j->keys);
}

static int open_job(void *arg)
{
    struct job *j = arg;
    return crypt_wrap_open(j->wrap, j->access, &j->keys);
}

static int random_job(void *arg)
{
    struct job *j = arg;
    return crypt_keys_random(j->access->cipher, &j->keys);
}

static int open_wrap(struct crypt_wrap *w, const struct crypt_access *access,
                     struct crypt_keys **ret_keys)
{
    struct job j = {.wrap = w, .access = access};
    int r = rt_offload(RT_OFFLOAD_CPU, open_job, &j);
    if (r == 0) {
        *ret_keys = j.keys;
    }
    return r;
}

/* Creates the object: 0, -EEXIST when another lies there, or the store's error. */
static int put_wrap(struct obj_store *store, const struct crypt_wrap *w)
{
    uint8_t bytes[WRAP_BYTES], there[WRAP_BYTES];
    char name[OBJ_NAME_SIZE];
    struct rt_chain body = {0};
    name_of(w->number, name);
    crypt_wrap_encode(w, bytes);
    int r = rt_chain_add(&body, NULL, bytes, sizeof bytes);
    if (r == 0) {
        r = obj_put(store, OBJ_INDEX, name, &body);
    }
    rt_chain_free(&body);
    if (r < 0 && r != -EEXIST) {
        return r;
    }
    ssize_t n = obj_get(store, OBJ_INDEX, name, 0, there, sizeof there);
    if (n < 0 && n != -ENOENT) {
        return (int)n;
    }
    return n == sizeof there && memcmp(there, bytes, sizeof there) == 0 ? 0 : -EEXIST;
}

static int mismatch(bool is_encrypted)
{
    return is_encrypted ? ERR_IS_ENCRYPTED : ERR_NOT_ENCRYPTED;
}

int vol_keys_fit(const struct vol_superblock *sb, bool have_key)
{
    bool is_encrypted = (sb->incompatible & VOL_FEATURE_ENCRYPTED) != 0;
    return is_encrypted == have_key ? 0 : mismatch(is_encrypted);
}

/* Removes the key objects before that number: what is left opens nothing, so errors are said only.
 */
static void remove_older(struct obj_store *store, uint64_t number)
{
    struct obj_names names = {0};
    char name[OBJ_NAME_SIZE];
    name_of(number, name);
    int r = obj_list(store, OBJ_INDEX, VOL_KEYS_PREFIX, name, TRIES, &names);
    for (size_t i = 0; r == 0 && i < names.names.len; i++) {
        r = obj_remove(store, OBJ_INDEX, names.names.at[i]);
    }
    obj_names_free(&names);
    if (r < 0) {
        msg_warn(
            "vol",
            "the old key object could not be removed (%s): it goes when the volume is opened next",
            err_text(r));
    }
}

int vol_keys_open(struct obj_store *store, const struct vol_superblock *sb,
                  const struct crypt_access *access, struct crypt_keys **ret_keys)
{
    struct crypt_wrap w;
    bool others = false;
    int r = vol_keys_fit(sb, access != NULL);
    if (r < 0) {
        return r;
    }
    if (!access) {
        *ret_keys = NULL;
        return 0;
    }
    r = read_newest(store, &sb->uuid, &w, &others);
    if (r < 0) {
        return r;
    }
    if (w.kdf != access->kdf) {
        msg_error("vol", "the volume opens with a %s, and the configuration has a %s",
                  w.kdf == CRYPT_KDF_NONE ? "key file" : "password",
                  access->kdf == CRYPT_KDF_NONE ? "key file" : "password");
    }
    r = open_wrap(&w, access, ret_keys);
    if (r == 0 && others) { /* of a change that was interrupted */
        remove_older(store, w.number);
    }
    return r;
}

int vol_keys_load(struct obj_store *store, const struct crypt_access *access,
                  struct crypt_keys **ret_keys)
{
    struct vol_superblock sb;
    int r = vol_superblock_read(store, true, &sb);
    return r < 0 ? r : vol_keys_open(store, &sb, access, ret_keys);
}

int vol_keys_create(struct obj_store *store, const struct vol_superblock *sb,
                    const struct crypt_access *access, struct crypt_keys **ret_keys)
{
    struct crypt_wrap w = {.volume = sb->uuid};
    uint64_t number = 0;
    bool others;
    int r = find_newest(store, &number, &others);
    if (r == -ENOENT) {
        struct job j = {.wrap = &w, .access = access};
        r = rt_offload(RT_OFFLOAD_CPU, random_job, &j);
        if (r == 0) {
            r = rt_offload(RT_OFFLOAD_CPU, seal_job, &j);
        }
        if (r == 0) {
            r = put_wrap(store, &w);
        }
        if (r == 0) {
            *ret_keys = j.keys;
            return 0;
        }
        crypt_keys_unref(j.keys);
    }
    /* There already, from an earlier attempt or a rival's: then it opens, or the password is
     * another. */
    return r < 0 && r != -EEXIST ? r : vol_keys_open(store, sb, access, ret_keys);
}

/* That the new object will give the key of the volume: what it wraps is unwrapped once more, before
 * it becomes the valid one. */
static int prove(struct crypt_wrap *w, const struct crypt_access *access,
                 const struct crypt_keys *keys)
{
    struct crypt_keys *again = NULL;
    int r = open_wrap(w, access, &again);
    if (r == 0 && !crypt_keys_equal(keys, again)) {
        r = lost(VOL_KEYS_PREFIX, "the new key object holds another key");
    }
    crypt_keys_unref(again);
    return r;
}

/* A request for a key object that failed may have been carried out. */
static int doubt(int r)
{
    if (r == 0 || r == -EEXIST) {
        return r;
    }
    msg_error("vol", "the new key object may be stored or not: %s", err_text(r));
    return ERR_KEY_IN_DOUBT;
}

/* 0, -EEXIST when the number was taken, ERR_KEY_IN_DOUBT, or another error before anything was
 * sent. */
static int change_once(struct obj_store *store, const struct uuid *volume, struct job *j)
{
    bool others;
    int r = read_newest(store, volume, j->wrap, &others);
    if (r < 0) {
        return r;
    }
    *j->wrap = (struct crypt_wrap){.volume = *volume, .number = j->wrap->number + 1};
    r = rt_offload(RT_OFFLOAD_CPU, seal_job, j);
    if (r == 0) {
        r = prove(j->wrap, j->access, j->keys);
    }
    return r < 0 ? r : doubt(put_wrap(store, j->wrap));
}

int vol_keys_change(struct obj_store *store, struct crypt_keys *keys,
                    const struct crypt_access *access)
{
    struct vol_superblock sb;
    struct crypt_wrap w = {.number = 0};
    int r = vol_superblock_read(store, false, &sb);
    if (r == 0) {
        r = keys ? vol_keys_fit(&sb, true)
                 : mismatch((sb.incompatible & VOL_FEATURE_ENCRYPTED) != 0);
    }
    if (r < 0) {
        return r;
    }
    struct job j = {.wrap = &w, .access = access, .keys = keys};
    unsigned tries = 0;
    do {
        r = change_once(store, &sb.uuid, &j);
    } while (r == -EEXIST && ++tries < TRIES);
    if (r == 0) {
        remove_older(store, w.number);
    }
    /* A number that was taken may have been taken by this very call. */
    return r < 0 && tries > 0 ? ERR_KEY_IN_DOUBT : r;
}
