/* SPDX-License-Identifier: Apache-2.0 */
#include "rt/ctx.h"
#include "base/assert.h"
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#if RT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if RT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

/* In switch.S. */
void rt_switch(void **save_sp, void *load_sp);
void rt_switch_entry(void);

void rt_ctx_init_thread(struct rt_ctx *c)
{
    memset(c, 0, sizeof *c);
#if RT_ASAN
    pthread_attr_t attr;
    void *bottom = NULL;
    int r = pthread_getattr_np(pthread_self(), &attr);
    ASSERT(r == 0);
    r = pthread_attr_getstack(&attr, &bottom, &c->size);
    ASSERT(r == 0);
    c->bottom = bottom;
    (void)pthread_attr_destroy(&attr);
#endif
#if RT_TSAN
    c->tsan = __tsan_get_current_fiber();
#endif
}

#if defined(__x86_64__)
/* As rt_switch() leaves it: r15 r14 r13 r12 rbx rbp, return address. Two words above keep the
 * 16-byte alignment. */
static void *fresh_frame(uint8_t *top, void (*fn)(void *arg), void *arg)
{
    uintptr_t *sp = (uintptr_t *)(void *)top - 9;
    memset(sp, 0, 9 * sizeof *sp);
    sp[2] = (uintptr_t)fn;
    sp[3] = (uintptr_t)arg;
    sp[6] = (uintptr_t)rt_switch_entry;
    return sp;
}
#else
/* As rt_switch() leaves it: x19 to x30, d8 to d15. */
static void *fresh_frame(uint8_t *top, void (*fn)(void *arg), void *arg)
{
    uintptr_t *sp = (uintptr_t *)(void *)top - 20;
    memset(sp, 0, 20 * sizeof *sp);
    sp[0] = (uintptr_t)arg;
    sp[1] = (uintptr_t)fn;
    sp[11] = (uintptr_t)rt_switch_entry;
    return sp;
}
#endif

void rt_ctx_init(struct rt_ctx *c, void *bottom, size_t size, void (*fn)(void *arg), void *arg)
{
    memset(c, 0, sizeof *c);
    uintptr_t top = ((uintptr_t)bottom + size) & ~(uintptr_t)15;
    c->sp = fresh_frame((uint8_t *)bottom + (top - (uintptr_t)bottom), fn, arg);
#if RT_ASAN
    c->bottom = bottom;
    c->size = size;
    __asan_unpoison_memory_region(bottom, size);
#endif
#if RT_TSAN
    c->tsan = __tsan_create_fiber(0);
#endif
}

void rt_ctx_entered(void)
{
#if RT_ASAN
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
}

void rt_ctx_free(struct rt_ctx *c)
{
#if RT_TSAN
    __tsan_destroy_fiber(c->tsan);
#endif
#if RT_ASAN
    /* The stack of a killed fiber has live frames; what is mapped there next has none. */
    __asan_unpoison_memory_region(c->bottom, c->size);
#endif
    c->sp = NULL;
}

void rt_ctx_switch(struct rt_ctx *from, struct rt_ctx *to)
{
#if RT_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->bottom, to->size);
#endif
#if RT_TSAN
    __tsan_switch_to_fiber(to->tsan, 0);
#endif
    rt_switch(&from->sp, to->sp);
#if RT_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}

void rt_ctx_switch_last(struct rt_ctx *from, struct rt_ctx *to)
{
#if RT_ASAN
    from->fake_stack = NULL;
    __sanitizer_start_switch_fiber(NULL, to->bottom, to->size);
#endif
#if RT_TSAN
    __tsan_switch_to_fiber(to->tsan, 0);
#endif
    rt_switch(&from->sp, to->sp);
#if RT_ASAN
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
}
