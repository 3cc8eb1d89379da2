/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The context switch.
 *
 *     void rt_switch(void **save_sp, void *load_sp);
 *
 * Saves what a callee must preserve on the running stack, stores the stack pointer in *save_sp,
 * takes load_sp and restores what was saved there. The floating-point control words are left
 * alone: nothing here changes them. A fresh stack is laid out by rt_ctx_init() so that the first
 * switch to it "returns" to rt_switch_entry, which calls its function with its argument and never
 * comes back.
 */

#if defined(__x86_64__)

    .text
    .globl rt_switch
    .hidden rt_switch
    .type rt_switch, @function
    .p2align 4
rt_switch:
    .cfi_startproc
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .cfi_endproc
    .size rt_switch, .-rt_switch

    .globl rt_switch_entry
    .hidden rt_switch_entry
    .type rt_switch_entry, @function
    .p2align 4
rt_switch_entry:
    .cfi_startproc
    .cfi_undefined rip
    xorl %ebp, %ebp
    movq %r12, %rdi
    callq *%r13
    ud2
    .cfi_endproc
    .size rt_switch_entry, .-rt_switch_entry

#elif defined(__aarch64__)

    .text
    .globl rt_switch
    .hidden rt_switch
    .type rt_switch, %function
    .p2align 4
rt_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size rt_switch, .-rt_switch

    .globl rt_switch_entry
    .hidden rt_switch_entry
    .type rt_switch_entry, %function
    .p2align 4
rt_switch_entry:
    .cfi_startproc
    .cfi_undefined x30
    mov x29, xzr
    mov x0, x19
    blr x20
    brk #1
    .cfi_endproc
    .size rt_switch_entry, .-rt_switch_entry

#else
#error "no context switch for this processor"
#endif

    .section .note.GNU-stack, "", %progbits
