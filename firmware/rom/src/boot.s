# From the reset vector to the Rust stage in 64-bit mode.
#
# Registers that live through all of it: EBP:EBX = the time-stamp counter at reset (high:low).
#
# No RAM but the bundle may be touched before `touch_bundle` is through, not even by a push: Bochs hands out its
# RAM in blocks of 128 KiB in the order of first touch, but reads an `optramimage` as one run from the first block
# on. Who touches all of the image in ascending order first sees it right.

.set ROM_BASE, 0xFFFF0000
.set BUNDLE_BASE, 0x1000000
.set PAGE_TABLES, 0x1000
.set STACK_TOP, 0x80000

.set CODE32, 0x08
.set DATA, 0x10
.set CODE64, 0x18

.section .boot.reset, "ax"
.code16
.global reset_vector
reset_vector:
    jmp start16

.section .boot.code, "ax"
start16:
    cli
    cld
    rdtsc
    movl %eax, %ebx
    movl %edx, %ebp
    # At reset the base of CS is that of the ROM.
    lgdtl %cs:(gdt_pointer - ROM_BASE)
    # PE and ET; caches on (CD and NW are set at reset).
    movl $0x11, %eax
    movl %eax, %cr0
    ljmpl $CODE32, $start32

.code32
start32:
    movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs

    # A20 on, without a fast reset (bit 0). Half of the bundle needs it.
    inb $0x92, %al
    orb $2, %al
    andb $0xFE, %al
    outb %al, $0x92

    # EDX = RAM from 16 MiB on, in bytes: CMOS 0x35:0x34 has it in units of 64 KiB.
    xorl %edx, %edx
    movb $0x35, %al
    outb %al, $0x70
    inb $0x71, %al
    movb %al, %dh
    movb $0x34, %al
    outb %al, $0x70
    inb $0x71, %al
    movb %al, %dl
    shll $16, %edx

    # A wrong header is not reported here: the Rust stage reads it again and says what is wrong.
touch_bundle:
    testl %edx, %edx
    jz touched
    movl $BUNDLE_BASE, %esi
    cmpl $0x41454C50, (%esi)        # "PLEA"
    jne touched
    cmpl $0x31554254, 4(%esi)       # "TBU1"
    jne touched
    movl 16(%esi), %ecx             # size, low half
    cmpl $0, 20(%esi)               # size, high half
    jne touched
    cmpl %edx, %ecx
    ja touched
    shrl $12, %ecx
    jz touched
1:  movb (%esi), %al
    addl $4096, %esi
    decl %ecx
    jnz 1b
touched:

    # The Rust stage, from ROM to RAM, and its zeros.
    movl $stage_load, %esi
    movl $stage_start, %edi
    movl $stage_words, %ecx
    rep movsl
    xorl %eax, %eax
    movl $bss_start, %edi
    movl $bss_words, %ecx
    rep stosl

    # Identity map of 4 GiB: PML4, PDPT, and four page directories of 2 MiB pages.
    movl $PAGE_TABLES, %edi
    movl $2048, %ecx
    rep stosl
    movl $(PAGE_TABLES + 0x1003), PAGE_TABLES
    movl $(PAGE_TABLES + 0x2003), PAGE_TABLES + 0x1000
    movl $(PAGE_TABLES + 0x3003), PAGE_TABLES + 0x1008
    movl $(PAGE_TABLES + 0x4003), PAGE_TABLES + 0x1010
    movl $(PAGE_TABLES + 0x5003), PAGE_TABLES + 0x1018
    # Present, writable, large (bit 7). EDI is at the first page directory now.
    movl $0x83, %eax
    movl $2048, %ecx
1:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $0x200000, %eax
    addl $8, %edi
    decl %ecx
    jnz 1b

    movl $PAGE_TABLES, %eax
    movl %eax, %cr3
    # PAE, OSFXSR, OSXMMEXCPT: Rust's `core` uses SSE2.
    movl $0x620, %eax
    movl %eax, %cr4
    # EFER.LME.
    movl $0xC0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    # PG, NE, ET, MP, PE.
    movl $0x80000033, %eax
    movl %eax, %cr0
    ljmpl $CODE64, $stage_entry

.balign 8
gdt:
    .quad 0
    # Flat, with the accessed bits set, because the processor cannot set them in a ROM.
    .quad 0x00CF9B000000FFFF        # CODE32
    .quad 0x00CF93000000FFFF        # DATA
    .quad 0x00AF9B000000FFFF        # CODE64
gdt_pointer:
    .short gdt_pointer - gdt - 1
    .long gdt

.section .text.stage_entry, "ax"
.code64
stage_entry:
    movl $STACK_TOP, %esp
    # The upper halves of registers are undefined after 32-bit mode.
    movl %ebx, %edi
    shlq $32, %rbp
    orq %rbp, %rdi
    xorl %ebp, %ebp
    call firmware_main
    ud2
