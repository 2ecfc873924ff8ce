//! Whatever guests do, nothing panics and no frame is lost.

use crate::fake::{Op, exits};
use crate::scenario::{Machine, guest};
use pleat_bundle::config::{OnReboot, Pages};
use pleat_types::{CrAccess, Exit, Gpa, Gpr, PortAccess, PortSize, hypercall as calls};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

/// Interesting numbers and any number.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0u64),
        Just(u64::MAX),
        0u64..0x40_0000,
        0xfee0_0000u64..0xfef0_0000,
        any::<u64>(),
        prop_oneof![
            Just(0x10u64),
            Just(0x1b),
            Just(0x6e0),
            0x800u64..0x840,
            0xc000_0080u64..0xc000_0090
        ],
        calls::NULL..calls::YIELD + 2,
    ]
}

fn exit() -> impl Strategy<Value = Exit> {
    let size = prop_oneof![Just(PortSize::Byte), Just(PortSize::Word), Just(PortSize::Dword)];
    let ports = prop_oneof![0u16..0x100, 0x2e8u16..0x400, 0xcf8u16..0xd00, any::<u16>()];
    let port = (ports, size, any::<bool>(), 0..20u8).prop_map(|(port, size, is_read, rare)| {
        Exit::Port(PortAccess {
            port,
            size,
            is_read,
            is_string: rare == 0,
        })
    });
    prop_oneof![
        4 => port,
        4 => prop_oneof![Just(Exit::Cpuid), Just(Exit::Vmcall), Just(Exit::ReadMsr), Just(Exit::WriteMsr)],
        2 => prop_oneof![Just(Exit::Xsetbv), Just(Exit::Hlt), Just(Exit::Pause), Just(Exit::CacheFlush)],
        1 => prop_oneof![
            Just(Exit::ExternalInterrupt),
            Just(Exit::TimerExpired),
            Just(Exit::InterruptWindow),
            Just(Exit::TprBelowThreshold),
            Just(Exit::UndefinedInstruction),
            number().prop_map(|value| Exit::ControlRegister(CrAccess::WriteCr0(value))),
            number().prop_map(|value| Exit::ControlRegister(CrAccess::WriteCr4(value))),
        ],
        1 => prop_oneof![
            Just(Exit::TripleFault),
            Just(Exit::EntryFailed(33)),
            Just(Exit::Other(60)),
            Just(Exit::EptMisconfiguration(Gpa::new(0))),
        ],
    ]
}

fn step() -> impl Strategy<Value = Op> {
    let registers = vec(
        (
            prop_oneof![Just(Gpr::Rax), Just(Gpr::Rbx), Just(Gpr::Rcx), Just(Gpr::Rdx)],
            number(),
        ),
        4,
    );
    prop_oneof![
        6 => (0u64..0x60_0000, any::<u64>()).prop_map(|(gpa, value)| Op::Store(gpa & !7, value)),
        6 => (exit(), registers).prop_map(|(exit, registers)| {
            // These two come back to the same step for ever: the fake does not play them.
            match exit {
                Exit::ExternalInterrupt | Exit::TimerExpired | Exit::InterruptWindow | Exit::TprBelowThreshold => {
                    exits(Exit::CacheFlush)
                }
                exit => Op::Exits(exit, registers),
            }
        }),
        1 => any::<bool>().prop_map(Op::Interrupts),
        1 => (0u64..50_000).prop_map(Op::Spin),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_that_guests_do_panics_or_loses_a_frame(
        programs in vec(vec(step(), 0..120), 1..4),
        pages in prop_oneof![Just(Pages::Small), Just(Pages::Large), Just(Pages::Huge)],
        restarts in any::<bool>(),
    ) {
        let names = ["a", "b", "c", "d"];
        let guests = programs.into_iter().zip(names).map(|(program, name)| {
            let mut config = guest(name);
            config.memory_bytes = 5 << 20;
            config.pages = pages;
            config.on_reboot = if restarts { OnReboot::Restart } else { OnReboot::Stop };
            (config, program)
        });
        let mut machine = Machine::new(guests.collect());
        machine.memory_bytes = 10 << 20;
        machine.config.for_ms = Some(1);
        let report = machine.run();
        proptest::prop_assert_eq!(report.of_kind("end").len(), 1);
    }
}
