//! The beginning and the end of guests.

use crate::boot::Slot;
use crate::cooperation::Cooperation;
use crate::devices::{Disk, devices_of};
use crate::guest::{Guest, LAST_EXITS, Life, Reason};
use crate::host::Host;
use crate::loader::{Entry, LoadError};
use crate::memory::GuestMemory;
use crate::output::Output;
use crate::reclaim::Hardship;
use crate::run::Hypervisor;
use crate::space::Space;
use crate::stop::Stop;
use arrayvec::{ArrayString, ArrayVec};
use core::fmt::Write;
use pleat_bundle::config::{GuestConfig, OnReboot, Start};
use pleat_devices::{Board, BoardConfig};
use pleat_types::{Exit, FRAME_SIZE, GuestId, Platform, Registers, Tsc, Vcpu};

/// XCR0 after reset: the x87 state alone.
const XCR0_AT_RESET: u64 = 1;
/// Frames beside its images that there must be for a guest that is to start: its tables, and first steps.
const ROOM_TO_START: u64 = 256;
/// Room for a line of a report.
type ReportText = ArrayString<256>;
/// The longest name of an exit.
const EXIT_NAME_MAX: usize = {
    let (mut longest, mut kind) = (0, 0);
    while kind < Exit::KINDS {
        if Exit::NAMES[kind].len() > longest {
            longest = Exit::NAMES[kind].len();
        }
        kind += 1;
    }
    longest
};
// All of the last exits fit, each behind a space, and what is written before them.
const _: () =
    assert!("last exits:".len() + LAST_EXITS * (EXIT_NAME_MAX + 1) <= ReportText::new_const().capacity());

impl<P: Platform> Hypervisor<P> {
    /// Makes all guests of the configuration, and starts those that start with the run.
    pub(crate) fn start_guests(&mut self) {
        self.host.release_gaps(&self.images);
        self.host.release_unused(&mut self.images);
        for index in 0..self.config.guests.len() {
            let config = self.config.guests[index].clone();
            self.scheduler.add(config.weight);
            let guest = self.host.new_guest(index, config);
            // There are as many slots as a configuration can have guests.
            let _ = self.slots.try_push(Slot { vcpu: None, guest });
            if self.config.guests[index].start == Start::Now {
                self.start(index);
            }
        }
    }

    /// Starts a guest that somebody has asked for, once there is room for its images; or when nothing will make any: then
    /// it ends with the reason.
    pub(crate) fn start_asked_for(&mut self) {
        let Some(index) = self.guests().position(|guest| guest.life == Life::Starting) else {
            return;
        };
        let images = self.images.frames_of(&self.slots[index].guest.config);
        if self.host.frames.available() >= images + ROOM_TO_START || !self.can_reclaim() {
            self.start(index);
        }
    }

    /// Loads a guest that has no memory, and makes it ready; or ends it with the reason.
    pub(crate) fn start(&mut self, index: usize) {
        let admitted = self.admit(index);
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let loaded = admitted.and_then(|()| {
            // From here on its images count as used, however that goes.
            slot.guest.life = Life::Waiting;
            self.host.load_guest(&mut self.images, slot)
        });
        match loaded {
            Ok(()) => {
                slot.guest.life = Life::Running;
                self.host.announce(&slot.guest, "");
                self.scheduler.wake(index);
            }
            Err(error) => {
                self.end(index, Stop::NotStarted(error));
                // The next guest to be loaded may need what this one held.
                while self
                    .slots
                    .get_mut(index)
                    .is_some_and(|slot| self.host.release_step(slot))
                {}
            }
        }
    }

    /// Ends a guest: tells everybody, and begins to take its memory back.
    pub(crate) fn end(&mut self, index: usize, stop: Stop) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if slot.guest.has_ended() {
            return;
        }
        let was_unstarted = matches!(slot.guest.life, Life::Unstarted | Life::Starting);
        self.scheduler.remove(index);
        self.merger.forget(index);
        self.reclaimer.forget(index);
        slot.guest.hardship.is_over();
        self.host.flush_output(&mut slot.guest);
        slot.guest.life = Life::Ended(stop);
        slot.guest.reason = Reason::new();
        // A reason that is too long is cut.
        let _ = write!(slot.guest.reason, "{stop}");
        let reason = slot.guest.reason;
        self.host.announce(&slot.guest, &reason);
        if stop.wants_report() {
            self.host.report(slot);
        }
        self.host.say(format_args!(
            "guest `{}` {}: {reason}",
            slot.guest.config.name,
            stop.ended().name()
        ));
        if stop.fails_the_run() {
            let (name, ended) = (slot.guest.config.name, stop.ended().name());
            self.host.fail(format_args!("guest `{name}` {ended}: {reason}"));
        }
        self.host.dismantle(slot);
        if was_unstarted {
            self.host.skip_images(&mut self.images, &slot.guest.config);
        }
        self.host.leave_images(&mut self.images, &slot.guest.config);
        if self.host.attached == Some(index) {
            self.detach();
        }
        self.dismiss(index);
        self.reconsider();
    }

    /// What the guest's reset leads to.
    pub(crate) fn reboot(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if slot.guest.config.on_reboot == OnReboot::Stop {
            self.end(index, Stop::Rebooted);
            return;
        }
        let begin = self.host.platform.now();
        self.host.flush_output(&mut slot.guest);
        // A new boot begins a new line. Its events stay: see [`Guest::events`].
        slot.guest.output = Output::default();
        slot.guest.cooperation.restart();
        slot.guest.lost = None;
        self.merger.forget(index);
        self.reclaimer.forget(index);
        slot.guest.hardship.is_over();
        self.host.dismantle(slot);
        // Its memory goes back before it starts again, so that it starts with empty memory.
        while self.host.release_step(slot) {}
        self.host.announce(&slot.guest, "restarted");
        self.scheduler.wait(index);
        self.start(index);
        // Who restarts in a loop pays for it.
        self.scheduler
            .charge(index, self.host.platform.now().since(begin));
    }
}

impl<P: Platform> Host<P> {
    fn new_guest(&mut self, index: usize, config: GuestConfig<'static>) -> Guest {
        let id = GuestId(u16::try_from(index).unwrap_or(u16::MAX));
        let space = Space::new(&config);
        let memory = GuestMemory::new(id, config.pages, &space);
        let board = self.new_board(&config, &space);
        Guest {
            id,
            config,
            life: Life::Unstarted,
            is_paused: false,
            hardship: Hardship::NONE,
            space,
            memory,
            board,
            disk: None,
            cooperation: Cooperation::new(),
            vcpu_frames: ArrayVec::new(),
            devices_short: None,
            short: None,
            tsc_offset: 0,
            xcr0: XCR0_AT_RESET,
            has_news: true,
            is_window_open: false,
            tpr_threshold: None,
            first_entry: None,
            ran: Tsc(0),
            exits: [0; Exit::KINDS],
            recent: [u8::MAX; LAST_EXITS],
            recent_at: 0,
            output: Output::default(),
            unshown: 0,
            events: ArrayVec::new(),
            events_dropped: 0,
            reason: Reason::new(),
            bug: None,
            lost: None,
        }
    }

    /// A board that is switched on now, at the guest's tick 0.
    fn new_board(&self, config: &GuestConfig<'_>, space: &Space) -> Board {
        let uptime = self.platform.now().0 / self.tsc_hz.max(1);
        let epoch = self.platform.boot_epoch().wrapping_add(uptime);
        Board::new(&BoardConfig {
            tsc_hz: self.tsc_hz,
            epoch,
            start: Tsc(0),
            devices: devices_of(config, space),
        })
    }

    /// Memory, images and a virtual processor for a guest that has none.
    fn load_guest(
        &mut self,
        images: &mut crate::images::Images,
        slot: &mut Slot<P::Vcpu>,
    ) -> Result<(), LoadError> {
        let guest = &mut slot.guest;
        let promised = self.promise(&mut guest.memory, &guest.space);
        // The images are counted as used even if there was no room to begin with.
        let entry = self.load(images, guest);
        promised?;
        guest.disk = self.open_disk(images, guest)?;
        slot.vcpu = Some(self.new_processor(guest, entry?)?);
        Ok(())
    }

    fn open_disk(
        &mut self,
        images: &mut crate::images::Images,
        guest: &Guest,
    ) -> Result<Option<Disk>, LoadError> {
        let Some(disk) = guest.config.devices.disk else {
            return Ok(None);
        };
        let image = self
            .open_image(images, disk.image)
            .map_err(LoadError::DiskImage)?;
        let pages = guest.space.disk;
        let bound = disk.written_bytes.map(|bytes| bytes / FRAME_SIZE as u64);
        Ok(Some(Disk::new(image, pages, bound.unwrap_or(pages.count))))
    }

    fn new_processor(&mut self, guest: &mut Guest, entry: Entry) -> Result<P::Vcpu, LoadError> {
        while guest.vcpu_frames.len() < P::VCPU_FRAMES {
            let frame = self.frames.allocate_vcpu(guest.id).ok_or(LoadError::HostShort)?;
            let full = LoadError::Bug("a virtual processor of too many frames");
            guest.vcpu_frames.try_push(frame).map_err(|_| full)?;
        }
        let eptp = guest.memory.stage2().map(pleat_stage2::Stage2::eptp);
        let eptp = eptp.ok_or(LoadError::Bug("a guest without tables"))?;
        let mut vcpu = self.platform.new_vcpu(guest.id, &guest.vcpu_frames, eptp);
        vcpu.set_rip(entry.rip);
        vcpu.set_gpr(entry.parameters_in, crate::loader::layout::PARAMETERS.get());
        // The guest's clock starts at 0 when its board is switched on: now.
        guest.tsc_offset = 0u64.wrapping_sub(self.platform.now().0);
        vcpu.set_tsc_offset(guest.tsc_offset);
        guest.board = self.new_board(&guest.config, &guest.space);
        guest
            .board
            .set_requested_memory(guest.cooperation.requested_bytes);
        guest.devices_short = None;
        guest.xcr0 = XCR0_AT_RESET;
        guest.has_news = true;
        guest.is_window_open = false;
        guest.tpr_threshold = None;
        Ok(vcpu)
    }

    /// The processor goes at once, the memory step by step.
    fn dismantle(&mut self, slot: &mut Slot<P::Vcpu>) {
        if let Some(vcpu) = slot.vcpu.take() {
            self.platform.drop_vcpu(vcpu);
        }
        for frame in slot.guest.vcpu_frames.drain(..) {
            self.frames.release_vcpu(frame);
        }
        self.begin_release(&mut slot.guest.memory);
    }

    /// Gives a batch of a dismantled guest's memory back; false when there is none left.
    pub(crate) fn release_step(&mut self, slot: &mut Slot<P::Vcpu>) -> bool {
        match self.release_some(&mut slot.guest.memory) {
            Ok(is_more) => is_more,
            Err(error) => {
                self.fail(format_args!("guest `{}`: {error:?}", slot.guest.config.name));
                false
            }
        }
    }

    fn announce(&mut self, guest: &Guest, reason: &str) {
        let record = self.record("state").text("guest", guest.config.name);
        record
            .text("state", guest.state_name())
            .text("reason", reason)
            .end();
    }

    /// Why a guest was stopped, with all that helps to find the cause.
    fn report(&mut self, slot: &Slot<P::Vcpu>) {
        let guest = &slot.guest;
        self.report_line(
            guest,
            format_args!("guest `{}`: {}", guest.config.name, guest.reason),
        );
        if let Some(vcpu) = &slot.vcpu {
            self.report_registers(guest, &vcpu.registers());
        }
        let mut exits = ReportText::new();
        for name in guest.last_exits() {
            let _ = write!(exits, " {name}");
        }
        self.report_line(guest, format_args!("last exits:{exits}"));
    }

    fn report_registers(&mut self, guest: &Guest, r: &Registers) {
        let (cs, ss) = (r.cs.selector, r.ss.selector);
        let state = format_args!("rip {:#x} rflags {:#x} cs {cs:#x} ss {ss:#x}", r.rip, r.rflags);
        self.report_line(guest, state);
        let control = format_args!(
            "cr0 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x}",
            r.cr0, r.cr3, r.cr4, r.efer
        );
        self.report_line(guest, control);
        for (names, values) in GPR_NAMES.as_chunks::<4>().0.iter().zip(r.gprs.as_chunks::<4>().0) {
            let [a, b, c, d] = names;
            let [av, bv, cv, dv] = values;
            self.report_line(
                guest,
                format_args!("{a} {av:#x} {b} {bv:#x} {c} {cv:#x} {d} {dv:#x}"),
            );
        }
    }

    fn report_line(&mut self, guest: &Guest, text: core::fmt::Arguments<'_>) {
        self.record("report")
            .text("guest", guest.config.name)
            .format("text", text)
            .end();
        let mut line = ReportText::new();
        let _ = line.write_fmt(text);
        self.platform.console_write(b"  ");
        self.platform.console_write(line.as_bytes());
        self.platform.console_write(b"\r\n");
    }
}

/// By `Gpr` number.
const GPR_NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];
