# One 16-byte stub for each vector: its CALL pushes an address that tells the vector, above an error
# code where the processor pushed one. All registers are saved below and restored after.
.section .text.traps, "ax"
.balign 16
.globl pleat_trap_stubs
pleat_trap_stubs:
.rept 256
    .balign 16
    call trap_common
.endr
.balign 16
trap_common:
    push rax
    push rcx
    push rdx
    push rbx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    mov rdi, rsp
    cld
    mov rbp, rsp
    and rsp, -16
    call {trap}
    mov rsp, rbp
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rbp
    pop rbx
    pop rdx
    pop rcx
    pop rax
    add rsp, 8
    iretq
