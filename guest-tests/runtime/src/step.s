// Sequences that run with the trap flag, and the places where they have to trap. Intel syntax.

// The processor has to report a single step here.
.macro pleat_trap_here
777:
    .pushsection .rodata.steps, "a"
    .quad 777b
    .popsection
.endm

// `places` begins the list for a sequence.
.macro pleat_steps_begin places
    .pushsection .rodata.steps, "a"
    .balign 8
    .global \places
\places:
    .popsection
    push rbx
    mov r8d, ss
    pushfq
    or dword ptr [rsp], 0x100
    popfq
.endm

.macro pleat_steps_end
    pushfq
    pleat_trap_here
    and dword ptr [rsp], -0x101
    pleat_trap_here
    popfq
    pleat_trap_here             // the flag was still set when POPF began
    pop rbx
    ret
    .pushsection .rodata.steps, "a"
    .quad 0
    .popsection
.endm

.section .text.steps, "ax"

// Instructions that the host executes. Not MOV to CR0, which the host lets the processor execute after the
// exit: Bochs saves the step as pending at such an exit (SDM 28.3.4 has it cleared), so that it comes twice.
.balign 16
.global pleat_step_exits
pleat_step_exits:
    pleat_steps_begin pleat_step_exits_places
    xor eax, eax
    pleat_trap_here
    xor ecx, ecx
    pleat_trap_here
    cpuid
    pleat_trap_here
    mov edx, 0x3ff
    pleat_trap_here
    in al, dx
    pleat_trap_here
    out dx, al
    pleat_trap_here
    mov ecx, 0x1b
    pleat_trap_here
    rdmsr
    pleat_trap_here
    wrmsr
    pleat_trap_here
    mov eax, 0x506c0000
    pleat_trap_here
    vmcall
    pleat_trap_here
    wbinvd
    pleat_trap_here
    invd
    pleat_trap_here
    xor ecx, ecx
    pleat_trap_here
    xgetbv
    pleat_trap_here
    xsetbv
    pleat_trap_here
    pause
    pleat_trap_here
    pleat_steps_end

// Exits in the shadow of MOV SS (which keeps #DB away for an instruction) and of STI (which does not).
.balign 16
.global pleat_step_shadows
pleat_step_shadows:
    pleat_steps_begin pleat_step_shadows_places
    mov ss, r8d
    cpuid
    pleat_trap_here
    mov ecx, 0x1b
    pleat_trap_here
    mov ss, r8d
    rdmsr
    pleat_trap_here
    sti
    pleat_trap_here
    cpuid
    pleat_trap_here
    mov ss, r8d
    cpuid
    pleat_trap_here
    mov edx, 0x3ff
    pleat_trap_here
    mov ss, r8d
    in al, dx
    pleat_trap_here
    mov eax, 0x506c0000
    pleat_trap_here
    vmcall
    pleat_trap_here
    nop
    pleat_trap_here
    cli
    pleat_trap_here
    sti
    pleat_trap_here
    cpuid
    pleat_trap_here
    cli
    pleat_trap_here
    pleat_steps_end

// INT1 is a #DB of its own, and its entry drops the step.
.balign 16
.global pleat_step_int1
pleat_step_int1:
    pleat_steps_begin pleat_step_int1_places
    sti
    pleat_trap_here
    .byte 0xf1
    pleat_trap_here
    nop
    pleat_trap_here
    cli
    pleat_trap_here
    pleat_steps_end

// Debug exceptions that end the call: INT1 in the shadow of STI, without the trap flag; and behind MOV SS,
// with it.
.balign 16
.global pleat_int1_behind_sti
pleat_int1_behind_sti:
    cli
    sti
    .byte 0xf1
.global pleat_int1_behind_sti_done
pleat_int1_behind_sti_done:
    cli
    ret

.balign 16
.global pleat_int1_behind_mov_ss
pleat_int1_behind_mov_ss:
    mov eax, ss
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    mov ss, eax
    .byte 0xf1
.global pleat_int1_behind_mov_ss_done
pleat_int1_behind_mov_ss_done:
    pushfq
    and dword ptr [rsp], -0x101
    popfq
    ret

// One INT1.
.balign 16
.global pleat_int1
pleat_int1:
    .byte 0xf1
    ret

// XSETBV at privilege level 3 with a value that is in force already. It ends in #GP: here, or at the CLI
// behind it.
.balign 16
.global pleat_user_xsetbv
.global pleat_user_xsetbv_here
pleat_user_xsetbv:
    xor ecx, ecx
    xgetbv
    mov r8, rsp
    push 0x1b
    push r8
    push 2
    push 0x23
    lea r8, [rip + pleat_user_xsetbv_here]
    push r8
    iretq
pleat_user_xsetbv_here:
    xsetbv
    cli
    ud2

.text
