//! Drivers that break the rules: the device says so, or answers, and goes nowhere where it must not.

use super::{
    Block, Buffers, DATA, FromGuest, Gpa, HEADER, IN, MOVED_MAX, Machine, NOTHING, OUT, RAM_BYTES, SECTORS,
    STATUS, Step, ToGuest, Trouble, vec,
};

/// What the device complains of, when this is the chain of a request.
fn complaint(kind: u32, buffers: &Buffers) -> &'static str {
    let mut machine = Machine::new();
    machine.header(kind, 0);
    machine.guest.add(&mut machine.hands.inner, buffers);
    let answer = machine.serve();
    let Err(Trouble::Guest(why)) = answer else {
        panic!("{kind} {buffers:?}: {answer:?}");
    };
    assert_eq!(machine.guest.used(&machine.hands.inner), vec![]);
    assert_eq!(machine.block.requests(), 0);
    why
}

#[test]
fn a_chain_that_cannot_be_answered_is_a_broken_driver() {
    let whole = (HEADER, 16, FromGuest);
    let status = (STATUS, 1, ToGuest);
    let header = "a disk request without a whole header";
    assert_eq!(complaint(IN, &vec![status]), header);
    assert_eq!(complaint(IN, &vec![(HEADER, 15, FromGuest), status]), header);
    assert_eq!(complaint(IN, &vec![(HEADER, 0, FromGuest), status]), header);
    assert_eq!(complaint(IN, &vec![(HEADER, 16, ToGuest), status]), header);
    let room = "a disk request without room for its status";
    assert_eq!(complaint(IN, &vec![whole]), room);
    assert_eq!(
        complaint(OUT, &vec![whole, (DATA, 512, FromGuest), (STATUS, 1, FromGuest)]),
        room
    );
    assert_eq!(complaint(IN, &vec![whole, (STATUS, 0, ToGuest)]), room);
}

#[test]
fn addresses_without_ram_are_a_broken_driver() {
    let whole = (HEADER, 16, FromGuest);
    let status = (STATUS, 1, ToGuest);
    let end = Gpa::new(RAM_BYTES as u64);
    let almost = Gpa::new(RAM_BYTES as u64 - 511);
    let last = Gpa::new(u64::MAX - 511);
    let ram = "an address without RAM";
    let space = "a buffer that leaves the address space";
    assert_eq!(complaint(IN, &vec![(end, 16, FromGuest), status]), ram);
    assert_eq!(complaint(IN, &vec![whole, (end, 1, ToGuest)]), ram);
    for at in [end, almost] {
        assert_eq!(complaint(IN, &vec![whole, (at, 512, ToGuest), status]), ram);
        assert_eq!(complaint(OUT, &vec![whole, (at, 512, FromGuest), status]), ram);
    }
    assert_eq!(complaint(IN, &vec![whole, (last, 512, ToGuest), status]), space);
    assert_eq!(
        complaint(OUT, &vec![whole, (last, 512, FromGuest), status]),
        space
    );
    assert_eq!(
        complaint(
            IN,
            &vec![whole, (DATA, 512, ToGuest), (Gpa::new(u64::MAX), 1, ToGuest)]
        ),
        space
    );
}

#[test]
fn the_largest_lengths_are_answered() {
    let endless = (DATA, u32::MAX, ToGuest);
    let mut chain = vec![(HEADER, 16, FromGuest), endless];
    let mut machine = Machine::new();
    machine.header(IN, 0);
    // 2^32 - 1 bytes, the last being the status: no multiple of 512, and an address without RAM for the answer.
    machine.guest.add(&mut machine.hands.inner, &chain);
    assert_eq!(machine.serve(), Err(Trouble::Guest("an address without RAM")));
    // So many of them that their sum needs more than 32 bits: not on the disk.
    for _ in 0..110 {
        chain.push(endless);
    }
    chain.push((STATUS, 1, ToGuest));
    let mut machine = Machine::new();
    machine.header(IN, 0);
    let head = machine.guest.add(&mut machine.hands.inner, &chain);
    assert_eq!(machine.serve(), Ok(Step::Done));
    assert_eq!(machine.status(), 1);
    assert_eq!(machine.guest.used(&machine.hands.inner), [(head, 0)]);
    assert_eq!(machine.hands.disk_read, 0);
}

#[test]
fn an_endless_disk_is_read_until_the_guest_has_no_ram() {
    let mut machine = Machine::new();
    machine.block = Block::new(u64::MAX);
    assert_eq!(machine.block.sectors(), u64::MAX / 512);
    machine.header(IN, 0);
    machine.hands.inner.disk = vec![5; RAM_BYTES];
    let buffers = [
        (HEADER, 16, FromGuest),
        (DATA, 0xffff_fe00, ToGuest),
        (STATUS, 1, ToGuest),
    ];
    machine.guest.add(&mut machine.hands.inner, &buffers);
    let mut calls = 0;
    let end = loop {
        let before = machine.hands.disk_read;
        let answer = machine.serve();
        assert!(machine.hands.disk_read - before <= MOVED_MAX);
        calls += 1;
        match answer {
            Ok(Step::More) => (),
            other => break other,
        }
    };
    assert_eq!(end, Err(Trouble::Guest("an address without RAM")));
    assert_eq!(calls, (RAM_BYTES as u64 - DATA.get()) / MOVED_MAX + 1);
}

#[test]
fn a_flood_of_requests_is_answered_in_parts() {
    let mut machine = Machine::new();
    machine.header(4, 0);
    for _ in 0..64 {
        let buffers = [(HEADER, 16, FromGuest), (STATUS, 1, ToGuest)];
        machine.guest.add(&mut machine.hands.inner, &buffers);
    }
    for part in 1..=4 {
        assert_eq!(machine.serve(), Ok(Step::More));
        assert_eq!(machine.block.requests(), part * 16);
    }
    assert_eq!(machine.serve(), Ok(Step::Done));
    assert_eq!(machine.guest.used(&machine.hands.inner).len(), 64);
}

#[test]
fn a_request_that_changes_while_it_is_served_stays_on_the_disk() {
    // (kind and sector after the first call, status at the end, sectors moved altogether)
    for (kind, sector, status, moved) in [
        (IN, SECTORS - 256, 0, 256),
        (IN, SECTORS - 255, 1, 128),
        (IN, u64::MAX, 1, 128),
        (OUT, 0, 0, 128),
        (8, 0, 0, 128),
        (11, 0, 0, 128),
        (12, 0, 2, 128),
    ] {
        let mut machine = Machine::new();
        machine.request(IN, 0, 0x2_0000);
        assert_eq!(machine.serve(), Ok(Step::More));
        machine.header(kind, sector);
        assert_eq!(machine.status(), NOTHING);
        machine.serve_all();
        assert_eq!(machine.status(), status);
        let block = &machine.block;
        assert_eq!(block.sectors_read() + block.sectors_written(), moved);
        // What comes next begins at its beginning.
        machine.request(IN, 9, 512);
        machine.serve_all();
        assert_eq!(machine.data(512), &machine.hands.inner.disk[9 * 512..10 * 512]);
    }
}

#[test]
fn a_disk_read_over_the_queue_itself_ends() {
    for target in [0x1000, 0x1800, 0x1a00] {
        let mut machine = Machine::new();
        for n in 0..machine.hands.inner.disk.len() {
            machine.hands.inner.disk[n] = n.to_le_bytes()[0] ^ 0x5a;
        }
        machine.header(IN, 0);
        let buffers = [
            (HEADER, 16, FromGuest),
            (Gpa::new(target), 0xc00, ToGuest),
            (STATUS, 1, ToGuest),
        ];
        machine.guest.add(&mut machine.hands.inner, &buffers);
        for _ in 0..1000 {
            let before = machine.hands.inner.work;
            let answer = machine.serve();
            assert!(
                machine.hands.inner.work - before < 10_000,
                "a call does a bounded piece"
            );
            if answer != Ok(Step::More) {
                break;
            }
        }
        assert!(machine.block.requests() <= 16_000);
    }
}
