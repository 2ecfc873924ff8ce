//! Whatever a guest does to its board: no panic, bounded buffers, and time that goes on.

use std::collections::BTreeSet;

use pleat_devices::cpuid::{ControlState, CpuidPolicy};
use pleat_devices::virtio::DeviceSet;
use pleat_devices::{Board, BoardConfig, MsrEffect, Pending};
use pleat_types::{CpuidResult, PortSize, Tsc};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::{collection, prop_assert, prop_assert_eq};

#[derive(Clone, Debug)]
enum Step {
    Read(u16, PortSize),
    Write(u16, PortSize, u32),
    ReadMsr(u32, u8),
    WriteMsr(u32, u64),
    Wait(u64),
    WaitForDeadline,
    Take(u8),
    Type(u8),
    Drain,
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        8 => 0x3f8u16..=0x3ff,
        4 => 0x40u16..=0x43,
        4 => prop_oneof![Just(0x20), Just(0x21), Just(0xa0), Just(0xa1), Just(0x4d0), Just(0x4d1)],
        2 => prop_oneof![Just(0x60), Just(0x61), Just(0x64), Just(0x70), Just(0x71), Just(0x80)],
        4 => 0xcf8u16..=0xcff,
        1 => any::<u16>(),
    ]
}

fn size() -> impl Strategy<Value = PortSize> {
    prop_oneof![6 => Just(PortSize::Byte), 1 => Just(PortSize::Word), 1 => Just(PortSize::Dword)]
}

fn msr() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => prop_oneof![Just(0x10), Just(0x1b), Just(0x3b), Just(0x8b), Just(0x1a0), Just(0x6e0)],
        8 => 0x800u32..=0x840,
        1 => any::<u32>(),
    ]
}

/// Small, structured and arbitrary values: most registers refuse the last.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0u64..0x200,
        2 => 0u64..0x8_0000,
        1 => (0u32..64).prop_map(|bit| 1 << bit),
        1 => (0u32..64).prop_map(|bit| u64::MAX << bit),
        1 => any::<u64>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (port(), size()).prop_map(|(port, size)| Step::Read(port, size)),
        8 => (port(), size(), any::<u32>()).prop_map(|(port, size, value)| Step::Write(port, size, value)),
        2 => (msr(), any::<u8>()).prop_map(|(index, tpr)| Step::ReadMsr(index, tpr)),
        8 => (msr(), value()).prop_map(|(index, value)| Step::WriteMsr(index, value)),
        2 => (0u32..50).prop_map(|shift| Step::Wait(1 << shift)),
        2 => Just(Step::WaitForDeadline),
        3 => any::<u8>().prop_map(Step::Take),
        1 => any::<u8>().prop_map(Step::Type),
        1 => Just(Step::Drain),
    ]
}

/// Performs one step; returns the time after it.
fn perform(board: &mut Board, step: &Step, mut now: Tsc) -> Tsc {
    match *step {
        Step::Read(port, size) => assert_eq!(board.port_read(port, size, now) & !size.mask(), 0),
        Step::Write(port, size, value) => {
            let _ = board.port_write(port, size, value, now);
        }
        Step::ReadMsr(index, tpr) => {
            let _ = board.read_msr(index, now, tpr);
        }
        Step::WriteMsr(index, value) => {
            if let Ok(MsrEffect::TscMoved(delta)) = board.write_msr(index, value, now) {
                now = Tsc(now.0.wrapping_add(delta));
            }
        }
        Step::Wait(ticks) => now = Tsc(now.0.wrapping_add(ticks)),
        Step::WaitForDeadline => now = board.next_deadline().unwrap_or(now),
        Step::Take(tpr) => {
            if let Pending::Vector(vector) = board.pending_interrupt(tpr) {
                board.acknowledge(vector);
            }
        }
        Step::Type(byte) => {
            let _ = board.receive(byte);
        }
        Step::Drain => board.clear_output(),
    }
    now
}

fn frequency() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 100_000_000u64..5_000_000_000,
        1 => 0u64..2000,
        1 => any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_guest_breaks_its_board(
        tsc_hz in frequency(),
        epoch in any::<u64>(),
        start in prop_oneof![0u64..1 << 40, any::<u64>()],
        steps in collection::vec(step(), 0..200),
    ) {
        let mut now = Tsc(start);
        let mut board = Board::new(&BoardConfig { tsc_hz, epoch, start: now, devices: DeviceSet::NONE });
        let mut lost = 0;
        for step in &steps {
            now = perform(&mut board, step, now);
            board.advance(now);
            if let Some(deadline) = board.next_deadline() {
                let ahead = deadline.0.wrapping_sub(now.0);
                prop_assert!((1..=1 << 62).contains(&ahead), "{ahead:#x} after {step:?}");
            }
            prop_assert!(board.output().len() <= 512);
            prop_assert!(board.lost_output() >= lost);
            lost = board.lost_output();
        }
    }

    /// Against the text of SDM 10.8.3 written with sets.
    #[test]
    fn interrupts_follow_their_priorities(
        steps in collection::vec((0u8..4, 16u8..=255, any::<u8>()), 0..300),
    ) {
        let now = Tsc(0);
        let mut board = Board::new(&BoardConfig { tsc_hz: 1_000_000_000, epoch: 0, start: now, devices: DeviceSet::NONE });
        let (mut requested, mut serviced) = (BTreeSet::new(), BTreeSet::<u8>::new());
        for (kind, vector, tpr) in steps {
            match kind {
                0 => {
                    prop_assert!(board.write_msr(0x83f, u64::from(vector), now).is_ok());
                    requested.insert(vector);
                }
                1 => {
                    prop_assert!(board.write_msr(0x80b, 0, now).is_ok());
                    serviced.pop_last();
                }
                _ => {}
            }
            let in_service = serviced.last().map_or(0, |vector| vector >> 4);
            let expected = match requested.last() {
                Some(&vector) if vector >> 4 <= in_service => Pending::None,
                Some(&vector) if vector >> 4 <= tpr >> 4 => Pending::MaskedByTpr(vector),
                Some(&vector) => Pending::Vector(vector),
                None => Pending::None,
            };
            prop_assert_eq!(board.pending_interrupt(tpr), expected);
            if let (2, Pending::Vector(vector)) = (kind, expected) {
                board.acknowledge(vector);
                requested.remove(&vector);
                serviced.insert(vector);
            }
            let priority = serviced.last().map_or(0, |vector| vector & 0xf0);
            let shown = if tpr & 0xf0 >= priority { tpr } else { priority };
            prop_assert_eq!(board.read_msr(0x80a, now, tpr), Ok(u64::from(shown)));
        }
    }

    /// What a guest is shown never exceeds the host or the policy, whatever the host says.
    #[test]
    fn no_host_makes_cpuid_show_more(
        host in any::<[[u32; 4]; 16]>(),
        tsc_hz in any::<u64>(),
        queries in collection::vec((prop_oneof![0u32..0x20, 0x8000_0000u32..0x8000_0010, any::<u32>()], 0u32..70), 50),
        cr4 in any::<u64>(),
        xcr0 in any::<u64>(),
    ) {
        let answer = |leaf: u32, subleaf: u32| {
            let [eax, ebx, ecx, edx] = host[((leaf ^ leaf >> 27 ^ subleaf << 4) % 16) as usize];
            CpuidResult { eax, ebx, ecx, edx }
        };
        let policy = CpuidPolicy::new(answer, tsc_hz);
        for (leaf, subleaf) in queries {
            let _ = policy.query(leaf, subleaf, ControlState { cr4, xcr0 });
        }
        let shown = policy.query(1, 0, ControlState { cr4, xcr0 });
        let own = 1 << 21 | 1 << 24 | 1 << 31;
        prop_assert_eq!(shown.ecx & !own & !(1 << 27) & !answer(1, 0).ecx, 0);
        // OSXSAVE is CR4's, and only with XSAVE; XCR0's AVX only with AVX.
        let has_xsave = shown.ecx >> 26 & 1 == 1;
        prop_assert_eq!(shown.ecx >> 27 & 1 == 1, has_xsave && cr4 >> 18 & 1 == 1);
        prop_assert_eq!(policy.allowed_xcr0() >> 2 == 1, shown.ecx >> 28 & 1 == 1);
        prop_assert_eq!(policy.allowed_xcr0() & 3 == 3, has_xsave);
    }
}
