//! The leaves, read by an independent decoder (`raw-cpuid`) and as Linux reads them.

use super::*;
use raw_cpuid::{CacheType, CpuId, CpuIdResult, TopologyType};
use std::vec::Vec;

const TSC_HZ: u64 = 2_100_000_000;
const RESET: ControlState = ControlState { cr4: 0, xcr0: 1 };

/// A host that claims every bit of every leaf.
fn everything(leaf: u32, subleaf: u32) -> CpuidResult {
    let ones = CpuidResult {
        eax: u32::MAX,
        ebx: u32::MAX,
        ecx: u32::MAX,
        edx: u32::MAX,
    };
    match (leaf, subleaf) {
        (0, _) => CpuidResult { eax: 0x20, ..ones },
        (0x8000_0000, _) => CpuidResult {
            eax: 0x8000_0021,
            ..ones
        },
        (0x8000_0008, _) => CpuidResult { eax: 0x3934, ..ones },
        (0xd, 2) => CpuidResult {
            eax: 256,
            ebx: 576,
            ecx: 0,
            edx: 0,
        },
        _ => ones,
    }
}

/// A host that has what runs this hypervisor and nothing more.
fn little(leaf: u32, _: u32) -> CpuidResult {
    let none = CpuidResult::default();
    match leaf {
        0 => CpuidResult { eax: 0x6, ..none },
        1 => CpuidResult {
            edx: 0x0788_a979,
            ..none
        },
        // Beyond the highest leaf: rubbish that must not be believed.
        7 | 0xd => everything(leaf, 0),
        0x8000_0000 => CpuidResult {
            eax: 0x8000_0008,
            ..none
        },
        0x8000_0001 => CpuidResult { edx: 1 << 29, ..none },
        0x8000_0008 => CpuidResult { eax: 0x3024, ..none },
        _ => none,
    }
}

fn decoder(policy: &CpuidPolicy, state: ControlState) -> CpuId<impl raw_cpuid::CpuIdReader + use<>> {
    let policy = policy.clone();
    CpuId::with_cpuid_reader(move |leaf, subleaf| {
        let CpuidResult { eax, ebx, ecx, edx } = policy.query(leaf, subleaf, state);
        CpuIdResult { eax, ebx, ecx, edx }
    })
}

#[test]
fn the_processor_is_the_same_on_every_host() {
    for host in [everything, little] {
        let cpuid = decoder(&CpuidPolicy::new(host, TSC_HZ), RESET);
        assert_eq!(cpuid.get_vendor_info().unwrap().as_str(), "GenuineIntel");
        let info = cpuid.get_feature_info().unwrap();
        assert_eq!(
            (info.family_id(), info.model_id(), info.stepping_id()),
            (6, 85, 4)
        );
        assert_eq!(
            (info.initial_local_apic_id(), info.max_logical_processor_ids()),
            (0, 1)
        );
        assert_eq!(info.cflush_cache_line_size(), 8);
        assert!(info.has_x2apic() && info.has_tsc_deadline() && info.has_hypervisor() && info.has_apic());
        assert!(cpuid.get_thermal_power_info().unwrap().has_arat());
        assert_eq!(
            cpuid
                .get_processor_brand_string()
                .unwrap()
                .as_str()
                .trim_end_matches('\0'),
            "Pleat virtual processor"
        );
        assert!(cpuid.get_advanced_power_mgmt_info().unwrap().has_invariant_tsc());
    }
}

#[test]
fn a_rich_host_shows_what_is_allowed_and_hides_the_rest() {
    let cpuid = decoder(&CpuidPolicy::new(everything, TSC_HZ), RESET);
    let info = cpuid.get_feature_info().unwrap();
    assert!(info.has_sse3() && info.has_ssse3() && info.has_sse41() && info.has_sse42() && info.has_aesni());
    assert!(info.has_pclmulqdq() && info.has_popcnt() && info.has_movbe() && info.has_rdrand());
    assert!(info.has_cmpxchg16b() && info.has_pcid() && info.has_xsave() && info.has_avx() && info.has_fma());
    assert!(info.has_f16c() && info.has_tsc() && info.has_msr() && info.has_pat() && info.has_sse2());
    assert!(!info.has_oxsave() && !info.has_monitor_mwait() && !info.has_vmx() && !info.has_smx());
    assert!(!info.has_mtrr() && !info.has_mce() && !info.has_mca() && !info.has_pdcm() && !info.has_ds());
    assert!(!info.has_htt() && !info.has_eist() && !info.has_acpi());

    let extended = cpuid.get_extended_feature_info().unwrap();
    assert!(extended.has_fsgsbase() && extended.has_smep() && extended.has_smap() && extended.has_rdseed());
    assert!(extended.has_bmi1() && extended.has_bmi2() && extended.has_avx2());
    assert!(extended.has_tsc_adjust_msr());
    assert!(!extended.has_rep_movsb_stosb() && !extended.has_invpcid() && !extended.has_avx512f());
    assert!(!extended.has_pku() && !extended.has_umip() && !extended.has_la57() && !extended.has_rdpid());
    assert!(!extended.has_rtm() && !extended.has_hle() && !extended.has_processor_trace());

    let amd = cpuid.get_extended_processor_and_feature_identifiers().unwrap();
    assert!(amd.has_syscall_sysret() && amd.has_execute_disable() && amd.has_1gib_pages());
    assert!(amd.has_64bit_mode() && amd.has_lahf_sahf() && amd.has_lzcnt());
    assert!(!amd.has_rdtscp() && !amd.has_svm());
    let address = cpuid.get_processor_capacity_feature_info().unwrap();
    assert_eq!(
        (address.physical_address_bits(), address.linear_address_bits()),
        (39, 48)
    );
}

#[test]
fn a_poor_host_loses_what_hangs_together() {
    let policy = CpuidPolicy::new(little, TSC_HZ);
    let cpuid = decoder(
        &policy,
        ControlState {
            cr4: u64::MAX,
            xcr0: u64::MAX,
        },
    );
    let info = cpuid.get_feature_info().unwrap();
    assert!(
        !info.has_xsave() && !info.has_avx() && !info.has_oxsave() && !info.has_sse3() && !info.has_vme()
    );
    assert!(!cpuid.get_extended_feature_info().unwrap().has_avx2());
    assert_eq!(policy.query(0xd, 0, RESET), CpuidResult::default());
    assert_eq!(policy.allowed_xcr0(), 0);
    assert_eq!(
        cpuid
            .get_processor_capacity_feature_info()
            .unwrap()
            .physical_address_bits(),
        36
    );

    // AVX instructions whose state cannot be enabled are no AVX.
    let no_state = |leaf, subleaf| match (leaf, subleaf) {
        (0xd, 0) => CpuidResult {
            eax: 3,
            ..CpuidResult::default()
        },
        _ => everything(leaf, subleaf),
    };
    // … and state without its instructions is not offered.
    let no_avx = |leaf, subleaf| match leaf {
        1 => CpuidResult {
            ecx: !features::AVX,
            ..everything(leaf, subleaf)
        },
        _ => everything(leaf, subleaf),
    };
    assert_eq!(CpuidPolicy::new(no_avx, TSC_HZ).allowed_xcr0(), 3);
    let policy = CpuidPolicy::new(no_state, TSC_HZ);
    let cpuid = decoder(&policy, RESET);
    let info = cpuid.get_feature_info().unwrap();
    assert!(info.has_xsave() && !info.has_avx() && !info.has_fma() && !info.has_f16c());
    assert!(!cpuid.get_extended_feature_info().unwrap().has_avx2());
    assert_eq!(policy.allowed_xcr0(), 3);
    assert_eq!(policy.query(0xd, 2, RESET), CpuidResult::default());
}

#[test]
fn xsave_leaves_follow_xcr0() {
    let policy = CpuidPolicy::new(everything, TSC_HZ);
    assert_eq!(policy.allowed_xcr0(), 7);
    for (xcr0, bytes) in [(1, 576), (3, 576), (7, 832)] {
        let cpuid = decoder(
            &policy,
            ControlState {
                cr4: CR4_OSXSAVE,
                xcr0,
            },
        );
        assert!(cpuid.get_feature_info().unwrap().has_oxsave());
        let state = cpuid.get_extended_state_info().unwrap();
        assert_eq!(state.xsave_area_size_enabled_features(), bytes);
        assert_eq!(state.xsave_area_size_supported_features(), 832);
        assert!(state.has_xsaveopt() && !state.has_xsavec() && !state.has_xsaves_xrstors());
        assert!(!state.has_xgetbv());
        assert!(state.xcr0_supports_sse_128() && state.xcr0_supports_avx_256());
        assert!(!state.xcr0_supports_avx512_opmask() && !state.xcr0_supports_pkru());
        let areas: Vec<_> = state
            .iter()
            .map(|area| (area.subleaf, area.size(), area.offset()))
            .collect();
        assert_eq!(areas, [(2, 256, 576)]);
    }
}

/// `native_calibrate_tsc` and `cpu_khz_from_cpuid` of arch/x86/kernel/tsc.c.
#[test]
fn linux_computes_the_right_tsc_frequency() {
    for tsc_hz in [200_000_000, 1_000_000_000, TSC_HZ, 2_899_886_000] {
        let policy = CpuidPolicy::new(everything, tsc_hz);
        let ratio = policy.query(0x15, 0, RESET);
        let tsc_khz = ratio.ecx / 1000 * ratio.ebx / ratio.eax;
        assert_eq!(u64::from(tsc_khz), tsc_hz / 1000);
        assert_eq!(u64::from(policy.query(0x16, 0, RESET).eax), tsc_hz / 1_000_000);
        let decoded = decoder(&policy, RESET).get_tsc_info().unwrap();
        assert_eq!(decoded.tsc_frequency(), Some(tsc_hz));
    }
}

#[test]
fn there_is_one_processor_with_sane_caches() {
    let cpuid = decoder(&CpuidPolicy::new(everything, TSC_HZ), RESET);
    let levels: Vec<_> = cpuid.get_extended_topology_info().unwrap().collect();
    let kinds: Vec<_> = levels
        .iter()
        .map(|level| (level.level_type(), level.processors()))
        .collect();
    assert_eq!(kinds, [(TopologyType::SMT, 1), (TopologyType::Core, 1)]);
    assert!(levels.iter().all(|level| level.x2apic_id() == 0));
    let caches: Vec<_> = cpuid
        .get_cache_parameters()
        .unwrap()
        .map(|cache| {
            let bytes = cache.associativity() * cache.sets() * cache.coherency_line_size();
            assert_eq!(
                (cache.max_cores_for_cache(), cache.physical_line_partitions()),
                (1, 1)
            );
            (cache.level(), cache.cache_type(), bytes >> 10)
        })
        .collect();
    let expected = [
        (1, CacheType::Data, 32),
        (1, CacheType::Instruction, 32),
        (2, CacheType::Unified, 256),
        (3, CacheType::Unified, 8192),
    ];
    assert_eq!(caches, expected);
    assert_eq!(cpuid.get_cache_info().unwrap().count(), 4);
    assert_eq!(cpuid.get_l2_l3_cache_and_tlb_info().unwrap().l2cache_size(), 256);
}

#[test]
fn the_kvm_signature_is_there_once() {
    let policy = CpuidPolicy::new(everything, TSC_HZ);
    let leaf = policy.query(0x4000_0000, 0, RESET);
    let bytes = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes).concat();
    assert_eq!((leaf.eax, &bytes[..]), (0x4000_0001, &b"KVMKVMKVM\0\0\0"[..]));
    assert_eq!(
        policy.query(0x4000_0001, 0, RESET),
        CpuidResult {
            eax: 2,
            ..CpuidResult::default()
        }
    );
    for leaf in (0x4000_0100..=0x4000_ff00).step_by(0x100) {
        assert_eq!(policy.query(leaf, 0, RESET), CpuidResult::default());
    }
}

#[test]
fn leaves_that_do_not_exist_read_zero() {
    let policy = CpuidPolicy::new(everything, TSC_HZ);
    let leaves = [
        3,
        5,
        8,
        9,
        0xa,
        0xc,
        0xe,
        0xf,
        0x10,
        0x14,
        0x17,
        0x4000_0002,
        0x8000_0009,
        0xc000_0000,
        u32::MAX,
    ];
    for leaf in leaves {
        assert_eq!(policy.query(leaf, 0, RESET), CpuidResult::default(), "{leaf:#x}");
    }
    for (leaf, subleaf) in [(4, 4), (7, 1), (0xd, 3), (0xd, 63), (4, u32::MAX)] {
        assert_eq!(
            policy.query(leaf, subleaf, RESET),
            CpuidResult::default(),
            "{leaf:#x}.{subleaf}"
        );
    }
    assert_eq!(
        policy.query(0xb, 2, RESET),
        CpuidResult {
            ecx: 2,
            ..CpuidResult::default()
        }
    );
}
