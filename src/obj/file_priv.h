/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the file backend share. */
#pragma once
#include "obj/obj_layers.h"
#include "obj/obj_priv.h"
#include <stdatomic.h>

/* A name in the folder: longer than the object's by the inserted "xx/". */
#define FILE_PATH_SIZE (OBJ_NAME_SIZE + 4)

#define FILE_SHARDED "segments/" /* objects below it are spread over 256 folders */
#define FILE_TEMP "tmp"

/*
 * Open descriptors of objects, so that a segment that is read often is not opened for each read.
 * Objects never change, so a descriptor stays good until the object is removed. Any thread.
 */
#define FILE_FDS_MAX 64

struct file_fd {
    char *path; /* NULL: the slot is empty */
    int fd;
    unsigned refs;
    bool dropped; /* closed by the last user */
    uint64_t used;
};

struct file_fds {
    struct rt_mutex m;
    struct file_fd *slots[FILE_FDS_MAX];
    uint64_t clock;
};

struct file_store {
    struct obj_store base;
    int root_fd;
    char *folder; /* for messages */
    uint64_t temp_tag;
    _Atomic uint64_t temp_count;
    _Atomic bool said_gone;
    struct file_fds fds;
};

void file_fds_init(struct file_fds *c);
void file_fds_destroy(struct file_fds *c);
/* A descriptor that is open already, or NULL. To be given back. */
struct file_fd *file_fds_find(struct file_fds *c, const char *path);
/* Keeps fd (its owner now) for path: the slot to use, with a reference; NULL when there is no
 * memory: fd is closed. */
struct file_fd *file_fds_keep(struct file_fds *c, const char *path, int fd);
void file_fds_give(struct file_fds *c, struct file_fd *e);
void file_fds_drop(struct file_fds *c, const char *path);

/* True for segments/<16 hex digits>: in the folder it is segments/<last two>/<16>. */
bool file_is_sharded_name(const char *name);

/* Runs in an offload thread. */
MUST int file_list_run(struct file_store *f, const char *prefix, const char *after, size_t max,
                       struct obj_names *ret_names);
/* -ENOENT as it is, or -ESTALE (said once) when the whole store is gone. */
MUST int file_missing(struct file_store *f);
