//! What people and the policy ask of guests that have ended, are paused, or have no driver.

use crate::equipped::{equipped, when};
use crate::fake::Op;
use crate::merging::{finish, sleep};
use crate::scenario::Machine;
use crate::virtio::{Driver, Kind, output};
use pleat_types::PortSize;

const ALL: [Kind; 5] = [Kind::Balloon, Kind::Mem, Kind::Console, Kind::Block, Kind::Random];
const COMMANDS: [&str; 7] = [
    "mem a 12",
    "balloon a 2",
    "pressure a full",
    "devices a",
    "type a x",
    "mem a 4",
    "pressure a auto",
];

/// All devices driven, with messages as interrupts and the port for pressure open.
fn driven() -> Driver {
    let mut driver = Driver::of(&ALL);
    for kind in ALL {
        let table = 0xc000_0000 + 0x100 * (kind as u64 - 1);
        driver.then((0..8).flat_map(|n| {
            let at = table + 16 * n;
            [Op::Store(at, 0xfee0_0000), Op::Store(at + 8, 0x40 + n)]
        }));
        driver.set_config(kind, 0x40, 0x8000_0000);
        driver.then([output(kind.port() + 0x10, PortSize::Word, 0)]);
    }
    driver.open_pressure(4);
    driver.say(&[(4, 1 << 20), (5, 4 << 20)]);
    driver
}

#[test]
fn a_guest_that_has_ended_is_asked_for_nothing() {
    let mut driver = driven();
    let program = driver.event("last").finish([finish()]);
    let other = [
        vec![Op::Spin(1_000_000); 9],
        crate::fake::print("pleat-event: go\n"),
        sleep(),
    ];
    let mut config = equipped("a", "a", &ALL);
    config.devices.balloon.as_mut().expect("it has one").statistics_ms = 1;
    let mut machine = Machine::new(vec![(config, program), (equipped("b", "b", &[]), other.concat())]);
    machine.disk = Some(vec![3; 64 << 10]);
    machine.config.script = COMMANDS.iter().map(|command| when("b", "go", command)).collect();
    machine.config.for_ms = Some(2500);
    let report = machine.run();
    assert_eq!(report.guest("a")["reason"], "finished");
    let failures = report.stats()["failures"].as_array().expect("a list");
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn a_paused_guest_finds_what_it_was_asked_for_when_it_goes_on() {
    let mut driver = driven();
    driver.event("pause").then([Op::Spin(2_000_000)]);
    let program = driver.expect_target(512).finish([finish()]);
    let mut machine = Machine::new(vec![(equipped("a", "a", &ALL), program)]);
    machine.disk = Some(vec![3; 64 << 10]);
    let commands = ["pause a", "balloon a 2", "pressure a some", "resume a"];
    machine.config.script = commands
        .iter()
        .map(|command| when("a", "pause", command))
        .collect();
    machine.run().assert_all_finished();
}
