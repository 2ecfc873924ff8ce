//! Loading a guest: its kernel, its initial RAM disk, and what the kernel is told about both.
//!
//! Two protocols, both entered in flat 32-bit protected mode: PVH for an ELF file with its note (an
//! uncompressed Linux kernel, our test kernels), and Linux's 32-bit boot protocol for a bzImage.

mod bzimage;
mod error;
pub(crate) mod layout;
mod pages;
mod parameters;

pub(crate) use error::LoadError;

use crate::guest::Guest;
use crate::host::Host;
use crate::images::{Images, OpenImage};
use bzimage::SetupHeader;
use layout::{ACPI, COMMAND_LINE, COMMAND_LINE_MAX, HIGH_START, PARAMETERS, Ram};
use pages::Part;
use parameters::Initramfs;
use pleat_bundle::elf::{self, Elf64, HEAD_BYTES};
use pleat_devices::acpi;
use pleat_types::{FRAME_SIZE, FrameMemory, Gpa, Gpr, Platform};

/// The longest note segment that is searched for the PVH entry.
const NOTES_MAX: usize = 1024;

/// With what a virtual processor starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) rip: u64,
    /// The register that holds the address of the parameters.
    pub(crate) parameters_in: Gpr,
}

/// Where a kernel ended up.
struct Kernel {
    entry: Entry,
    /// The first byte behind all that it needs before it knows its memory map.
    end: u64,
    /// The last byte that the initial RAM disk may occupy.
    initramfs_last: u64,
    setup: Option<SetupHeader>,
}

impl<P: Platform> Host<P> {
    /// Loads a guest whose RAM was promised and never touched.
    pub(crate) fn load(&mut self, images: &mut Images, guest: &mut Guest) -> Result<Entry, LoadError> {
        let index = guest.config.kernel;
        let opened = self.open_image(images, index).map_err(LoadError::KernelImage);
        let kernel = opened.and_then(|image| self.load_kernel(guest, image));
        self.close_image(images, index);
        let initramfs = match guest.config.initramfs {
            Some(index) => {
                let opened = self.open_image(images, index).map_err(LoadError::InitramfsImage);
                let start = opened.and_then(|image| match &kernel {
                    Ok(kernel) => self.load_initramfs(guest, image, kernel).map(Some),
                    Err(error) => Err(*error),
                });
                self.close_image(images, index);
                start
            }
            None => Ok(None),
        };
        let kernel = kernel?;
        self.load_parameters(guest, &kernel, initramfs?)?;
        Ok(kernel.entry)
    }

    fn load_kernel(&mut self, guest: &mut Guest, image: OpenImage) -> Result<Kernel, LoadError> {
        let mut head = [0; HEAD_BYTES];
        let length = image.bytes.min(HEAD_BYTES as u64);
        let head = &mut head[..usize::try_from(length).unwrap_or(HEAD_BYTES)];
        self.platform.memory().read(image.start, head);
        if elf::is_elf(head) {
            let file = Elf64::parse(head, image.bytes).map_err(LoadError::Elf)?;
            self.load_elf(guest, image, &file)
        } else if SetupHeader::is_bzimage(head) {
            let header = SetupHeader::parse(head, image.bytes).map_err(LoadError::BzImage)?;
            self.load_bzimage(guest, image, header)
        } else {
            Err(LoadError::UnknownKernel)
        }
    }

    fn load_elf(
        &mut self,
        guest: &mut Guest,
        image: OpenImage,
        file: &Elf64<'_>,
    ) -> Result<Kernel, LoadError> {
        let rip = self.find_pvh_entry(image, file).ok_or(LoadError::NoPvhNote)?;
        let end = file
            .loads()
            .map(|segment| segment.physical_end())
            .max()
            .unwrap_or(0);
        for segment in file.loads() {
            let (start, bytes) = (Gpa::new(segment.physical_address), segment.memory_bytes);
            if !guest.space.ram.contains(start, bytes) {
                return Err(LoadError::MemoryTooSmall { needed: end });
            }
            check_place(segment.physical_address, segment.physical_end())?;
            // What the file does not have is zero, as all memory that was never touched.
            let part = Part {
                offset: segment.file_offset,
                bytes: segment.file_bytes,
            };
            self.load_part(&mut guest.memory, image, part, start)?;
        }
        let entry = Entry {
            rip: u64::from(rip),
            parameters_in: Gpr::Rbx,
        };
        Ok(Kernel {
            entry,
            end,
            initramfs_last: guest.space.ram.low_end().saturating_sub(1),
            setup: None,
        })
    }

    fn find_pvh_entry(&mut self, image: OpenImage, file: &Elf64<'_>) -> Option<u32> {
        file.notes().find_map(|note| {
            let mut bytes = [0; NOTES_MAX];
            let length = usize::try_from(note.file_bytes).ok()?.min(NOTES_MAX);
            let from = image.start.checked_add(note.file_offset)?;
            self.platform.memory().read(from, &mut bytes[..length]);
            elf::pvh_entry(&bytes[..length])
        })
    }

    fn load_bzimage(
        &mut self,
        guest: &mut Guest,
        image: OpenImage,
        header: SetupHeader,
    ) -> Result<Kernel, LoadError> {
        let start = Gpa::new(header.load_address);
        let end = header.load_address + header.init_bytes;
        if !guest.space.ram.contains(start, header.init_bytes) {
            return Err(LoadError::MemoryTooSmall { needed: end });
        }
        let longest = usize::try_from(header.command_line_max).unwrap_or(usize::MAX);
        if guest.config.command_line.len() > longest {
            return Err(LoadError::CommandLineTooLong { longest });
        }
        let part = Part {
            offset: header.payload_offset,
            bytes: image.bytes - header.payload_offset,
        };
        self.load_part(&mut guest.memory, image, part, start)?;
        let entry = Entry {
            rip: header.load_address,
            parameters_in: Gpr::Rsi,
        };
        Ok(Kernel {
            entry,
            end,
            initramfs_last: header.initramfs_last,
            setup: Some(header),
        })
    }

    /// Puts the initial RAM disk as high as it can lie, on a page, out of the kernel's way.
    fn load_initramfs(
        &mut self,
        guest: &mut Guest,
        image: OpenImage,
        kernel: &Kernel,
    ) -> Result<Initramfs, LoadError> {
        let page = FRAME_SIZE as u64;
        let top = guest
            .space
            .ram
            .low_end()
            .min(kernel.initramfs_last.saturating_add(1));
        let start = top.saturating_sub(image.bytes) / page * page;
        if start < kernel.end.max(HIGH_START) {
            let needed =
                kernel.end.max(HIGH_START).next_multiple_of(page) + image.bytes.next_multiple_of(page);
            return Err(LoadError::MemoryTooSmall { needed });
        }
        let part = Part {
            offset: 0,
            bytes: image.bytes,
        };
        self.load_part(&mut guest.memory, image, part, Gpa::new(start))?;
        Ok(Initramfs {
            start,
            bytes: image.bytes,
        })
    }

    fn load_parameters(
        &mut self,
        guest: &mut Guest,
        kernel: &Kernel,
        initramfs: Option<Initramfs>,
    ) -> Result<(), LoadError> {
        let line = guest.config.command_line.as_bytes();
        if line.len() > COMMAND_LINE_MAX {
            return Err(LoadError::CommandLineTooLong {
                longest: COMMAND_LINE_MAX,
            });
        }
        if !guest.space.ram.contains(Gpa::new(0), HIGH_START) {
            return Err(LoadError::MemoryTooSmall { needed: HIGH_START });
        }
        let page = match &kernel.setup {
            Some(header) => parameters::linux_page(header, &guest.space.ram, initramfs),
            None => parameters::pvh_page(&guest.space.ram, initramfs),
        };
        self.copy_in(&mut guest.memory, PARAMETERS, &page)?;
        // Never touched memory follows: the final zero.
        self.copy_in(&mut guest.memory, COMMAND_LINE, line)?;
        self.copy_in(&mut guest.memory, ACPI, &acpi::tables(ACPI))?;
        Ok(())
    }
}

/// What is loaded where boot data go would be overwritten by them.
const fn check_place(start: u64, end: u64) -> Result<(), LoadError> {
    if Ram::meets_boot_data(start, end) {
        Err(LoadError::InBootData { start, end })
    } else {
        Ok(())
    }
}
