/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few documents of S3, read with expat. One walker gives each element that holds text, with the
 * names of it and of its parent; namespaces are passed over. A document type declaration, and with
 * it every entity but the five of XML, ends the reading, so what the server sends cannot grow.
 */
#include "obj/s3_text.h"
#include <errno.h>
#include <expat.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX 8
#define NAME_SIZE 64
#define TEXT_SIZE 1200

struct walk {
    XML_Parser parser;
    char names[DEPTH_MAX][NAME_SIZE]; /* of the open elements */
    unsigned depth;
    char text[TEXT_SIZE]; /* of the innermost one */
    size_t len;
    bool too_long;
    bool has_child;
    int result;
    void (*leaf)(struct walk *w, const char *parent, const char *name, const char *text);
    void *arg;
};

static void stop(struct walk *w, int r)
{
    w->result = r;
    (void)XML_StopParser(w->parser, XML_FALSE);
}

static void on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
    struct walk *w = arg;
    (void)attributes;
    const char *colon = strrchr(name, ':');
    const char *local = colon ? colon + 1 : name;
    if (w->depth == DEPTH_MAX || strlen(local) >= NAME_SIZE) {
        stop(w, -EPROTO);
        return;
    }
    memcpy(w->names[w->depth++], local, strlen(local) + 1);
    w->len = 0;
    w->too_long = false;
    w->has_child = false;
}

static void on_text(void *arg, const XML_Char *text, int len)
{
    struct walk *w = arg;
    if (w->len + (size_t)len >= sizeof w->text) {
        w->too_long = true;
        return;
    }
    memcpy(w->text + w->len, text, (size_t)len);
    w->len += (size_t)len;
}

static void on_end(void *arg, const XML_Char *name)
{
    struct walk *w = arg;
    (void)name;
    if (w->depth == 0) {
        return;
    }
    w->depth--;
    if (!w->has_child && !w->too_long) {
        w->text[w->len] = '\0';
        w->leaf(w, w->depth > 0 ? w->names[w->depth - 1] : "", w->names[w->depth], w->text);
    }
    w->len = 0;
    w->has_child = true; /* of the parent */
}

static void on_doctype(void *arg, const XML_Char *name, const XML_Char *system_id,
                       const XML_Char *public_id, int has_subset)
{
    (void)name;
    (void)system_id;
    (void)public_id;
    (void)has_subset;
    stop(arg, -EPROTO);
}

/* 0, -EPROTO, -ENOMEM, or what leaf() stopped with. */
static int walk(struct walk *w, const void *text, size_t len)
{
    if (len > INT_MAX) {
        return -EPROTO;
    }
    w->parser = XML_ParserCreate(NULL);
    if (!w->parser) {
        return -ENOMEM;
    }
    XML_SetUserData(w->parser, w);
    XML_SetElementHandler(w->parser, on_start, on_end);
    XML_SetCharacterDataHandler(w->parser, on_text);
    XML_SetStartDoctypeDeclHandler(w->parser, on_doctype);
    bool ok = XML_Parse(w->parser, text, (int)len, 1) == XML_STATUS_OK;
    bool no_memory = XML_GetErrorCode(w->parser) == XML_ERROR_NO_MEMORY;
    XML_ParserFree(w->parser);
    if (w->result < 0 || ok) {
        return w->result;
    }
    return no_memory ? -ENOMEM : -EPROTO;
}

static void keep(char *ret_field, size_t cap, const char *text)
{
    (void)snprintf(ret_field, cap, "%s", text);
    for (char *at = ret_field; *at; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) {
            *at = ' '; /* it goes into lines of the log */
        }
    }
}

static void take_error_field(struct s3_error *e, const char *name, const char *text)
{
    if (strcmp(name, "Code") == 0) {
        keep(e->code, sizeof e->code, text);
    } else if (strcmp(name, "Message") == 0) {
        keep(e->message, sizeof e->message, text);
    } else if (strcmp(name, "Region") == 0) {
        keep(e->region, sizeof e->region, text);
    } else if (strcmp(name, "Endpoint") == 0) {
        keep(e->endpoint, sizeof e->endpoint, text);
    }
}

static void error_leaf(struct walk *w, const char *parent, const char *name, const char *text)
{
    if (strcmp(parent, "Error") == 0) {
        take_error_field(w->arg, name, text);
    }
}

void s3_error_parse(const void *text, size_t len, struct s3_error *ret_error)
{
    struct s3_error e = {0};
    struct walk w = {.leaf = error_leaf, .arg = &e};
    if (walk(&w, text, len) < 0) {
        e = (struct s3_error){0};
    }
    *ret_error = e;
}

struct listing {
    struct s3_list list;
    bool is_listing;
};

static void list_leaf(struct walk *w, const char *parent, const char *name, const char *text)
{
    struct listing *l = w->arg;
    l->is_listing |= strcmp(w->names[0], "ListBucketResult") == 0;
    if (strcmp(parent, "Contents") == 0 && strcmp(name, "Key") == 0) {
        char *copy = strdup(text);
        if (!copy || vec_push(&l->list.keys, copy) < 0) {
            free(copy);
            stop(w, -ENOMEM);
        }
    } else if (strcmp(parent, "ListBucketResult") == 0 && strcmp(name, "IsTruncated") == 0) {
        l->list.truncated = strcmp(text, "true") == 0;
    }
}

int s3_list_parse(const void *text, size_t len, struct s3_list *ret_list)
{
    struct listing l = {0};
    struct walk w = {.leaf = list_leaf, .arg = &l};
    int r = walk(&w, text, len);
    if (r == 0 && !l.is_listing) {
        r = -EPROTO;
    }
    if (r < 0) {
        s3_list_free(&l.list);
        return r;
    }
    *ret_list = l.list;
    return 0;
}

void s3_list_free(struct s3_list *l)
{
    for (size_t i = 0; i < l->keys.len; i++) {
        free(l->keys.at[i]);
    }
    vec_free(&l->keys);
}

struct deletion {
    struct s3_error first;
    bool is_deletion;
};

static void deleted_leaf(struct walk *w, const char *parent, const char *name, const char *text)
{
    struct deletion *d = w->arg;
    d->is_deletion |= strcmp(w->names[0], "DeleteResult") == 0;
    if (strcmp(parent, "Error") == 0 && d->first.code[0] == '\0') {
        take_error_field(&d->first, name, text);
    }
}

int s3_deleted_parse(const void *text, size_t len, struct s3_error *ret_first)
{
    struct deletion d = {0};
    struct walk w = {.leaf = deleted_leaf, .arg = &d};
    int r = walk(&w, text, len);
    if (r < 0) {
        return r;
    }
    if (!d.is_deletion) {
        return -EPROTO;
    }
    *ret_first = d.first;
    return 0;
}

struct search {
    const char *element;
    const char *value;
    bool found;
};

static void search_leaf(struct walk *w, const char *parent, const char *name, const char *text)
{
    struct search *s = w->arg;
    (void)parent;
    s->found |= strcmp(name, s->element) == 0 && strcmp(text, s->value) == 0;
}

bool s3_xml_has(const void *text, size_t len, const char *element, const char *value)
{
    struct search s = {.element = element, .value = value};
    struct walk w = {.leaf = search_leaf, .arg = &s};
    return walk(&w, text, len) == 0 && s.found;
}

static void put_text(struct bytes_writer *w, const char *text)
{
    bytes_put(w, text, strlen(text));
}

static void put_escaped(struct bytes_writer *w, const char *text)
{
    for (const char *at = text; *at; at++) {
        switch (*at) {
        case '&':
            put_text(w, "&amp;");
            break;
        case '<':
            put_text(w, "&lt;");
            break;
        case '>':
            put_text(w, "&gt;");
            break;
        default:
            bytes_put_u8(w, (uint8_t)*at);
        }
    }
}

void s3_delete_document(struct bytes_writer *w, const char *const *keys, size_t count)
{
    put_text(w, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
    for (size_t i = 0; i < count; i++) {
        put_text(w, "<Object><Key>");
        put_escaped(w, keys[i]);
        put_text(w, "</Key></Object>");
    }
    put_text(w, "</Delete>");
}
