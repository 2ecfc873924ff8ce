//! A virtio block device (virtio 1.2, 5.2) on PCI, through the crate `virtio-drivers`.
//!
//! Of that crate this takes the transport and the queue. Its own block driver wants the bytes of a request in a row; here
//! each block has a frame somewhere, and a descriptor of its own. There is one request at a time and nobody waits in it,
//! so the device is told not to interrupt: there is no table here that says where its interrupt would come.

use core::ptr::NonNull;

use arrayvec::ArrayVec;
use bitflags::bitflags;
use pleat_types::{DISK_RUN, DiskDirection, DiskFailure, DiskKind, DiskRequest, FRAME_SIZE, Hfn};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::{DeviceStatus, Transport};

use super::task::SECTORS;
use super::virtio_hal::{Hal, page, transport};
use crate::frames::Frames;

/// The request queue (5.2.2).
const QUEUE: u16 = 0;
/// Its size, a power of two with room for a request: header, frames, status.
const QUEUE_SIZE: usize = 64;
/// Buffers that a request has at most.
const BUFFERS: usize = DISK_RUN + 2;

/// Where header and status lie in their page.
const HEADER: usize = 0;
const HEADER_BYTES: usize = 16;
const STATUS: usize = HEADER_BYTES;
/// What a status is before the device writes one.
const NO_STATUS: u8 = 0xff;

bitflags! {
    /// Features that matter here (5.2.3, 6).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        /// The device cannot be written.
        const READ_ONLY = 1 << 5;
        /// It is as virtio 1 says.
        const VERSION_1 = 1 << 32;
    }
}

/// A virtio disk that was found.
pub struct VirtioDisk {
    transport: PciTransport,
    queue: VirtQueue<Hal, QUEUE_SIZE>,
    /// The page with header and status: it stays where it is.
    control: NonNull<u8>,
    blocks: u64,
    transfer: Option<Transfer>,
    is_gone: bool,
}

struct Transfer {
    direction: DiskDirection,
    frames: ArrayVec<Hfn, DISK_RUN>,
    token: u16,
}

/// What the device reads and what it writes, in order. Arrays with a length, not lists: the queue wants to borrow the
/// buffers for as long as they live, and a list has to be dropped after that.
struct Buffers<'a> {
    inputs: [&'a [u8]; BUFFERS],
    inputs_len: usize,
    outputs: [&'a mut [u8]; BUFFERS],
    outputs_len: usize,
}

impl<'a> Buffers<'a> {
    fn new() -> Self {
        Self {
            inputs: [&[]; BUFFERS],
            inputs_len: 0,
            outputs: core::array::from_fn(|_| &mut [][..]),
            outputs_len: 0,
        }
    }

    fn give(&mut self, bytes: &'a [u8]) {
        self.inputs[self.inputs_len] = bytes;
        self.inputs_len += 1;
    }

    fn want(&mut self, bytes: &'a mut [u8]) {
        self.outputs[self.outputs_len] = bytes;
        self.outputs_len += 1;
    }
}

impl VirtioDisk {
    /// Takes the first virtio block device in use (3.1.1).
    pub fn find(kind: Option<DiskKind>) -> Option<Self> {
        if !matches!(kind, None | Some(DiskKind::Virtio)) {
            return None;
        }
        let mut transport = transport()?;
        let features = transport.begin_init(Features::all());
        let is_accepted = transport.get_status().contains(DeviceStatus::FEATURES_OK);
        if !is_accepted || features != Features::VERSION_1 {
            transport.set_status(DeviceStatus::FAILED);
            return None;
        }
        let blocks = capacity(&transport)? / SECTORS as u64;
        let mut queue = VirtQueue::new(&mut transport, QUEUE, false, false).ok()?;
        queue.set_dev_notify(false);
        let control = page()?;
        transport.finish_init();
        Some(Self {
            transport,
            queue,
            control,
            blocks,
            transfer: None,
            is_gone: false,
        })
    }

    /// Whole blocks that it has.
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Gives the device a request that was checked.
    pub fn start(&mut self, frames: &Frames, request: &DiskRequest<'_>) -> Result<(), DiskFailure> {
        if self.is_gone {
            return Err(DiskFailure::Gone);
        }
        self.set_control(&header(request.direction, request.first));
        let mut buffers = self.buffers(frames, request.direction, request.frames);
        // SAFETY: the frames belong to the disk until the request has ended, and the control page to the device; the same
        // buffers are made again for `pop_used`.
        let token = unsafe {
            let (inputs, outputs) = (&buffers.inputs, &mut buffers.outputs);
            self.queue
                .add(&inputs[..buffers.inputs_len], &mut outputs[..buffers.outputs_len])
        };
        let token = token.map_err(|_| DiskFailure::Busy)?;
        if self.queue.should_notify() {
            self.transport.notify(QUEUE);
        }
        self.transfer = Some(Transfer {
            direction: request.direction,
            frames: request.frames.iter().copied().collect(),
            token,
        });
        Ok(())
    }

    /// A poll would find something to do.
    pub fn is_due(&self) -> bool {
        self.queue.can_pop()
    }

    /// Says how the request ended, if it has.
    pub fn poll(&mut self, frames: &Frames) -> Option<Result<(), DiskFailure>> {
        if !self.queue.can_pop() {
            return None;
        }
        let transfer = self.transfer.take()?;
        let mut buffers = self.buffers(frames, transfer.direction, &transfer.frames);
        // SAFETY: these are the buffers that `start` gave for this token.
        let used = unsafe {
            let inputs = &buffers.inputs[..buffers.inputs_len];
            let outputs = &mut buffers.outputs[..buffers.outputs_len];
            self.queue.pop_used(transfer.token, inputs, outputs)
        };
        let Ok(written) = used else {
            self.abandon(); // it answers what nobody asked
            return Some(Err(DiskFailure::Gone));
        };
        let wanted = match transfer.direction {
            DiskDirection::Read => transfer.frames.len() * FRAME_SIZE + 1,
            DiskDirection::Write => 1,
        };
        Some(match outcome(self.status()) {
            Ok(()) if (written as usize) < wanted => Err(DiskFailure::Short),
            other => other,
        })
    }

    /// Resets the device: afterwards it touches no memory (2.4.1), and it is not used again, because the queue would have
    /// to be made anew.
    pub fn abandon(&mut self) {
        /// Reads of the status until the reset is over.
        const READS: u32 = 1000;
        self.transport.set_status(DeviceStatus::empty());
        let is_reset = (0..READS).any(|_| self.transport.get_status().is_empty());
        if !is_reset {
            log::error!("the virtio disk does not let itself be reset");
        }
        self.is_gone = true;
        self.transfer = None;
    }

    fn set_control(&mut self, header: &[u8; HEADER_BYTES]) {
        // SAFETY: the control page is ours while no request is under way.
        unsafe {
            self.control.add(HEADER).cast().write(*header);
            self.control.add(STATUS).write(NO_STATUS);
        }
    }

    fn status(&self) -> u8 {
        // SAFETY: in the control page, which the device has written to and is done with.
        unsafe { self.control.add(STATUS).read_volatile() }
    }

    /// The buffers of a request: header, frames, status (5.2.6). They are named for the queue, which hands their addresses
    /// to the device and looks into none.
    fn buffers<'a>(&self, frames: &Frames, direction: DiskDirection, list: &[Hfn]) -> Buffers<'a> {
        let mut buffers = Buffers::new();
        let control = self.control.as_ptr();
        // SAFETY: bytes of the control page.
        buffers.give(unsafe { core::slice::from_raw_parts(control.wrapping_add(HEADER), HEADER_BYTES) });
        for frame in list {
            let bytes = frames.part(*frame, 0, FRAME_SIZE);
            // SAFETY: a frame that was handed out, and that belongs to the disk.
            let bytes = unsafe { core::slice::from_raw_parts_mut(bytes, FRAME_SIZE) };
            match direction {
                DiskDirection::Read => buffers.want(bytes),
                DiskDirection::Write => buffers.give(bytes),
            }
        }
        // SAFETY: a byte of the control page.
        buffers.want(unsafe { core::slice::from_raw_parts_mut(control.wrapping_add(STATUS), 1) });
        buffers
    }
}

/// The capacity in sectors (5.2.4), read so that both halves belong together (2.5.1).
fn capacity(transport: &PciTransport) -> Option<u64> {
    /// A device that changes its mind more often than this has none.
    const TRIES: usize = 4;
    (0..TRIES).find_map(|_| {
        let before = transport.read_config_generation();
        let low: u32 = transport.read_config_space(0).ok()?;
        let high: u32 = transport.read_config_space(4).ok()?;
        let is_whole = transport.read_config_generation() == before;
        is_whole.then_some(u64::from(high) << 32 | u64::from(low))
    })
}

/// The header of a request: type, reserved, sector (5.2.6).
fn header(direction: DiskDirection, first: u64) -> [u8; HEADER_BYTES] {
    let kind: u64 = match direction {
        DiskDirection::Read => 0,  // VIRTIO_BLK_T_IN
        DiskDirection::Write => 1, // VIRTIO_BLK_T_OUT
    };
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&(first * SECTORS as u64).to_le_bytes());
    header
}

/// What a status says (5.2.6).
const fn outcome(status: u8) -> Result<(), DiskFailure> {
    match status {
        0 => Ok(()),
        1 => Err(DiskFailure::BadSector), // VIRTIO_BLK_S_IOERR
        2 => Err(DiskFailure::Refused),   // VIRTIO_BLK_S_UNSUPP
        _ => Err(DiskFailure::Transfer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_a_type_and_a_sector() {
        let write = header(DiskDirection::Write, 0x12_3456_789a);
        assert_eq!(
            write,
            [1, 0, 0, 0, 0, 0, 0, 0, 0xd0, 0xc4, 0xb3, 0xa2, 0x91, 0, 0, 0]
        );
        assert_eq!(header(DiskDirection::Read, 0), [0; HEADER_BYTES]);
    }

    #[test]
    fn a_status_that_was_not_written_is_a_failure() {
        assert_eq!(outcome(0), Ok(()));
        assert_eq!(outcome(1), Err(DiskFailure::BadSector));
        assert_eq!(outcome(2), Err(DiskFailure::Refused));
        assert_eq!(outcome(NO_STATUS), Err(DiskFailure::Transfer));
    }
}
