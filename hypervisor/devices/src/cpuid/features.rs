//! The features that guests may have, as masks of CPUID registers.
//!
//! What is missing here is missing on purpose:
//! - MONITOR, VMX, SMX, PKU, UMIP, LA57: control bits that we do not let through;
//! - MTRR, MCE, MCA, DS, PDCM, PMU, ARCH_CAPABILITIES, SPEC_CTRL: MSRs that this machine does not have;
//! - ERMS, FSRM: Linux would use `rep movsb/stosb`, byte by byte in an emulator (54 million steps of a boot);
//! - RDTSCP, RDPID: TSC_AUX is not switched; INVPCID: not enabled in the VMCS;
//! - XSAVES, XSAVEC and all state beyond AVX: guests have x87, SSE and AVX state.

/// Leaf 1 ECX, where the host has it.
pub(super) const LEAF_1_ECX: u32 = SSE3
    | PCLMULQDQ
    | SSSE3
    | FMA
    | CMPXCHG16B
    | PCID
    | SSE4_1
    | SSE4_2
    | MOVBE
    | POPCNT
    | AES
    | XSAVE
    | AVX
    | F16C
    | RDRAND;
const SSE3: u32 = 1 << 0;
const PCLMULQDQ: u32 = 1 << 1;
const SSSE3: u32 = 1 << 9;
const FMA: u32 = 1 << 12;
const CMPXCHG16B: u32 = 1 << 13;
const PCID: u32 = 1 << 17;
const SSE4_1: u32 = 1 << 19;
const SSE4_2: u32 = 1 << 20;
const MOVBE: u32 = 1 << 22;
const POPCNT: u32 = 1 << 23;
const AES: u32 = 1 << 25;
pub(super) const XSAVE: u32 = 1 << 26;
pub(super) const OSXSAVE: u32 = 1 << 27;
pub(super) const AVX: u32 = 1 << 28;
const F16C: u32 = 1 << 29;
const RDRAND: u32 = 1 << 30;

/// Leaf 1 ECX, whatever the host has: ours are emulated. x2APIC, TSC deadline, hypervisor.
pub(super) const LEAF_1_ECX_OWN: u32 = 1 << 21 | 1 << 24 | 1 << 31;
/// Leaf 1 ECX that means nothing without AVX.
pub(super) const LEAF_1_ECX_OF_AVX: u32 = AVX | FMA | F16C;

/// Leaf 1 EDX: FPU, VME, DE, PSE, TSC, MSR, PAE, CX8, SEP, PGE, CMOV, PAT, PSE36, CLFSH, MMX, FXSR, SSE, SSE2.
pub(super) const LEAF_1_EDX: u32 = 0x078b_a97f;
/// Leaf 1 EDX, ours: the local APIC.
pub(super) const LEAF_1_EDX_OWN: u32 = 1 << 9;

/// Leaf 7 EBX, where the host has it. Bits 6 and 13 say how the FPU saves its pointers, which is so anyway.
pub(super) const LEAF_7_EBX: u32 = FSGSBASE
    | BMI1
    | AVX2
    | FPU_DATA_POINTER_ON_EXCEPTION_ONLY
    | SMEP
    | BMI2
    | FPU_SELECTORS_DEPRECATED
    | RDSEED
    | ADX
    | SMAP
    | CLFLUSHOPT;
const FSGSBASE: u32 = 1 << 0;
const BMI1: u32 = 1 << 3;
pub(super) const AVX2: u32 = 1 << 5;
const FPU_DATA_POINTER_ON_EXCEPTION_ONLY: u32 = 1 << 6;
const SMEP: u32 = 1 << 7;
const BMI2: u32 = 1 << 8;
const FPU_SELECTORS_DEPRECATED: u32 = 1 << 13;
const RDSEED: u32 = 1 << 18;
const ADX: u32 = 1 << 19;
const SMAP: u32 = 1 << 20;
const CLFLUSHOPT: u32 = 1 << 23;
/// Leaf 7 EBX, ours: IA32_TSC_ADJUST.
pub(super) const LEAF_7_EBX_OWN: u32 = 1 << 1;

/// Leaf 0x8000_0001: LAHF, LZCNT, PREFETCHW; SYSCALL, NX, 1 GiB pages, long mode.
pub(super) const EXTENDED_ECX: u32 = 1 << 0 | 1 << 5 | 1 << 8;
pub(super) const EXTENDED_EDX: u32 = 1 << 11 | 1 << 20 | 1 << 26 | 1 << 29;

/// Leaf 0xD, subleaf 1: XSAVEOPT.
pub(super) const XSAVEOPT: u32 = 1 << 0;

/// Bits of XCR0.
pub(super) const XCR0_X87_SSE: u32 = 3;
pub(super) const XCR0_AVX: u32 = 4;

/// CR4.OSXSAVE, which leaf 1 reflects.
pub(super) const CR4_OSXSAVE: u64 = 1 << 18;
