// From the loader's jump to the first Rust line. Intel syntax.
//
// The loader enters pleat_pvh_start in flat 32-bit protected mode, paging off, EBX = hvm_start_info
// (Xen docs/misc/pvh.pandoc, "x86/HVM direct boot ABI").

.section .note.pvh, "a", @note
.balign 4
.long 4                     // length of the name
.long 8                     // length of the descriptor
.long 18                    // XEN_ELFNOTE_PHYS32_ENTRY
.asciz "Xen"
.quad pleat_pvh_start

.section .text.boot, "ax"
.code32
.global pleat_pvh_start
pleat_pvh_start:
    cli
    cld
    mov ebp, ebx
    mov edi, offset pleat_bss_start
    mov ecx, offset pleat_bss_end
    sub ecx, edi
    shr ecx, 2
    xor eax, eax
    rep stosd

    // One PML4 entry, four PDPT entries, 2,048 pages of 2 MiB: the first 4 GiB, linear = physical.
    // All of it is user-accessible (flag 4), so that a test can run a few instructions in ring 3.
    mov eax, offset pleat_pdpt
    or eax, 7
    mov [pleat_pml4], eax
    mov eax, offset pleat_pd
    or eax, 7
    mov edi, offset pleat_pdpt
    mov ecx, 4
2:  mov [edi], eax
    add eax, 4096
    add edi, 8
    dec ecx
    jnz 2b
    mov eax, 0x87           // present, writable, user, large
    mov edi, offset pleat_pd
    mov ecx, 2048
3:  mov [edi], eax
    add eax, 0x200000
    add edi, 8
    dec ecx
    jnz 3b

    mov eax, offset pleat_pml4
    mov cr3, eax
    mov eax, 0x620          // PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov ecx, 0xc0000080     // IA32_EFER
    rdmsr
    or eax, 0x100           // LME
    wrmsr
    mov eax, 0x80010033     // PG, WP, NE, ET, MP, PE
    mov cr0, eax
    mov esp, offset pleat_stack_top
    lgdt [pleat_boot_gdt_pointer]
    push 8
    mov eax, offset pleat_long_mode
    push eax
    retf

.code64
pleat_long_mode:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    lea rsp, [rip + pleat_stack_top]
    mov edi, ebp
    xor ebp, ebp
    call pleat_guest_start
    ud2

.section .rodata.boot, "a"
.balign 8
pleat_boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff    // 64-bit code
    .quad 0x00cf93000000ffff    // data
pleat_boot_gdt_pointer:
    .word 23
    .long pleat_boot_gdt

.section .bss.tables, "aw", @nobits
.balign 4096
.global pleat_pdpt
pleat_pml4: .skip 4096
pleat_pdpt: .skip 4096
pleat_pd:   .skip 16384

.section .stacks, "aw", @nobits
.balign 4096
    .skip 65536
.global pleat_stack_top
pleat_stack_top:
    .skip 16384
.global pleat_exception_stack_top
pleat_exception_stack_top:
    .skip 16384
.global pleat_interrupt_stack_top
pleat_interrupt_stack_top:
    .skip 8192
.global pleat_double_fault_stack_top
pleat_double_fault_stack_top:

.text
