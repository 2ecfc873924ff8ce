//! What the machine gives to the layers above it.

use crate::{
    DiskFailure, DiskInfo, DiskKind, DiskRequest, Exit, FRAME_SIZE, FrozenFrame, GuestId, Hfn, Hpa, Vcpu,
};

/// A point in time, or a span of it, in ticks of the time-stamp counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Tsc(pub u64);

impl Tsc {
    /// A time that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The time `span` later (never, if that overflows).
    #[must_use]
    pub const fn after(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The span since `earlier` (zero if that is later).
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// EAX, EBX, ECX, EDX of one CPUID leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)] // register names
pub struct CpuidResult {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

/// Entries of a table that lie in one cache line.
pub const LINE: usize = 8;

/// Bytes of host frames that hold guest memory, page tables or boot images.
///
/// A frame outside of what the machine handed out at boot is a bug of the caller: it panics.
/// Bytes that a running guest may write are only ever copied, never borrowed.
pub trait FrameMemory {
    /// Copies a whole frame out.
    fn read_frame(&self, frame: Hfn, out: &mut [u8; FRAME_SIZE]);
    /// The bytes of a frame that nobody can write.
    fn frozen<'a>(&'a self, frame: &'a FrozenFrame) -> &'a [u8; FRAME_SIZE];
    /// Fills a frame with zeros.
    fn zero_frame(&mut self, frame: Hfn);
    /// Copies one frame onto another.
    fn copy_frame(&mut self, from: Hfn, to: Hfn);
    /// Copies bytes out; the range may cross frames.
    fn read(&self, from: Hpa, out: &mut [u8]);
    /// Copies bytes in; the range may cross frames.
    fn write(&mut self, to: Hpa, bytes: &[u8]);
    /// Reads the 64-bit entry `index` (0 to 511) of a table, in one access.
    fn load_entry(&self, table: Hfn, index: usize) -> u64;
    /// Reads the entries of a table from `index`, a multiple of [`LINE`], on, each in one access.
    fn load_line(&self, table: Hfn, index: usize) -> [u64; LINE] {
        core::array::from_fn(|n| self.load_entry(table, index + n))
    }
    /// Writes the 64-bit entry `index` (0 to 511) of a table, in one access.
    fn store_entry(&mut self, table: Hfn, index: usize, value: u64);
}

/// Ways to bring the hypervisor itself down on purpose, to see that it is noticed and recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Provocation {
    /// A check of its own fails.
    Panic,
    /// It reads address 0.
    ReadNull,
    /// It writes to its own code.
    WriteCode,
    /// It executes its own data.
    ExecuteData,
    /// It runs out of stack.
    OverflowStack,
}

/// The board: processor, clock, memory and the way out.
pub trait Platform {
    /// A virtual processor of this platform.
    type Vcpu: Vcpu + 'static;
    /// Access to frames.
    type Memory: FrameMemory;

    /// Host frames that one virtual processor needs (its VMCS and state pages).
    const VCPU_FRAMES: usize;

    /// A virtual processor in the state [`Vcpu`] describes, made from `VCPU_FRAMES` frames that belong
    /// to it until [`Platform::drop_vcpu`] returns.
    fn new_vcpu(&mut self, guest: GuestId, frames: &[Hfn], eptp: u64) -> Self::Vcpu;
    /// Ends a virtual processor; its frames may be used again afterwards.
    fn drop_vcpu(&mut self, vcpu: Self::Vcpu);
    /// Runs the guest until it exits, at the latest at `until` (then [`Exit::TimerExpired`]).
    fn enter(&mut self, vcpu: &mut Self::Vcpu, until: Tsc) -> Exit;
    /// Drops all cached translations of one guest, on every processor that may have some (INVEPT).
    fn flush(&mut self, eptp: u64);
    /// Whether extended page tables may map 1 GiB at once.
    fn has_huge_ept(&self) -> bool;
    /// Whether the processor logs the pages whose dirty flag it sets (page-modification logging, SDM
    /// 29.3.6), for [`Vcpu::take_dirty_log`] to read.
    fn has_dirty_log(&self) -> bool;
    /// A number that no guest can know or guess, from the processor's random number generator where it has
    /// one. Emulated machines repeat it.
    fn entropy(&mut self) -> u64;
    /// Sleeps until an interrupt, at the latest until `until`. Returns early, or at once, when [`Platform::disk_poll`]
    /// may have something to say.
    fn idle(&mut self, until: Tsc);
    /// Now.
    fn now(&self) -> Tsc;
    /// Ticks of the time-stamp counter in a second.
    fn tsc_hz(&self) -> u64;
    /// Wall clock at start-up, as the board's clock gave it: seconds since 1970, UTC.
    fn boot_epoch(&self) -> u64;
    /// What CPUID says on this processor.
    fn host_cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult;
    /// The frames.
    fn memory(&mut self) -> &mut Self::Memory;
    /// One byte that a person typed on the console, if there is one.
    fn console_input(&mut self) -> Option<u8>;
    /// Text for people (COM1). Never waits long: what does not fit is dropped and counted.
    fn console_write(&mut self, text: &[u8]);
    /// How many bytes [`Platform::console_write`] takes now without dropping any; all where nobody listens.
    /// Pleat counts on a queue of 16 KiB.
    fn console_room(&self) -> usize;
    /// Bytes for programs: the record stream (port 0xE9 where it exists, else COM2). Waits if it must.
    fn stream_write(&mut self, bytes: &[u8]);
    /// Takes the host's own disk in use: of this kind alone, or the best there is. Nothing touches a disk before, because
    /// its content is lost by what follows. A request that takes longer than `patience` has failed. Opening it once more
    /// only sets that anew.
    fn disk_open(&mut self, kind: Option<DiskKind>, patience: Tsc) -> Option<DiskInfo>;
    /// The open disk, if there is one.
    fn disk_info(&self) -> Option<DiskInfo>;
    /// Gives the disk a request and returns at once; the frames belong to the disk until [`Platform::disk_poll`] has said
    /// how it ended.
    ///
    /// # Errors
    /// A request that is refused has touched nothing.
    fn disk_start(&mut self, request: &DiskRequest<'_>) -> Result<(), DiskFailure>;
    /// How the request ended, once; `None` while it goes on, and where there is none. Never waits, and costs a port access
    /// when there is nothing to do; a disk without DMA moves a bounded number of sectors here.
    fn disk_poll(&mut self) -> Option<Result<(), DiskFailure>>;
    /// Brings the hypervisor down in this way: it ends in a crash record.
    fn provoke(&mut self, how: Provocation) -> !;
}
