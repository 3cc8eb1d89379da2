// SPDX-License-Identifier: Apache-2.0
// The only C++ of the program: walks a toml++ tree and hands out plain C entries.
#include "ctl/toml.h"
#define TOML_EXCEPTIONS 0
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <toml++/toml.h>

namespace
{
toml_entry *add(toml_doc *doc, const std::string &key, toml_type type, unsigned line)
{
    if (doc->count == doc->cap) {
        size_t cap = doc->cap ? doc->cap * 2 : 32;
        auto *grown = static_cast<toml_entry *>(realloc(doc->entries, cap * sizeof(toml_entry)));
        if (!grown) {
            return nullptr;
        }
        doc->entries = grown;
        doc->cap = cap;
    }
    toml_entry *e = &doc->entries[doc->count];
    memset(e, 0, sizeof *e);
    e->key = strdup(key.c_str());
    if (!e->key) {
        return nullptr;
    }
    e->type = type;
    e->line = line;
    doc->count++;
    return e;
}

bool leaf(toml_doc *doc, const std::string &key, const toml::node &node, bool in_array)
{
    toml_type type = TOML_OTHER;
    if (node.is_string()) {
        type = TOML_STRING;
    } else if (node.is_integer()) {
        type = TOML_INTEGER;
    } else if (node.is_floating_point()) {
        type = TOML_FLOAT;
    } else if (node.is_boolean()) {
        type = TOML_BOOLEAN;
    }
    toml_entry *e = add(doc, key, type, node.source().begin.line);
    if (!e) {
        return false;
    }
    e->in_array = in_array;
    if (type == TOML_STRING) {
        const std::string &text = node.as_string()->get();
        // A NUL inside would cut the value short without a word.
        if (text.find('\0') != std::string::npos) {
            e->type = TOML_OTHER;
            return true;
        }
        e->string = strdup(text.c_str());
        return e->string != nullptr;
    }
    if (type == TOML_INTEGER) {
        e->integer = node.as_integer()->get();
        e->number = static_cast<double>(e->integer);
    } else if (type == TOML_FLOAT) {
        e->number = node.as_floating_point()->get();
    } else if (type == TOML_BOOLEAN) {
        e->boolean = node.as_boolean()->get();
    }
    return true;
}

bool array(toml_doc *doc, const std::string &key, const toml::array &values)
{
    if (values.empty()) {
        return add(doc, key, TOML_EMPTY_ARRAY, values.source().begin.line) != nullptr;
    }
    for (const auto &value : values) {
        if (!leaf(doc, key, value, true)) {
            return false;
        }
    }
    return true;
}

bool walk(toml_doc *doc, const std::string &prefix, const toml::table &table, int depth)
{
    if (depth > 8) {
        return add(doc, prefix, TOML_OTHER, table.source().begin.line) != nullptr;
    }
    for (const auto &[name, node] : table) {
        std::string key =
            prefix.empty() ? std::string(name.str()) : prefix + "." + std::string(name.str());
        bool ok;
        if (const auto *sub = node.as_table()) {
            ok = add(doc, key, TOML_TABLE, sub->source().begin.line) &&
                 walk(doc, key, *sub, depth + 1);
        } else if (const auto *values = node.as_array()) {
            ok = array(doc, key, *values);
        } else {
            ok = leaf(doc, key, node, false);
        }
        if (!ok) {
            return false;
        }
    }
    return true;
}
} // namespace

int toml_parse(const char *text, size_t len, toml_doc *ret_doc, unsigned *ret_line, char *ret_why,
               size_t why_cap)
{
    toml_doc doc = {};
    toml::parse_result result = toml::parse(std::string_view(text, len));
    if (!result) {
        const auto &err = result.error();
        *ret_line = static_cast<unsigned>(err.source().begin.line);
        snprintf(ret_why, why_cap, "%.*s", static_cast<int>(err.description().size()),
                 err.description().data());
        return -EINVAL;
    }
    if (!walk(&doc, "", result.table(), 0)) {
        toml_free(&doc);
        *ret_line = 1;
        snprintf(ret_why, why_cap, "out of memory");
        return -ENOMEM;
    }
    *ret_doc = doc;
    return 0;
}

void toml_free(toml_doc *doc)
{
    for (size_t i = 0; i < doc->count; i++) {
        free(doc->entries[i].key);
        free(doc->entries[i].string);
    }
    free(doc->entries);
    *doc = {};
}
