//! Requests that must fail, and what must be left afterwards.

use pleat_machine::Bare;
use pleat_types::{
    DISK_RUN, DiskDirection, DiskFailure, DiskInfo, DiskKind, DiskRequest, FRAME_SIZE, FrameMemory, Hfn, Tsc,
};

use crate::text;

/// Frames beyond those of a run: one too many.
const FRAMES: usize = DISK_RUN + 1;
/// What a frame holds that nobody has read into.
const UNTOUCHED: [u8; FRAME_SIZE] = [0xee; FRAME_SIZE];

/// What must be refused is, before the disk hears of it.
pub fn refusals(machine: &mut Bare, info: DiskInfo) -> u64 {
    let (frames, blocks) = (frames(machine), info.blocks);
    let mut mistakes = 0;
    for (first, count, expected) in [
        (blocks, 1, DiskFailure::BeyondEnd),
        (blocks - 1, 2, DiskFailure::BeyondEnd),
        (u64::MAX, DISK_RUN, DiskFailure::BeyondEnd),
        (0, 0, DiskFailure::Malformed),
        (0, FRAMES, DiskFailure::Malformed),
    ] {
        let request = DiskRequest {
            direction: DiskDirection::Write,
            first,
            frames: &frames[..count],
        };
        let said = machine.disk_start(&request);
        log::info!(
            "disk-check: {count} blocks at {first} of {blocks}: {}",
            text(said)
        );
        mistakes += u64::from(said != Err(expected) || machine.disk_poll().is_some());
    }
    mistakes
}

/// A request that nobody has the patience for is given up: then its frames are nobody's, and an ATA disk comes back.
pub fn time_out(machine: &mut Bare, info: DiskInfo, patience: Tsc) -> u64 {
    let frames = frames(machine);
    let request = DiskRequest {
        direction: DiskDirection::Read,
        first: info.blocks / 2,
        frames: &frames[..DISK_RUN],
    };
    machine.disk_open(Some(info.kind), Tsc(0));
    let started = machine.disk_start(&request);
    let said = machine.disk_poll();
    machine.disk_open(Some(info.kind), patience);
    log::info!("disk-check: without patience: {}", said.map_or("goes on", text));
    if said == Some(Ok(())) {
        return 0; // faster than anybody can lose patience
    }
    let mut mistakes = u64::from(started.is_err() || said != Some(Err(DiskFailure::TimedOut)));
    // Until the end of the time-out they were the disk's. Now longer than the request would have taken.
    for frame in &frames {
        machine.memory().write(frame.base(), &UNTOUCHED);
    }
    wait(machine, Tsc(patience.0 >> 6));
    mistakes += count_touched(machine, &frames);
    let again = retry(machine, &request, patience);
    log::info!("disk-check: after that: {}", text(again));
    let expected = match info.kind {
        DiskKind::Virtio => Err(DiskFailure::Gone),
        DiskKind::AtaPio | DiskKind::AtaDma => Ok(()),
    };
    mistakes + u64::from(again != expected)
}

/// Frames that somebody has written to.
fn count_touched(machine: &mut Bare, frames: &[Hfn]) -> u64 {
    let mut touched = 0;
    for frame in frames {
        let mut found = [0; FRAME_SIZE];
        machine.memory().read_frame(*frame, &mut found);
        touched += u64::from(found != UNTOUCHED);
    }
    log::info!("disk-check: {touched} frames were written to after the request was given up");
    touched
}

/// Tries until the disk is well again and the request has ended.
fn retry(machine: &mut Bare, request: &DiskRequest<'_>, patience: Tsc) -> Result<(), DiskFailure> {
    let deadline = machine.now().after(patience);
    let mut started = machine.disk_start(request);
    while started == Err(DiskFailure::Busy) && machine.now() < deadline {
        started = machine.disk_start(request);
    }
    started?;
    loop {
        if let Some(result) = machine.disk_poll() {
            return result;
        }
        machine.idle(deadline);
    }
}

fn wait(machine: &Bare, span: Tsc) {
    let end = machine.now().after(span);
    while machine.now() < end {
        core::hint::spin_loop();
    }
}

fn frames(machine: &Bare) -> [Hfn; FRAMES] {
    let ranges = machine.ranges().iter();
    let range = ranges.max_by_key(|range| range.count).expect("there is memory");
    core::array::from_fn(|index| Hfn::new(range.first.get() + index as u64))
}
