//! Requests that break the rules (virtio 1.2, 5.15.6.3), and what has to be said to them.

use pleat_guest::virtio::mem::{ACK, ERROR, MIXED, NACK, Request};
use pleat_guest::{check, hypercall};

use crate::Work;

impl Work {
    fn refuse(&mut self, what: &str, kind: u16, address: u64, blocks: u16, expected: &[u16]) {
        let plugged = self.mem.plugged_bytes();
        let answer = self.mem.ask_anything(kind, address, blocks);
        check!(
            expected.contains(&answer.kind),
            "{what}: {answer:?}, not {expected:?}"
        );
        check!(
            self.mem.plugged_bytes() == plugged,
            "{what}: refused, and yet something has changed"
        );
    }
}

/// None of them changes anything.
pub(crate) fn check_all(work: &mut Work) {
    let (first, block) = (work.mem.first(), work.mem.block_bytes());
    let end = first + work.mem.region_bytes();
    let (plug, unplug, state) = (
        Request::Plug as u16,
        Request::Unplug as u16,
        Request::State as u16,
    );
    for kind in [plug, unplug, state] {
        work.refuse("below the region", kind, first - block, 1, &[ERROR]);
        work.refuse("beyond the region", kind, end, 1, &[ERROR]);
        work.refuse("over its end", kind, end - block, 2, &[ERROR]);
        work.refuse("at address 0", kind, 0, 1, &[ERROR]);
        work.refuse("at the last address", kind, u64::MAX - block + 1, 1, &[ERROR]);
        work.refuse("between blocks", kind, first + 4096, 1, &[ERROR]);
        work.refuse("at an odd byte", kind, first + 1, 1, &[ERROR]);
        work.refuse("as many as can be said", kind, first, u16::MAX, &[ERROR]);
    }
    // QEMU, where kernels are developed, takes them for a reason to stop the device.
    let unknown: &[u16] = if hypercall::is_on_pleat() {
        &[4, 5, 0x100, u16::MAX]
    } else {
        &[]
    };
    for &kind in unknown {
        work.refuse("a request that there is not", kind, first, 1, &[ERROR]);
    }
    check_blocks(work, plug, unplug);
}

/// Blocks that are what they are to become.
fn check_blocks(work: &mut Work, plug: u16, unplug: u16) {
    if let Some((block, _)) = work.find(Work::is_plugged, 1) {
        let address = work.address(block);
        work.refuse("plugging what is plugged", plug, address, 1, &[ERROR, NACK]);
    }
    if let Some((block, _)) = work.find(|work, block| !work.is_plugged(block), 1) {
        let address = work.address(block);
        work.refuse("unplugging what is not", unplug, address, 1, &[ERROR]);
        // All that the host wants is plugged.
        let is_usable = address + work.mem.block_bytes() <= work.mem.first() + work.mem.usable_bytes();
        let expected = if is_usable { NACK } else { ERROR };
        work.refuse("more than is wanted", plug, address, 1, &[expected]);
    }
    let is_border = |work: &Work, block: usize| {
        block + 1 < work.len && work.is_plugged(block) != work.is_plugged(block + 1)
    };
    if let Some((block, _)) = work.find(is_border, 1) {
        let address = work.address(block);
        let answer = work.mem.ask(Request::State, address, 2);
        check!(
            answer.kind == ACK && answer.state == MIXED,
            "one block plugged, one not: {answer:?}"
        );
        work.refuse("unplugging some that are not", unplug, address, 2, &[ERROR]);
    }
}
