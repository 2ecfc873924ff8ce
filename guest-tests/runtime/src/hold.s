// Holds a set of registers across something that leaves the guest. Intel syntax.
//
// fn(set: *const Registers, seen: *mut Registers, how: u64, count: u64, has_avx: u64)
// The layout of Registers: FXSAVE area, 16 YMM registers at 512, R8 to R15 and RBP at 1024.

.section .text.hold, "ax"
.balign 16
.global pleat_hold
pleat_hold:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push r8                 // [rsp + 32]: has_avx
    push rdx                // [rsp + 24]: how
    push rcx                // [rsp + 16]: count
    push rsi                // [rsp + 8]: seen
    push rdi
    fxrstor64 [rdi]
    test r8, r8
    jz 2f
    vmovdqu ymm0, [rdi + 512]
    vmovdqu ymm1, [rdi + 544]
    vmovdqu ymm2, [rdi + 576]
    vmovdqu ymm3, [rdi + 608]
    vmovdqu ymm4, [rdi + 640]
    vmovdqu ymm5, [rdi + 672]
    vmovdqu ymm6, [rdi + 704]
    vmovdqu ymm7, [rdi + 736]
    vmovdqu ymm8, [rdi + 768]
    vmovdqu ymm9, [rdi + 800]
    vmovdqu ymm10, [rdi + 832]
    vmovdqu ymm11, [rdi + 864]
    vmovdqu ymm12, [rdi + 896]
    vmovdqu ymm13, [rdi + 928]
    vmovdqu ymm14, [rdi + 960]
    vmovdqu ymm15, [rdi + 992]
2:
    mov r8, [rdi + 1024]
    mov r9, [rdi + 1032]
    mov r10, [rdi + 1040]
    mov r11, [rdi + 1048]
    mov r12, [rdi + 1056]
    mov r13, [rdi + 1064]
    mov r14, [rdi + 1072]
    mov r15, [rdi + 1080]
    mov rbp, [rdi + 1088]
    mov rax, [rsp + 24]
    mov rsi, [rsp + 16]
    cmp rax, 1
    je 4f
    cmp rax, 2
    je 5f
    cmp rax, 3
    je 6f
3:  dec rsi                 // 0: run
    jnz 3b
    jmp 7f
4:  xor eax, eax            // 1: CPUID
    xor ecx, ecx
    cpuid
    dec rsi
    jnz 4b
    jmp 7f
5:  sti                     // 2: sleep
    hlt
    cli
    jmp 7f
6:  mov eax, 0x506c0000     // 3: the null hypercall
    vmcall
    dec rsi
    jnz 6b
7:
    mov rsi, [rsp + 8]
    mov [rsi + 1024], r8
    mov [rsi + 1032], r9
    mov [rsi + 1040], r10
    mov [rsi + 1048], r11
    mov [rsi + 1056], r12
    mov [rsi + 1064], r13
    mov [rsi + 1072], r14
    mov [rsi + 1080], r15
    mov [rsi + 1088], rbp
    fxsave64 [rsi]
    cmp qword ptr [rsp + 32], 0
    je 8f
    vmovdqu [rsi + 512], ymm0
    vmovdqu [rsi + 544], ymm1
    vmovdqu [rsi + 576], ymm2
    vmovdqu [rsi + 608], ymm3
    vmovdqu [rsi + 640], ymm4
    vmovdqu [rsi + 672], ymm5
    vmovdqu [rsi + 704], ymm6
    vmovdqu [rsi + 736], ymm7
    vmovdqu [rsi + 768], ymm8
    vmovdqu [rsi + 800], ymm9
    vmovdqu [rsi + 832], ymm10
    vmovdqu [rsi + 864], ymm11
    vmovdqu [rsi + 896], ymm12
    vmovdqu [rsi + 928], ymm13
    vmovdqu [rsi + 960], ymm14
    vmovdqu [rsi + 992], ymm15
    vzeroupper
8:  fninit
    mov dword ptr [rsp], 0x1f80
    ldmxcsr [rsp]
    add rsp, 40
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

.text
