// A page of 16-bit code, which is copied to 0x8000 and runs there. AT&T syntax.

.set pleat_low, 0x8000
.macro pleat_at name
    .set pleat_at_\name, pleat_real_\name - pleat_real_page + pleat_low
.endm

// What comes before an instruction that has to end in a vector of the interrupt vector table, and behind it.
// BP = a slot of eight words: SP in the handler; IP, CS and FLAGS on its stack; SP after IRET; the right IP;
// SP before; the vector.
.macro pleat_case slot, stack, place
    movw $(pleat_at_slots + \slot * 16), %bp
    movw $\stack, %sp
    movw $\stack, 12(%bp)
    movw $(\place - pleat_real_page + pleat_low), 10(%bp)
    movw $(99f - pleat_real_page + pleat_low), pleat_at_next
.endm
.macro pleat_case_end
99: movw %sp, 8(%bp)
.endm

.section .text.modes, "ax"
.code32
// The 32-bit routine that goes there.
.balign 16
.global pleat_visit_real_mode
pleat_visit_real_mode:
    movl %esp, pleat_real_stack
    ljmpl $0x40, $pleat_low
pleat_real_back:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    lidt pleat_modes_no_idt
    movl pleat_real_stack, %esp
    ret

.section .bss.modes, "aw", @nobits
.balign 8
pleat_real_stack: .skip 8

.section .rodata.real, "a"
.balign 4096
.global pleat_real_page
.code16
pleat_real_page:
    // 16-bit protected mode, the segment's base is 0.
    movw $0x48, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs
    movl $0x40000000, %eax
    xorl %ecx, %ecx
    cpuid
    movl %ebx, pleat_at_words + 0
    movl %cr0, %eax
    andl $0xfffffffe, %eax
    movl %eax, %cr0
    ljmpw $0, $(pleat_real_start - pleat_real_page + pleat_low)
pleat_real_start:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs
    movw $0xa000, %sp
    lidtl pleat_at_pointer

    movl $0x40000000, %eax
    xorl %ecx, %ecx
    cpuid
    movl %ebx, pleat_at_words + 4
    movl $0x506c0000, %eax          // the null call
    vmcall
    movl %eax, pleat_at_words + 8
    movw $0x3ff, %dx                // the UART's scratch register
    movl $0x12345677, %eax
    outb %al, %dx
    movl $0x5a5a5a00, %eax
    inb %dx, %al
    movl %eax, pleat_at_words + 12
    movl $0x1b, %ecx                // IA32_APIC_BASE
    rdmsr
    movl %eax, pleat_at_words + 16

    // Exceptions, each on a stack page that nobody has touched: the delivery is broken off and comes again.
    movl $0x12345678, %ecx
    pleat_case 0, 0xb000, 97f
97: rdmsr
    pleat_case_end
    movl $0x12345678, %ecx
    pleat_case 1, 0xc000, 97f
97: wrmsr
    pleat_case_end
    xorl %eax, %eax
    xorl %edx, %edx
    xorl %ecx, %ecx
    pleat_case 2, 0xd000, 97f
97: xsetbv
    pleat_case_end
    pleat_case 3, 0xe000, 97f
97: vmxoff
    pleat_case_end
    pleat_case 4, 0xf000, 97f
    int $0x32
97: nop
    pleat_case_end
    // The same once more on pages that are there.
    movl $0x12345678, %ecx
    pleat_case 5, 0xa000, 97f
97: rdmsr
    pleat_case_end
    // A single step over CPUID.
    xorl %eax, %eax
    xorl %ecx, %ecx
    pleat_case 6, 0xa000, 97f
    pushfw
    popw %ax
    orw $0x100, %ax
    pushw %ax
    popfw
    cpuid
97: nop
    pleat_case_end
    // CPUID as the last instruction of the segment: the next one lies outside.
    xorl %eax, %eax
    xorl %ecx, %ecx
    pleat_case 7, 0xa000, pleat_real_page + 0x8000
    movw $0xfffe, %bx
    movw $0xa20f, (%bx)
    jmp *%bx
    pleat_case_end

    // HLT until the TSC deadline, then with an interrupt pending already.
    movw $0xa000, %sp
    movl $0x832, %ecx               // LVT timer: deadline mode
    movl $0x40030, %eax
    xorl %edx, %edx
    wrmsr
    rdtsc
    addl $20000, %eax
    adcl $0, %edx
    movl $0x6e0, %ecx
    wrmsr
    sti
    hlt
    cli
    movl pleat_at_count, %eax
    movl %eax, pleat_at_words + 20
    movl $0x83f, %ecx               // self-IPI
    movl $0x31, %eax
    xorl %edx, %edx
    wrmsr
    sti
    hlt
    cli
    movl pleat_at_count, %eax
    movl %eax, pleat_at_words + 24
pleat_real_leave:
    movl $0x1de, pleat_at_words + 28
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    xorl %eax, %eax                 // protected mode with real mode's segments
    cpuid
    ljmpl $0x38, $pleat_real_back

pleat_real_debug:
    movw $1, %ax
    jmp pleat_real_common
pleat_real_invalid:
    movw $6, %ax
    jmp pleat_real_common
pleat_real_protection:
    movw $13, %ax
    jmp pleat_real_common
pleat_real_software:
    movw $0x32, %ax
pleat_real_common:
    movw %ax, 14(%bp)
    movw %sp, %bx
    movw %bx, (%bp)
    movw (%bx), %ax
    movw %ax, 2(%bp)
    movw 2(%bx), %ax
    movw %ax, 4(%bp)
    movw 4(%bx), %ax
    movw %ax, 6(%bp)
    movw pleat_at_next, %ax
    movw %ax, (%bx)
    movw $0, 2(%bx)
    andw $0xfeff, 4(%bx)            // no single steps from here on
    iretw

pleat_real_interrupt:
    pushal
    incl pleat_at_count
    movl $0x80b, %ecx               // EOI
    xorl %eax, %eax
    xorl %edx, %edx
    wrmsr
    popal
    iretw

// A vector that nobody asked for: the results stay incomplete.
pleat_real_unexpected:
    movw $0xa000, %sp
    jmp pleat_real_leave

pleat_real_pointer:
    .word 0x33 * 4 - 1
    .long pleat_at_vectors
.balign 4
pleat_real_next: .long 0
pleat_real_count: .long 0
    pleat_at pointer
    pleat_at next
    pleat_at count
    pleat_at vectors
    pleat_at slots
    pleat_at words

.macro pleat_gate name
    .word pleat_real_\name - pleat_real_page + pleat_low, 0
.endm
.balign 16
pleat_real_vectors:
    pleat_gate unexpected           // 0
    pleat_gate debug                // 1
    .rept 4
    pleat_gate unexpected
    .endr
    pleat_gate invalid              // 6
    .rept 6
    pleat_gate unexpected
    .endr
    pleat_gate protection           // 13
    .rept 0x30 - 14
    pleat_gate unexpected
    .endr
    pleat_gate interrupt            // 0x30
    pleat_gate interrupt            // 0x31
    pleat_gate software             // 0x32

.org pleat_real_page + 0xc00
pleat_real_slots:
    .skip 128
.org pleat_real_page + 0xe00
pleat_real_words:
    .skip 32
.org pleat_real_page + 0x1000

.code64
.text
