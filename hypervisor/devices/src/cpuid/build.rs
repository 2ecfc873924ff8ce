//! Building the leaves.

use pleat_types::CpuidResult;

use super::features::{
    AVX, AVX2, EXTENDED_ECX, EXTENDED_EDX, LEAF_1_ECX, LEAF_1_ECX_OF_AVX, LEAF_1_ECX_OWN, LEAF_1_EDX,
    LEAF_1_EDX_OWN, LEAF_7_EBX, LEAF_7_EBX_OWN, XCR0_AVX, XCR0_X87_SSE, XSAVE, XSAVEOPT,
};
use super::{BASIC, EXTENDED, XsaveLeaves};
use crate::clock::TscRatio;

const MAX_BASIC: u32 = 0x16;
const MAX_EXTENDED: u32 = 0x8000_0008;
/// Family 6, model 85, stepping 4: the same for all guests wherever they run, so that equal kernels patch
/// themselves in equal ways and their pages stay equal.
const SIGNATURE: u32 = 0x5_0654;
/// CLFLUSH works on 8 quadwords; one logical processor; APIC ID 0.
const LEAF_1_EBX: u32 = 0x0001_0800;
/// One round; L1 data 32 KiB 8-way (2c), L1 code 32 KiB (30), L2 256 KiB 8-way (21); L3 8 MiB 16-way (e4).
/// Descriptors, not "ask leaf 4" (ff): the C library asks a dozen times at each program start.
const LEAF_2: CpuidResult = regs(0x2130_2c01, 0, 0, 0xe4);
/// The local APIC timer runs in every power state, so Linux never turns to the PIT (ARAT).
const LEAF_6: CpuidResult = regs(1 << 2, 0, 0, 0);
const PHYSICAL_BITS_MAX: u32 = 39;
const LINEAR_BITS: u32 = 48;
/// L2 256 KiB, 8-way, lines of 64 bytes.
const LEAF_80000006_ECX: u32 = 0x0100_6040;
const INVARIANT_TSC: u32 = 1 << 8;
const BRAND: &[u8; 48] = b"Pleat virtual processor\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// The size of the legacy region and the XSAVE header.
const XSAVE_BASE_BYTES: u32 = 576;

/// KVM's signature makes Linux keep x2APIC mode without interrupt remapping; bit 1 of the features says that
/// port 0x80 need not be written for delays.
pub(super) const HYPERVISOR: [CpuidResult; 2] = [
    regs(0x4000_0001, text(*b"KVMK"), text(*b"VMKV"), text(*b"M\0\0\0")),
    regs(1 << 1, 0, 0, 0),
];

/// Leaf 4: the caches of leaf 2.
pub(super) const CACHES: [CpuidResult; 4] = [
    cache(1, 1, 8, 64),
    cache(1, 2, 8, 64),
    cache(2, 3, 8, 512),
    cache(3, 3, 16, 8192),
];

const fn regs(eax: u32, ebx: u32, ecx: u32, edx: u32) -> CpuidResult {
    CpuidResult { eax, ebx, ecx, edx }
}

const fn text(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes)
}

/// One cache: its level, kind (1 data, 2 code, 3 both), ways and sets of 64-byte lines, for one processor.
const fn cache(level: u32, kind: u32, ways: u32, sets: u32) -> CpuidResult {
    regs(kind | level << 5 | 1 << 8, 63 | (ways - 1) << 22, sets - 1, 0)
}

/// What the host has, restricted to what we let through.
pub(super) struct HostFeatures {
    leaf_1: CpuidResult,
    leaf_7_ebx: u32,
    extended: CpuidResult,
    physical_bits: u32,
    pub(super) xsave: XsaveLeaves,
}

impl HostFeatures {
    pub(super) fn read(host: impl Fn(u32, u32) -> CpuidResult) -> Self {
        // Beyond its highest leaf a processor answers with some other leaf.
        let query = |leaf: u32, subleaf: u32| {
            let highest = host(leaf & 0x8000_0000, 0).eax;
            if leaf <= highest {
                host(leaf, subleaf)
            } else {
                CpuidResult::default()
            }
        };
        let mut leaf_1 = query(1, 0);
        leaf_1.ecx &= LEAF_1_ECX;
        leaf_1.edx &= LEAF_1_EDX;
        let mut leaf_7_ebx = query(7, 0).ebx & LEAF_7_EBX;

        let xsave = read_xsave(leaf_1.ecx, query);
        if xsave.components == 0 {
            leaf_1.ecx &= !XSAVE;
        }
        if xsave.components & XCR0_AVX == 0 {
            leaf_1.ecx &= !LEAF_1_ECX_OF_AVX;
            leaf_7_ebx &= !AVX2;
        }
        let mut extended = query(0x8000_0001, 0);
        extended.ecx &= EXTENDED_ECX;
        extended.edx &= EXTENDED_EDX;
        // 36 bits where a processor does not say (SDM vol. 2, CPUID).
        let physical_bits = match query(0x8000_0008, 0).eax & 0xff {
            0 => 36,
            bits => bits.min(PHYSICAL_BITS_MAX),
        };
        Self {
            leaf_1,
            leaf_7_ebx,
            extended,
            physical_bits,
            xsave,
        }
    }

    pub(super) fn basic(&self, tsc_hz: u64) -> [CpuidResult; BASIC] {
        let ratio = TscRatio::new(tsc_hz);
        let mhz = u32::try_from(tsc_hz / 1_000_000).unwrap_or(u32::MAX);
        let mut leaves = [CpuidResult::default(); BASIC];
        leaves[0] = regs(MAX_BASIC, text(*b"Genu"), text(*b"ntel"), text(*b"ineI"));
        leaves[1] = regs(
            SIGNATURE,
            LEAF_1_EBX,
            self.leaf_1.ecx | LEAF_1_ECX_OWN,
            self.leaf_1.edx | LEAF_1_EDX_OWN,
        );
        leaves[2] = LEAF_2;
        leaves[6] = LEAF_6;
        leaves[7] = regs(0, self.leaf_7_ebx | LEAF_7_EBX_OWN, 0, 0);
        leaves[0x15] = regs(1, ratio.tsc_per_crystal, ratio.crystal_hz, 0);
        leaves[0x16] = regs(mhz, mhz, 100, 0);
        leaves
    }

    pub(super) fn extended(&self) -> [CpuidResult; EXTENDED] {
        let mut leaves = [CpuidResult::default(); EXTENDED];
        leaves[0].eax = MAX_EXTENDED;
        leaves[1] = regs(0, 0, self.extended.ecx, self.extended.edx);
        for (leaf, bytes) in leaves[2..5].iter_mut().zip(BRAND.as_chunks::<16>().0) {
            let [eax, ebx, ecx, edx] =
                [0, 4, 8, 12].map(|at| text([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
            *leaf = regs(eax, ebx, ecx, edx);
        }
        leaves[6].ecx = LEAF_80000006_ECX;
        leaves[7].edx = INVARIANT_TSC;
        leaves[8].eax = self.physical_bits | LINEAR_BITS << 8;
        leaves
    }
}

/// The extended state that a guest may use: x87 and SSE, and AVX where instructions and state exist.
fn read_xsave(leaf_1_ecx: u32, query: impl Fn(u32, u32) -> CpuidResult) -> XsaveLeaves {
    let supported = query(0xd, 0).eax;
    if leaf_1_ecx & XSAVE == 0 || supported & XCR0_X87_SSE != XCR0_X87_SSE {
        return XsaveLeaves::default();
    }
    let avx = query(0xd, 2);
    let has_avx = leaf_1_ecx & AVX != 0 && supported & XCR0_AVX != 0;
    XsaveLeaves {
        components: if has_avx {
            XCR0_X87_SSE | XCR0_AVX
        } else {
            XCR0_X87_SSE
        },
        base_bytes: XSAVE_BASE_BYTES,
        avx_bytes: avx.ebx.saturating_add(avx.eax),
        instructions: query(0xd, 1).eax & XSAVEOPT,
        avx: if has_avx {
            regs(avx.eax, avx.ebx, 0, 0)
        } else {
            CpuidResult::default()
        },
    }
}
