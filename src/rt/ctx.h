/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machine contexts: a stack and the place where it stopped, with what the sanitizers want to know
 * of it. Private to rt.
 */
#pragma once
#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define RT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RT_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define RT_TSAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) && !defined(RT_TSAN)
#define RT_TSAN 1
#endif
#ifndef RT_ASAN
#define RT_ASAN 0
#endif
#ifndef RT_TSAN
#define RT_TSAN 0
#endif

#define RT_SANITIZED (RT_ASAN + RT_TSAN > 0)

struct rt_ctx {
    void *sp;
#if RT_ASAN
    void *fake_stack;
    const void *bottom;
    size_t size;
#endif
#if RT_TSAN
    void *tsan;
#endif
};

/* Describes the calling thread's own stack, so that it can be switched back to. */
void rt_ctx_init_thread(struct rt_ctx *c);
/* Lays out a fresh stack of size bytes at bottom so that the first switch to it calls fn(arg),
 * which never returns. */
void rt_ctx_init(struct rt_ctx *c, void *bottom, size_t size, void (*fn)(void *arg), void *arg);
/* The first thing that fn does. */
void rt_ctx_entered(void);
/* Frees what the sanitizers keep for the context. Not the stack. */
void rt_ctx_free(struct rt_ctx *c);
/* Goes from one context to another; returns when somebody switches back. */
void rt_ctx_switch(struct rt_ctx *from, struct rt_ctx *to);
/* The same for a context whose function has come to its end: its frames are dead. */
void rt_ctx_switch_last(struct rt_ctx *from, struct rt_ctx *to);
