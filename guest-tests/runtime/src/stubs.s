// One entry stub for each vector, 16 bytes apart. AT&T syntax: with the other one a symbol would be a
// memory operand.

.section .text.stubs, "ax"
.balign 16
.global pleat_trap_stubs
pleat_trap_stubs:
.set pleat_vector, 0
.rept 256
    .balign 16
    // #DF #TS #NP #SS #GP #PF #AC #CP #VC #SX push an error code by themselves (SDM table 6-1).
    .if (pleat_vector != 8) && (pleat_vector != 10) && (pleat_vector != 11) && (pleat_vector != 12) && (pleat_vector != 13) && (pleat_vector != 14) && (pleat_vector != 17) && (pleat_vector != 21) && (pleat_vector != 29) && (pleat_vector != 30)
    pushq $0
    .endif
    pushq $pleat_vector
    jmp pleat_trap_common
    .set pleat_vector, pleat_vector + 1
.endr

.text
