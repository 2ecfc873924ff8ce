//! The split queue against a driver that keeps to the rules, and against one that does not.

use std::vec::Vec;

use pleat_types::Gpa;

use super::{Direction, Queue};
use crate::virtio::Trouble;
use crate::virtio::testing::{FakeHands, Grudging, GuestQueue, RawDescriptor};

const BASE: Gpa = Gpa::new(0x1000);
const SIZE: u16 = 8;

fn setup() -> (FakeHands, GuestQueue, Queue) {
    let guest = GuestQueue::new(BASE, SIZE);
    let queue = guest.enabled();
    (FakeHands::new(0x1_0000), guest, queue)
}

fn complaint(queue: &mut Queue, hands: &mut FakeHands) -> &'static str {
    match queue.first(hands) {
        Err(Trouble::Guest(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn chains_come_in_the_order_of_the_ring_and_go_back_round_it() {
    let (mut hands, mut guest, mut queue) = setup();
    for round in 0..70_000u32 {
        let buffers = [
            (Gpa::new(0x4000), 16, Direction::FromGuest),
            (Gpa::new(0x5000), round, Direction::ToGuest),
        ];
        let head = guest.add(&mut hands, &buffers);
        let chain = queue.first(&mut hands).unwrap().unwrap();
        let seen: Vec<_> = chain
            .buffers
            .iter()
            .map(|b| (b.at, b.bytes, b.direction))
            .collect();
        assert_eq!(seen, buffers);
        assert_eq!(chain.bytes(Direction::ToGuest), u64::from(round));
        queue.complete(&mut hands, &chain, round).unwrap();
        assert_eq!(guest.used(&hands), [(head, round)]);
        assert_eq!(queue.first(&mut hands), Ok(None));
        hands.accesses.clear();
    }
}

#[test]
fn a_queue_that_is_not_enabled_touches_no_memory() {
    let (mut hands, mut guest, mut queue) = setup();
    guest.add(&mut hands, &[(BASE, 1, Direction::FromGuest)]);
    queue.is_enabled = false;
    assert_eq!(queue.first(&mut hands), Ok(None));
    assert_eq!(hands.accesses, []);
}

#[test]
fn looking_changes_nothing() {
    let (mut hands, mut guest, mut queue) = setup();
    guest.add(&mut hands, &[(BASE, 1, Direction::FromGuest)]);
    let first = queue.first(&mut hands).unwrap();
    assert!(first.is_some());
    assert_eq!(queue.first(&mut hands).unwrap(), first);
    assert!(hands.accesses.iter().all(|access| !access.is_write));
}

#[test]
fn no_host_memory_leaves_the_chain_where_it_was() {
    let (mut hands, mut guest, mut queue) = setup();
    let head = guest.add(&mut hands, &[(Gpa::new(0x4000), 64, Direction::ToGuest)]);
    for short in 1..3 {
        hands.short.make_writable = short;
        for _ in 0..short {
            let chain = queue.first(&mut hands).unwrap().unwrap();
            assert_eq!(queue.complete(&mut hands, &chain, 64), Err(Trouble::HostShort));
            assert_eq!(guest.used(&hands), []);
        }
    }
    // What was made writable stays so until the guest runs: no write can fail half-way.
    hands.short.write = 1;
    let chain = queue.first(&mut hands).unwrap().unwrap();
    assert_eq!(queue.complete(&mut hands, &chain, 64), Ok(()));
    assert_eq!(guest.used(&hands), [(head, 64)]);
}

#[test]
fn a_page_that_is_away_leaves_the_chain_where_it_was() {
    let (mut hands, mut guest, mut queue) = setup();
    let buffers = [(BASE, 1, Direction::FromGuest), (BASE, 2, Direction::ToGuest)];
    let head = guest.add(&mut hands, &buffers);
    let chain = queue.first(&mut hands).unwrap();
    // The ring's index, its entry, two descriptors.
    for later in 0..4 {
        (hands.short.read_later, hands.short.read) = (later, 1);
        assert_eq!(queue.first(&mut hands), Err(Trouble::HostShort), "{later}");
        assert_eq!(queue.first(&mut hands), Ok(chain.clone()));
    }
    assert_eq!(queue.complete(&mut hands, &chain.unwrap(), 2), Ok(()));
    assert_eq!(guest.used(&hands), [(head, 2)]);
}

/// The index of the used ring in one page, its entries in the next.
#[test]
fn nothing_is_written_before_all_of_it_can_be() {
    let (_, mut guest, mut queue) = setup();
    (guest.used, queue.used) = (0x2ffc, 0x2ffc);
    let mut grudging = Grudging::new(0x1_0000);
    let head = guest.add(&mut grudging.inner, &[(Gpa::new(0x4000), 64, Direction::ToGuest)]);
    for calls in 0..2 {
        let chain = queue.first(&mut grudging).unwrap().unwrap();
        grudging.refuse_after(calls);
        assert_eq!(queue.complete(&mut grudging, &chain, 64), Err(Trouble::HostShort));
        assert!(grudging.inner.accesses.iter().all(|access| !access.is_write));
        grudging.inner.run_guest();
    }
    let chain = queue.first(&mut grudging).unwrap().unwrap();
    assert_eq!(queue.complete(&mut grudging, &chain, 64), Ok(()));
    assert_eq!(guest.used(&grudging.inner), [(head, 64)]);
}

#[test]
fn the_guest_may_ask_for_no_interrupts() {
    let (mut hands, mut guest, mut queue) = setup();
    for (flags, has_news) in [(1, false), (0, true), (1, true)] {
        guest.set_available_flags(&mut hands, flags);
        guest.add(&mut hands, &[(BASE, 1, Direction::FromGuest)]);
        let chain = queue.first(&mut hands).unwrap().unwrap();
        queue.complete(&mut hands, &chain, 0).unwrap();
        assert_eq!(queue.has_news, has_news);
    }
}

#[test]
fn a_chain_may_have_as_many_descriptors_as_the_table_and_not_one_more() {
    let (mut hands, mut guest, mut queue) = setup();
    let all = [(BASE, 1, Direction::FromGuest); SIZE as usize];
    let head = guest.add(&mut hands, &all);
    assert_eq!(queue.first(&mut hands).unwrap().unwrap().buffers.len(), all.len());
    // The last one, whose link leads back to the first.
    let raw = RawDescriptor {
        at: 0,
        bytes: 0,
        flags: 1,
        next: head,
    };
    guest.set_descriptor(&mut hands, 7, raw);
    assert_eq!(
        complaint(&mut queue, &mut hands),
        "a chain of descriptors without an end"
    );
}

#[test]
fn descriptors_that_break_the_rules_are_refused() {
    let of = |flags, next| RawDescriptor {
        at: 0x4000,
        bytes: 4,
        flags,
        next,
    };
    for (raw, why) in [
        (of(1, 0), "a chain of descriptors without an end"),
        (of(1, SIZE), "a descriptor outside of the table"),
        (of(1, u16::MAX), "a descriptor outside of the table"),
        (of(3, 1), "a buffer to read behind one to write"),
        (of(4, 0), "an indirect descriptor, which was not negotiated"),
    ] {
        let (mut hands, mut guest, mut queue) = setup();
        guest.set_descriptor(&mut hands, 0, raw);
        guest.offer(&mut hands, 0);
        assert_eq!(complaint(&mut queue, &mut hands), why, "{raw:?}");
        assert!(hands.work < 32, "{raw:?}");
    }
}

#[test]
fn rings_that_break_the_rules_are_refused() {
    let (mut hands, mut guest, mut queue) = setup();
    guest.offer(&mut hands, SIZE);
    assert_eq!(
        complaint(&mut queue, &mut hands),
        "a descriptor outside of the table"
    );
    guest.set_available_index(&mut hands, SIZE + 1);
    assert_eq!(
        complaint(&mut queue, &mut hands),
        "more chains available than the queue has room for"
    );
    guest.set_available_index(&mut hands, u16::MAX);
    assert_eq!(
        complaint(&mut queue, &mut hands),
        "more chains available than the queue has room for"
    );
}

#[test]
fn a_queue_where_there_is_no_ram_is_the_guests_mistake() {
    let no_ram = Trouble::Guest("an address without RAM");
    let places: [fn(&mut Queue) -> &mut u64; 3] =
        [|q| &mut q.available, |q| &mut q.descriptors, |q| &mut q.used];
    for place in places {
        for wrong in [0x1_0000, 0xffff, u64::MAX - 1, u64::MAX] {
            let (mut hands, mut guest, mut queue) = setup();
            guest.add(&mut hands, &[(BASE, 1, Direction::FromGuest)]);
            *place(&mut queue) = wrong;
            let result = queue.first(&mut hands).and_then(|chain| match chain {
                Some(chain) => queue.complete(&mut hands, &chain, 0),
                None => Ok(()),
            });
            assert!(
                [
                    Err(no_ram),
                    Err(Trouble::Guest("a queue that leaves the address space"))
                ]
                .contains(&result),
                "{wrong:#x}: {result:?}"
            );
            assert!(hands.accesses.iter().all(|access| !access.is_write));
        }
    }
}
