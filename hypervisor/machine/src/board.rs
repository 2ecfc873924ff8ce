//! The board: what `types::Platform` asks of this machine.

use core::arch::x86_64::__cpuid_count;
use core::cell::OnceCell;

use pleat_types::{
    CpuidResult, DiskFailure, DiskInfo, DiskKind, DiskRequest, Exit, GuestId, Hfn, Platform, Provocation, Tsc,
};

use crate::boot::MemoryMap;
use crate::cpu::rdtsc;
use crate::disk::DiskPort;
use crate::frames::Frames;
use crate::serial::{CONSOLE, Stream};
use crate::vmx::capability::{self, Capabilities};
use crate::vmx::{Engine, Identity, VCPU_FRAMES, VirtualProcessor};
use crate::{clock, entropy, interrupts};

/// This machine.
pub struct Board {
    engine: Engine,
    frames: Frames,
    stream: Stream,
    disk: DiskPort,
    tsc_hz: OnceCell<u64>,
    boot_epoch: u64,
}

impl Board {
    /// Turns VMX on and reads the clock.
    pub(crate) fn start(capabilities: Capabilities, memory: &MemoryMap) -> Self {
        // SAFETY: what is managed is RAM that is mapped at its address, and Pleat's own parts are cut out
        // of it; records that are claimed later are cut out by `seal`.
        let frames = unsafe { Frames::new(memory.managed()) };
        Self {
            engine: Engine::start(capabilities),
            frames,
            stream: Stream::get(),
            disk: DiskPort::EMPTY,
            tsc_hz: OnceCell::new(),
            boot_epoch: clock::read_wall_clock(),
        }
    }

    /// Takes the frames that were claimed since start-up out of what can be reached.
    pub fn seal(&mut self, memory: &MemoryMap) {
        // SAFETY: as in `start`, with less memory.
        self.frames = unsafe { Frames::new(memory.managed()) };
    }
}

impl Platform for Board {
    type Vcpu = VirtualProcessor;
    type Memory = Frames;

    const VCPU_FRAMES: usize = VCPU_FRAMES;

    fn new_vcpu(&mut self, guest: GuestId, frames: &[Hfn], eptp: u64) -> VirtualProcessor {
        let frames: &[Hfn; VCPU_FRAMES] = frames
            .try_into()
            .expect("a virtual processor has VCPU_FRAMES frames");
        self.frames.assert_managed(frames);
        self.engine
            .new_vcpu(Identity { guest, eptp }, frames.map(Hfn::base))
    }

    fn drop_vcpu(&mut self, vcpu: VirtualProcessor) {
        drop(vcpu);
    }

    fn enter(&mut self, vcpu: &mut VirtualProcessor, until: Tsc) -> Exit {
        self.engine.enter(vcpu, until.0)
    }

    fn flush(&mut self, eptp: u64) {
        Engine::flush(eptp);
    }

    fn has_huge_ept(&self) -> bool {
        capability::has_huge_ept()
    }

    fn has_dirty_log(&self) -> bool {
        self.engine.has_dirty_log()
    }

    fn entropy(&mut self) -> u64 {
        entropy::draw()
    }

    fn idle(&mut self, until: Tsc) {
        if !CONSOLE.lock().has_input() {
            interrupts::sleep(self.disk.sleeps_until(until));
        }
    }

    fn now(&self) -> Tsc {
        Tsc(rdtsc())
    }

    fn tsc_hz(&self) -> u64 {
        // Measured when it is asked for: whoever starts an emulator knows it and saves the 10 ms.
        *self.tsc_hz.get_or_init(clock::tsc_hz)
    }

    fn boot_epoch(&self) -> u64 {
        self.boot_epoch
    }

    fn host_cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        let result = __cpuid_count(leaf, subleaf);
        CpuidResult {
            eax: result.eax,
            ebx: result.ebx,
            ecx: result.ecx,
            edx: result.edx,
        }
    }

    fn memory(&mut self) -> &mut Frames {
        &mut self.frames
    }

    fn console_input(&mut self) -> Option<u8> {
        CONSOLE.lock().read()
    }

    fn console_write(&mut self, text: &[u8]) {
        CONSOLE.lock().write(text);
    }

    fn console_room(&self) -> usize {
        CONSOLE.lock().room()
    }

    fn stream_write(&mut self, bytes: &[u8]) {
        self.stream.write(bytes);
    }

    fn disk_open(&mut self, kind: Option<DiskKind>, patience: Tsc) -> Option<DiskInfo> {
        self.disk.open(kind, patience)
    }

    fn disk_info(&self) -> Option<DiskInfo> {
        self.disk.info()
    }

    fn disk_start(&mut self, request: &DiskRequest<'_>) -> Result<(), DiskFailure> {
        self.disk.start(&self.frames, request)
    }

    fn disk_poll(&mut self) -> Option<Result<(), DiskFailure>> {
        self.disk.poll(&self.frames)
    }

    fn provoke(&mut self, how: Provocation) -> ! {
        crate::provoke::provoke(how)
    }
}
