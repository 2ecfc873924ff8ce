//! Any sequence of requests, however split and whenever memory is short, does what plain reads and writes do.

use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};

use super::{Buffers, FromGuest, Gpa, IN, Machine, OUT, SECTORS, ToGuest, Vec, pattern};

/// Room for a request and its splits in the guest's memory.
const PLACE_BYTES: u64 = 0x1_0000;
const FIRST_PLACE: u64 = 0x1_0000;

#[derive(Clone, Debug)]
struct Wanted {
    kind: u32,
    sector: u64,
    bytes: usize,
    /// Sizes of the buffers, until the rest goes into the last one.
    splits: Vec<u16>,
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let bytes = (0..60usize, 0..20usize).prop_map(|(sectors, odd)| sectors * 512 + usize::from(odd == 0));
    let splits = proptest::collection::vec(0..3000u16, 0..12);
    (0..2u32, 0..SECTORS + 10, bytes, splits).prop_map(|(kind, sector, bytes, splits)| Wanted {
        kind,
        sector,
        bytes,
        splits,
    })
}

impl Wanted {
    fn is_right(&self) -> bool {
        self.bytes.is_multiple_of(512) && self.sector + self.bytes as u64 / 512 <= SECTORS
    }

    fn range(&self) -> core::ops::Range<usize> {
        let at = usize::try_from(self.sector).unwrap() * 512;
        at..at + self.bytes
    }

    /// Its parts: what the device reads from `place` on, what it writes behind that.
    fn buffers(&self, place: u64) -> Buffers {
        let (out, back) = if self.kind == OUT {
            (16 + self.bytes, 1)
        } else {
            (16, self.bytes + 1)
        };
        let mut buffers = Buffers::new();
        let mut at = place;
        for (direction, mut left) in [(FromGuest, out), (ToGuest, back)] {
            for split in self.splits.iter().map(|split| usize::from(*split)) {
                let bytes = split.min(left);
                buffers.push((Gpa::new(at), u32::try_from(bytes).unwrap(), direction));
                // A gap, so that who runs on over the end is seen.
                at += bytes as u64 + 3;
                left -= bytes;
            }
            buffers.push((Gpa::new(at), u32::try_from(left).unwrap(), direction));
            at += left as u64 + 3;
        }
        assert!(at <= place + PLACE_BYTES);
        buffers
    }
}

/// Writes or collects the bytes of the buffers of one direction.
fn fill(machine: &mut Machine, buffers: &Buffers, bytes: &[u8]) {
    let mut rest = bytes;
    for &(at, size, _) in buffers.iter().filter(|(_, _, direction)| *direction == FromGuest) {
        let (now, later) = rest.split_at(size as usize);
        machine.hands.inner.poke(at, now);
        rest = later;
    }
}

fn collect(machine: &Machine, buffers: &Buffers) -> Vec<u8> {
    let back = buffers.iter().filter(|(_, _, direction)| *direction == ToGuest);
    back.flat_map(|&(at, size, _)| machine.hands.inner.peek(at, size as usize).to_vec())
        .collect()
}

/// A request that the guest has made.
struct Made {
    head: u16,
    buffers: Buffers,
    status: u8,
    /// What it is to read.
    back: Option<Vec<u8>>,
}

impl Wanted {
    /// Puts the n-th request of a batch into the queue, and does to the model what it asks for.
    fn make(&self, machine: &mut Machine, disk: &mut [u8], n: usize, seed: u8) -> Made {
        let buffers = self.buffers(FIRST_PLACE + n as u64 * PLACE_BYTES);
        let mut out = Vec::new();
        out.extend_from_slice(&self.kind.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.sector.to_le_bytes());
        if self.kind == OUT {
            let data = pattern(seed, self.bytes);
            out.extend_from_slice(&data);
            if self.is_right() {
                disk[self.range()].copy_from_slice(&data);
            }
        }
        fill(machine, &buffers, &out);
        Made {
            head: machine.guest.add(&mut machine.hands.inner, &buffers),
            buffers,
            status: u8::from(!self.is_right()),
            back: (self.is_right() && self.kind == IN).then(|| disk[self.range()].to_vec()),
        }
    }
}

impl Made {
    fn check(&self, machine: &Machine, head: u16) {
        assert_eq!(self.head, head);
        let got = collect(machine, &self.buffers);
        let (status, data) = got.split_last().unwrap();
        assert_eq!(*status, self.status);
        if let Some(back) = &self.back {
            assert!(data == back.as_slice(), "other bytes than those of the disk");
        }
    }
}

/// Bytes that the requests of a kind move.
fn moved(batches: &[Vec<Wanted>], kind: u32) -> u64 {
    let of_it = batches
        .iter()
        .flatten()
        .filter(|wanted| wanted.kind == kind && wanted.is_right());
    of_it.map(|wanted| wanted.bytes as u64).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_disk_is_plain_bytes(
        batches in proptest::collection::vec(proptest::collection::vec(wanted(), 1..5), 1..4),
        schedule in proptest::collection::vec(any::<bool>(), 0..600),
    ) {
        let mut machine = Machine::new();
        machine.hands.schedule = schedule.into();
        let mut disk = machine.hands.inner.disk.clone();
        let mut seed = 0u8;
        for batch in &batches {
            let mut made = Vec::new();
            for (n, wanted) in batch.iter().enumerate() {
                seed = seed.wrapping_add(31);
                made.push(wanted.make(&mut machine, &mut disk, n, seed));
            }
            machine.serve_all();
            let used = machine.guest.used(&machine.hands.inner);
            prop_assert_eq!(used.len(), batch.len());
            for (made, (head, _)) in made.iter().zip(used) {
                made.check(&machine, head);
            }
        }
        prop_assert!(machine.hands.inner.disk == disk);
        let block = &machine.block;
        prop_assert_eq!(block.requests(), batches.iter().flatten().count() as u64);
        prop_assert_eq!(block.sectors_read() * 512, machine.hands.disk_read);
        prop_assert_eq!(machine.hands.disk_read, moved(&batches, IN));
        prop_assert_eq!(machine.hands.disk_written, moved(&batches, OUT));
    }
}
