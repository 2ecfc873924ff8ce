//! The rounds: runs of all lengths are written in random order, and read back in another.

use arrayvec::ArrayVec;
use pleat_machine::Bare;
use pleat_types::{
    DISK_RUN, DiskDirection, DiskFailure, DiskInfo, DiskRequest, FRAME_SIZE, FrameMemory, Hfn, Tsc,
};

use crate::area::{AREA_BLOCKS, AREAS, Area, Numbers};
use crate::count::Count;
use crate::text;

/// Requests that write; each length comes up as often as any other.
const WRITES: usize = 3 * DISK_RUN;
/// Blocks of a request when the whole of an area is read.
const STRIDE: usize = 7;
/// Mistakes that are described.
const MAX_DESCRIBED: u64 = 10;

/// The check's state.
pub struct Rounds<'a> {
    machine: &'a mut Bare,
    areas: [Area; AREAS],
    numbers: Numbers,
    written: Count,
    read: Count,
    mistakes: u64,
}

impl<'a> Rounds<'a> {
    /// Begins with a disk whose areas are all zero.
    pub fn new(machine: &'a mut Bare, info: DiskInfo) -> Self {
        Self {
            machine,
            areas: Area::all(info.blocks),
            numbers: Numbers::new(0x9e37_79b9_7f4a_7c15),
            written: Count::default(),
            read: Count::default(),
            mistakes: 0,
        }
    }

    /// Writes runs all over the areas, some of them over others.
    pub fn write(&mut self) {
        for round in 0..WRITES {
            let (area, index, length) = self.place(1 + round % DISK_RUN);
            let frames = self.frames(length);
            for (offset, frame) in frames.iter().enumerate() {
                self.areas[area].note_write(index + offset);
                let mut content = [0; FRAME_SIZE];
                self.areas[area].fill(index + offset, &mut content);
                self.machine.memory().write(frame.base(), &content);
            }
            self.request(DiskDirection::Write, area, index, &frames);
        }
    }

    /// Reads at random places, and then every block from the last one on.
    pub fn read(&mut self) {
        for round in 0..WRITES {
            let (area, index, length) = self.place(DISK_RUN - round % DISK_RUN);
            self.read_run(area, index, length);
        }
        for area in (0..AREAS).rev() {
            let mut end = self.areas[area].blocks;
            while end > 0 {
                let length = STRIDE.min(end);
                end -= length;
                self.read_run(area, end, length);
            }
        }
    }

    /// Says what it took; the number of mistakes.
    pub fn report(self) -> u64 {
        self.written.report("write");
        self.read.report("read");
        log::info!("disk-check: {} mistakes", self.mistakes);
        self.mistakes
    }

    /// A place for a run of this length.
    fn place(&mut self, length: usize) -> (usize, usize, usize) {
        let areas = self.areas.iter().filter(|area| area.blocks > 0).count();
        let area = self.numbers.below(areas.max(1));
        (area, self.numbers.below(AREA_BLOCKS - length + 1), length)
    }

    /// Frames for a run, all over memory and in no order.
    fn frames(&mut self, length: usize) -> ArrayVec<Hfn, DISK_RUN> {
        let ranges = self.machine.ranges().iter();
        let range = ranges.max_by_key(|range| range.count).expect("there is memory");
        let count = usize::try_from(range.count).expect("addresses have 64 bits");
        let part = count / DISK_RUN;
        let frame = |slot: usize, numbers: &mut Numbers| {
            let offset = slot * part + numbers.below(part);
            Hfn::new(range.first.get() + offset as u64)
        };
        let turn = self.numbers.below(DISK_RUN);
        (0..length)
            .map(|index| frame((turn + 11 * index) % DISK_RUN, &mut self.numbers))
            .collect()
    }

    fn read_run(&mut self, area: usize, index: usize, length: usize) {
        let frames = self.frames(length);
        for frame in &frames {
            self.machine.memory().write(frame.base(), &[0xee; FRAME_SIZE]);
        }
        if !self.request(DiskDirection::Read, area, index, &frames) {
            return;
        }
        for (offset, frame) in frames.iter().enumerate() {
            let (mut found, mut expected) = ([0; FRAME_SIZE], [0; FRAME_SIZE]);
            self.machine.memory().read_frame(*frame, &mut found);
            self.areas[area].fill(index + offset, &mut expected);
            let block = self.areas[area].first + (index + offset) as u64;
            if let Some(byte) = (0..FRAME_SIZE).find(|byte| found[*byte] != expected[*byte]) {
                self.mistake(format_args!(
                    "byte {byte} of block {block} is {:#x}, not {:#x}",
                    found[byte], expected[byte]
                ));
            }
        }
    }

    /// One request, from its start to its end; whether it went well.
    fn request(&mut self, direction: DiskDirection, area: usize, index: usize, frames: &[Hfn]) -> bool {
        let request = DiskRequest {
            direction,
            first: self.areas[area].first + index as u64,
            frames,
        };
        let count = match direction {
            DiskDirection::Read => &mut self.read,
            DiskDirection::Write => &mut self.written,
        };
        let began = self.machine.now();
        let result = run(self.machine, &request, count);
        count.add(frames.len(), self.machine.now().since(began).0);
        if result.is_err() {
            self.mistake(format_args!(
                "{direction:?} of {} blocks at {}: {}",
                frames.len(),
                request.first,
                text(result)
            ));
        }
        result.is_ok()
    }

    fn mistake(&mut self, what: core::fmt::Arguments<'_>) {
        self.mistakes += 1;
        if self.mistakes <= MAX_DESCRIBED {
            log::error!("disk-check: {what}");
        }
    }
}

/// Starts a request and waits for its end. The driver's own time-out bounds the wait.
fn run(machine: &mut Bare, request: &DiskRequest<'_>, count: &mut Count) -> Result<(), DiskFailure> {
    let began = machine.now();
    machine.disk_start(request)?;
    count.busy += machine.now().since(began).0;
    if machine.disk_start(request) != Err(DiskFailure::Busy) {
        return Err(DiskFailure::Malformed); // two at a time
    }
    loop {
        let began = machine.now();
        let ended = machine.disk_poll();
        count.busy += machine.now().since(began).0;
        count.wakes += 1;
        if let Some(result) = ended {
            return result;
        }
        machine.idle(Tsc::NEVER);
    }
}
