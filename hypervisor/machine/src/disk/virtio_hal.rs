//! What the crate `virtio-drivers` asks of the machine: pages for queues, and a device on PCI.
//!
//! Addresses are physical ones here, so sharing memory with a device is nothing. The pages are static: one disk needs three,
//! once.

use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use pleat_types::FRAME_SIZE;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction, PciRoot};
use virtio_drivers::{BufferDirection, PhysAddr};

use crate::pci::{ANSWERS_MEMORY, Function, IS_MASTER};

/// Two for the queue, one for header and status.
const PAGES: usize = 3;

#[repr(C, align(4096))]
struct Pool(UnsafeCell<[[u8; FRAME_SIZE]; PAGES]>);

// SAFETY: each page is handed out once, and nothing else refers to the pool.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool(UnsafeCell::new([[0; FRAME_SIZE]; PAGES]));
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// The machine as `virtio-drivers` sees it.
pub struct Hal;

// SAFETY: pages of the pool are aligned, zero, and handed out once; the first 4 GiB are mapped at their own addresses.
unsafe impl virtio_drivers::Hal for Hal {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let take = |taken: usize| taken.checked_add(pages).filter(|end| *end <= PAGES);
        match TAKEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(first) => {
                let page = POOL.0.get().cast::<u8>().wrapping_add(first * FRAME_SIZE);
                (page as u64, NonNull::new(page).unwrap_or(NonNull::dangling()))
            }
            Err(_) => (0, NonNull::dangling()), // 0 is how this interface says that there is none
        }
    }

    /// What was given stays given: a disk is found once.
    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        assert!(address < 1 << 32, "only the first 4 GiB are mapped for devices");
        NonNull::new(address as *mut u8).expect("no device lies at 0")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr() as u64
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// A page for what is said about a request, apart from its bytes.
pub fn page() -> Option<NonNull<u8>> {
    let (address, page) = <Hal as virtio_drivers::Hal>::dma_alloc(1, BufferDirection::Both);
    (address != 0).then_some(page)
}

/// Configuration space, for the crate's transport.
struct Configuration;

const fn function(of: DeviceFunction) -> Function {
    Function {
        device: of.device,
        function: of.function,
    }
}

impl ConfigurationAccess for Configuration {
    fn read_word(&self, of: DeviceFunction, offset: u8) -> u32 {
        function(of).read(offset)
    }

    fn write_word(&mut self, of: DeviceFunction, offset: u8, value: u32) {
        function(of).write(offset, value);
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Self
    }
}

/// The transport of the first virtio block device on bus 0, with a place for its registers.
pub fn transport() -> Option<PciTransport> {
    let found = Function::all().find(|function| is_block_device(function.identity()))?;
    found.place_memory();
    found.allow(ANSWERS_MEMORY | IS_MASTER);
    let of = DeviceFunction {
        bus: 0,
        device: found.device,
        function: found.function,
    };
    let transport = PciTransport::new::<Hal, _>(&mut PciRoot::new(Configuration), of);
    transport
        .inspect_err(|error| log::error!("the virtio disk cannot be used: {error}"))
        .ok()
}

/// A block device, transitional or not (virtio 1.2, 4.1.2).
const fn is_block_device(identity: u32) -> bool {
    matches!(identity, 0x1001_1af4 | 0x1042_1af4)
}
