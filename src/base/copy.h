/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy past the processor's caches, for bytes that nobody reads soon: the old contents of the
 * destination are not fetched, and what is in the caches stays there. Sanitizers see a memcpy.
 */
#pragma once
#include "base/assert.h"
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COPY_PLAIN
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__SSE2__)
#define COPY_PLAIN
#endif
#ifndef COPY_PLAIN
#include <emmintrin.h>
#endif

#define COPY_LINE_BYTES 64u

/* dst is aligned to a line, and len is a number of lines. */
static inline void copy_past_cache(void *dst, const void *src, size_t len)
{
    ASSERT((uintptr_t)dst % COPY_LINE_BYTES == 0 && len % COPY_LINE_BYTES == 0);
#ifdef COPY_PLAIN
    memcpy(dst, src, len);
#else
    __m128i *to = dst;
    const __m128i *from = src;
    for (const __m128i *end = from + len / sizeof *from; from < end; from += 4, to += 4) {
        __m128i a = _mm_loadu_si128(from);
        __m128i b = _mm_loadu_si128(from + 1);
        __m128i c = _mm_loadu_si128(from + 2);
        __m128i d = _mm_loadu_si128(from + 3);
        _mm_stream_si128(to, a);
        _mm_stream_si128(to + 1, b);
        _mm_stream_si128(to + 2, c);
        _mm_stream_si128(to + 3, d);
    }
    _mm_sfence(); /* such stores are ordered by nothing else, and others are about to read them */
#endif
}
