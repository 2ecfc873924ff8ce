# The two ways in. Both end in pleat_start(info, magic) on the boot stack, in long mode with every
# address below 4 GiB mapped to itself, SSE on (the precompiled core uses it), interrupts off.

.set MULTIBOOT2_MAGIC, 0xe85250d6
.set CR0_PE, 1 << 0
.set CR0_MP, 1 << 1
.set CR0_EM, 1 << 2
.set CR0_TS, 1 << 3
.set CR0_PG, 1 << 31
.set CR4_PAE, 1 << 5
.set CR4_SSE, (1 << 9) | (1 << 10)
.set EFER, 0xc0000080
.set EFER_LME, 1 << 8

# Multiboot 2 header (specification 3.1.2 to 3.1.10).
.section .multiboot2, "a"
.balign 8
header:
    .long MULTIBOOT2_MAGIC, 0, header_end - header, -(MULTIBOOT2_MAGIC + (header_end - header))
    .balign 8
    .short 3, 0                     # entry address
    .long 12, start32
    .balign 8
    .short 6, 0                     # modules aligned to pages: their frames go to guests as they are
    .long 8
    .balign 8
    .short 0, 0                     # end
    .long 8
header_end:

.section .text.boot, "ax"

# From our own ROM: long mode already, RDI = the boot information.
.code64
.globl _start
_start:
    cli
    cld
    lea rsp, [rip + __stack_top]
    xor ebp, ebp
    xor esi, esi
    call {start}
    ud2

# From a Multiboot 2 loader: 32-bit protected mode, EAX = magic, EBX = information.
.code32
start32:
    cli
    cld
    mov esp, offset __stack_top
    mov esi, eax                    # second argument, kept until the call
    mov edi, offset boot_pml4
    lea eax, [edi + 0x1003]         # PML4[0] -> PDPT
    mov [edi], eax
    lea eax, [edi + 0x2003]         # PDPT[0..4] -> four page directories
    mov ecx, 4
    lea edx, [edi + 0x1000]
1:  mov [edx], eax
    add eax, 0x1000
    add edx, 8
    loop 1b
    mov eax, 0x83                   # present, writable, 2 MiB
    mov ecx, 2048
    lea edx, [edi + 0x2000]
2:  mov [edx], eax
    add eax, 0x200000
    add edx, 8
    loop 2b
    mov cr3, edi
    mov eax, cr4
    or eax, CR4_PAE | CR4_SSE
    mov cr4, eax
    mov ecx, EFER
    rdmsr
    or eax, EFER_LME
    wrmsr
    mov eax, cr0
    and eax, ~(CR0_EM | CR0_TS)     # a loader may leave any of them set
    or eax, CR0_PG | CR0_PE | CR0_MP
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    push 8
    mov eax, offset start64
    push eax
    retf
.code64
start64:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    lea rsp, [rip + __stack_top]
    xor ebp, ebp
    mov edi, ebx
    mov esi, esi
    call {start}
    ud2

.section .rodata.boot, "a"
.balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9a000000ffff        # 64-bit code
    .quad 0x00cf92000000ffff        # data
boot_gdt_pointer:
    .short boot_gdt_pointer - boot_gdt - 1
    .quad boot_gdt

# Tables for the way from 32 to 64 bits; paging.rs builds the real ones.
.section .bss.boot, "aw", @nobits
.balign 4096
boot_pml4:
    .skip 6 * 4096
