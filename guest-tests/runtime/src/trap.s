// What all entry stubs run into, and the call that survives a fault. Intel syntax.

.section .text.trap, "ax"
.global pleat_trap_common
pleat_trap_common:
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
    cld
    mov rbp, rsp
    sub rsp, 512
    and rsp, -16
    // The handlers are compiled with SSE2, which leaves the upper halves of YMM registers alone.
    fxsave64 [rsp]
    mov rdi, rbp
    call pleat_trap
    fxrstor64 [rsp]
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
    add rsp, 16
    iretq

// The least that an interrupt handler can do: acknowledge (x2APIC EOI) and count. For measurements.
.balign 16
.global pleat_trap_fast
pleat_trap_fast:
    push rax
    push rcx
    push rdx
    mov ecx, 0x80b
    xor eax, eax
    xor edx, edx
    wrmsr
    inc qword ptr [rip + pleat_fast_count]
    pop rdx
    pop rcx
    pop rax
    iretq

// fn(call: extern "C" fn(*mut ()), argument: *mut ()) -> whether a fault ended it.
// The exception handler continues at pleat_guarded_fault on the stack that pleat_recovery_stack names.
.balign 16
.global pleat_guarded_call
pleat_guarded_call:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push qword ptr [rip + pleat_recovery_stack]
    mov [rip + pleat_recovery_stack], rsp
    mov rax, rdi
    mov rdi, rsi
    call rax
    xor eax, eax
    jmp 2f
.global pleat_guarded_fault
pleat_guarded_fault:
    mov eax, 1
2:  pop qword ptr [rip + pleat_recovery_stack]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

// VMCALL at privilege level 3. It does not return: either VMCALL faults, or the CLI behind it (#GP).
.balign 16
.global pleat_user_vmcall
pleat_user_vmcall:
    mov rax, rsp
    push 0x1b               // user data
    push rax
    push 2                  // RFLAGS: interrupts off, I/O privilege level 0
    push 0x23               // user code
    lea rcx, [rip + 2f]
    push rcx
    mov rax, rdi
    iretq
2:  vmcall
    cli
    ud2

// Single-steps over CPUID: the debug trap must come right behind it, at pleat_step_cpuid_done.
.balign 16
.global pleat_step_cpuid
.global pleat_step_cpuid_done
pleat_step_cpuid:
    push rbx
    xor eax, eax
    xor ecx, ecx
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    cpuid
pleat_step_cpuid_done:
    nop
    nop
    pushfq
    and dword ptr [rsp], -0x101
    popfq
    pop rbx
    ret

// An instruction for a breakpoint.
.balign 16
.global pleat_breakpoint_here
pleat_breakpoint_here:
    nop
    ret

.section .bss.trap, "aw", @nobits
.balign 8
.global pleat_recovery_stack
pleat_recovery_stack: .skip 8
.global pleat_fast_count
pleat_fast_count: .skip 8

.text
