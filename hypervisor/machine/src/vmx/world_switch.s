# pleat_enter_guest(context: rdi, is_launched: rsi) -> rax: 0 after a VM exit, 1 if the entry instruction
# failed without one. Offsets are those of `Context` in context.rs.
#
# The general-purpose registers, XMM0-15 and MXCSR are the guest's between entry and exit; the upper
# halves of wider vector registers stay where they are, because nothing in Pleat touches them.
.section .text.world_switch, "ax"
.globl pleat_enter_guest
.balign 64
pleat_enter_guest:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    push rdi
    mov eax, 0x6c14                 # HOST_RSP
    vmwrite rax, rsp
    stmxcsr [rdi + {host_mxcsr}]
    ldmxcsr [rdi + {mxcsr}]
    movaps xmm0, [rdi + {xmm} + 0x00]
    movaps xmm1, [rdi + {xmm} + 0x10]
    movaps xmm2, [rdi + {xmm} + 0x20]
    movaps xmm3, [rdi + {xmm} + 0x30]
    movaps xmm4, [rdi + {xmm} + 0x40]
    movaps xmm5, [rdi + {xmm} + 0x50]
    movaps xmm6, [rdi + {xmm} + 0x60]
    movaps xmm7, [rdi + {xmm} + 0x70]
    movaps xmm8, [rdi + {xmm} + 0x80]
    movaps xmm9, [rdi + {xmm} + 0x90]
    movaps xmm10, [rdi + {xmm} + 0xa0]
    movaps xmm11, [rdi + {xmm} + 0xb0]
    movaps xmm12, [rdi + {xmm} + 0xc0]
    movaps xmm13, [rdi + {xmm} + 0xd0]
    movaps xmm14, [rdi + {xmm} + 0xe0]
    movaps xmm15, [rdi + {xmm} + 0xf0]
    test esi, esi                   # flags survive the moves below
    mov rax, [rdi + 0x00]
    mov rcx, [rdi + 0x08]
    mov rdx, [rdi + 0x10]
    mov rbx, [rdi + 0x18]
    mov rbp, [rdi + 0x28]
    mov rsi, [rdi + 0x30]
    mov r8, [rdi + 0x40]
    mov r9, [rdi + 0x48]
    mov r10, [rdi + 0x50]
    mov r11, [rdi + 0x58]
    mov r12, [rdi + 0x60]
    mov r13, [rdi + 0x68]
    mov r14, [rdi + 0x70]
    mov r15, [rdi + 0x78]
    mov rdi, [rdi + 0x38]
    jz 1f
    vmresume
    jmp 2f
1:  vmlaunch
2:  # The instruction failed: the context pointer is still on the stack.
    pop rdi
    ldmxcsr [rdi + {host_mxcsr}]
    mov eax, 1
    jmp 3f

.globl pleat_vm_exit
.balign 16
pleat_vm_exit:
    push rdi
    mov rdi, [rsp + 8]
    mov [rdi + 0x00], rax
    mov [rdi + 0x08], rcx
    mov [rdi + 0x10], rdx
    mov [rdi + 0x18], rbx
    mov [rdi + 0x28], rbp
    mov [rdi + 0x30], rsi
    mov [rdi + 0x40], r8
    mov [rdi + 0x48], r9
    mov [rdi + 0x50], r10
    mov [rdi + 0x58], r11
    mov [rdi + 0x60], r12
    mov [rdi + 0x68], r13
    mov [rdi + 0x70], r14
    mov [rdi + 0x78], r15
    pop rax
    mov [rdi + 0x38], rax
    movaps [rdi + {xmm} + 0x00], xmm0
    movaps [rdi + {xmm} + 0x10], xmm1
    movaps [rdi + {xmm} + 0x20], xmm2
    movaps [rdi + {xmm} + 0x30], xmm3
    movaps [rdi + {xmm} + 0x40], xmm4
    movaps [rdi + {xmm} + 0x50], xmm5
    movaps [rdi + {xmm} + 0x60], xmm6
    movaps [rdi + {xmm} + 0x70], xmm7
    movaps [rdi + {xmm} + 0x80], xmm8
    movaps [rdi + {xmm} + 0x90], xmm9
    movaps [rdi + {xmm} + 0xa0], xmm10
    movaps [rdi + {xmm} + 0xb0], xmm11
    movaps [rdi + {xmm} + 0xc0], xmm12
    movaps [rdi + {xmm} + 0xd0], xmm13
    movaps [rdi + {xmm} + 0xe0], xmm14
    movaps [rdi + {xmm} + 0xf0], xmm15
    stmxcsr [rdi + {mxcsr}]
    ldmxcsr [rdi + {host_mxcsr}]
    add rsp, 8
    xor eax, eax
3:  pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
