// Out of long mode and back. AT&T syntax: far jumps and sums of symbols are clearer in it.
//
// The image lies below 4 GiB and is mapped one to one, so this code is the same with paging and without.
// Interrupts are off, and the table of legacy handlers is empty: what faults here is a triple fault.

.set pleat_code64, 0x08
.set pleat_data, 0x10
.set pleat_code32, 0x38
.set pleat_user_data, 0x1b
.set pleat_user_code32, 0x53
.set pleat_task, 0x58

.section .text.modes, "ax"
// fn(routine: u64): runs a 32-bit routine in protected mode, paging off, long mode and PAE off.
.balign 16
.global pleat_excursion
pleat_excursion:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, pleat_modes_stack
    movq %cr3, %rax
    movq %rax, pleat_modes_cr3
    sidt pleat_modes_idt
    lidt pleat_modes_no_idt
    movl %edi, pleat_modes_routine
    pushq $pleat_code32
    pushq $pleat_excursion_down
    lretq
.code32
pleat_excursion_down:
    movl $pleat_data, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %cr0, %eax
    andl $0x7fffffff, %eax      // PG
    movl %eax, %cr0
    movl $0xc0000080, %ecx      // IA32_EFER
    rdmsr
    andl $0xfffffeff, %eax      // LME
    wrmsr
    movl %cr4, %eax
    andl $0xffffffdf, %eax      // PAE
    movl %eax, %cr4
    call *pleat_modes_routine
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl pleat_modes_cr3, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmpl $pleat_code64, $pleat_excursion_up
.code64
pleat_excursion_up:
    movl $pleat_data, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    lidt pleat_modes_idt
pleat_modes_return:
    movq pleat_modes_stack, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

// fn(entry: u64) -> EAX: runs 32-bit code in compatibility mode, which jumps to pleat_compatibility_back.
.balign 16
.global pleat_compatibility
pleat_compatibility:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, pleat_modes_stack
    pushq $pleat_code32
    pushq %rdi
    lretq
.global pleat_compatibility_back
pleat_compatibility_back:
    movl %eax, %eax
    jmp pleat_modes_return

.code32
// Two exits; the results go to pleat_modes_seen: CPUID 0x40000000's EBX, and what the null call gives.
pleat_modes_exits:
    movl $0x40000000, %eax
    xorl %ecx, %ecx
    cpuid
    movl %ebx, pleat_modes_seen
    movl $0x506c0000, %eax
    vmcall
    movl %eax, pleat_modes_seen + 4
    ret

// 32-bit paging with pages of 4 MiB, linear = physical, but for the second 4 MiB: an alias of the first.
.global pleat_paging_32
pleat_paging_32:
    movl $pleat_modes_tables, %edi
    movl $0x83, %eax
    movl $1024, %ecx
2:  movl %eax, (%edi)
    addl $0x400000, %eax
    addl $4, %edi
    decl %ecx
    jnz 2b
    movl $0x83, pleat_modes_tables + 4
    movl %cr4, %eax
    orl $0x10, %eax             // PSE
    movl %eax, %cr4
    movl $pleat_modes_tables, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    call pleat_modes_exits
    movl pleat_modes_mark + 0x400000, %eax
    movl %eax, pleat_modes_seen + 8
    jmp pleat_paging_off

// PAE paging. The second GiB is an alias of the first. Its PDPTE is taken out of memory after it was loaded:
// it stays in force, also over exits, until CR3 is written (SDM 4.4.1).
.global pleat_paging_pae
pleat_paging_pae:
    movl $pleat_modes_tables, %edi
    xorl %eax, %eax
    movl $8, %ecx
    rep stosl
    movl $pleat_pd + 1, %eax
    movl %eax, pleat_modes_tables
    movl %eax, pleat_modes_tables + 8
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $pleat_modes_tables, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    movl $0, pleat_modes_tables + 8
    call pleat_modes_exits
    invlpg pleat_modes_mark + 0x40000000
    movl pleat_modes_mark + 0x40000000, %eax
    movl %eax, pleat_modes_seen + 8
    // A write of CR0 that the host looks at and lets pass: it has the PDPTEs loaded again.
    movl $pleat_pd + 1, %eax
    movl %eax, pleat_modes_tables + 8
    movl %cr0, %eax
    xorl $0x40000000, %eax
    movl %eax, %cr0
    xorl $0x40000000, %eax
    movl %eax, %cr0
    invlpg pleat_modes_mark + 0x40000000
    movl pleat_modes_mark + 0x40000000, %eax
    movl %eax, pleat_modes_seen + 12
pleat_paging_off:
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    movl %cr4, %eax
    andl $0xffffffcf, %eax
    movl %eax, %cr4
    ret

// Calls a task: a task switch is an exit in every case.
.global pleat_call_task
pleat_call_task:
    lcall $pleat_task, $0
    ret

// Alignment checks without end: the handler runs at privilege level 3, on the misaligned stack that it was
// called with, so that the delivery of #AC is #AC again (CVE-2015-5307).
.global pleat_alignment_loop
pleat_alignment_loop:
    movl $pleat_alignment_user, %eax
    movw %ax, pleat_modes_gate
    shrl $16, %eax
    movw %ax, pleat_modes_gate + 6
    lidt pleat_modes_alignment_idt
    movl %cr0, %eax
    orl $0x40000, %eax          // AM
    movl %eax, %cr0
    pushl $pleat_user_data
    pushl $pleat_modes_user_stack_top - 1
    pushl $0x40002              // RFLAGS.AC
    pushl $pleat_user_code32
    pushl $pleat_alignment_user
    iretl
pleat_alignment_user:
    popl %eax
    jmp pleat_alignment_user

.section .data.modes, "aw"
.balign 16
pleat_modes_alignment_idt:
    .word 18 * 8 - 1
    .long pleat_modes_gate - 17 * 8
    .long 0
.balign 16
pleat_modes_gate:
    .word 0, pleat_user_code32, 0xee00, 0
pleat_modes_no_idt:
    .word 0
    .quad 0
.balign 4
pleat_modes_mark: .long 0x5a17c0de
.global pleat_modes_mark

// Not cleared, as the stacks: only who uses it touches it.
.section .stacks.modes, "aw", @nobits
.balign 4096
pleat_modes_tables: .skip 4096

.section .bss.modes, "aw", @nobits
.balign 8
pleat_modes_stack: .skip 8
pleat_modes_cr3: .skip 8
pleat_modes_routine: .skip 8
.global pleat_modes_seen
pleat_modes_seen: .skip 16
pleat_modes_idt: .skip 16
    .skip 256
pleat_modes_user_stack_top: .skip 16

.code64
.text
