//! The header of a bzImage (Linux, Documentation/arch/x86/boot.rst).

use arrayvec::ArrayVec;

/// What is wrong with a bzImage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BzImageError {
    /// Its boot protocol is older than 2.10, which has the fields that say where it runs.
    TooOld {
        /// The protocol, as the header has it: 0x20f is 2.15.
        protocol: u16,
    },
    /// Its header contradicts itself or the size of the file.
    Header,
}

/// The setup header, checked, and where the kernel wants to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetupHeader {
    bytes: ArrayVec<u8, { Self::BYTES_MAX }>,
    /// Where the protected-mode part starts in the file.
    pub(crate) payload_offset: u64,
    /// Where the protected-mode part is to be loaded; also the entry point.
    pub(crate) load_address: u64,
    /// How much memory the kernel needs from there on before it has read the memory map.
    pub(crate) init_bytes: u64,
    /// The highest address that the initial RAM disk may occupy.
    pub(crate) initramfs_last: u64,
    /// The longest command line, without its final zero.
    pub(crate) command_line_max: u32,
}

impl SetupHeader {
    /// Where the header starts, in the file and in the boot parameters.
    pub(crate) const OFFSET: usize = 0x1f1;
    /// The header ends at 0x202 plus one byte's value.
    const BYTES_MAX: usize = 0x202 + 0xff - Self::OFFSET;

    /// Whether a file that starts like this is a bzImage.
    pub(crate) fn is_bzimage(head: &[u8]) -> bool {
        head.get(0x202..0x206) == Some(b"HdrS".as_slice())
            && head.get(0x1fe..0x200) == Some([0x55, 0xaa].as_slice())
    }

    /// Reads the header from the first bytes of the file.
    pub(crate) fn parse(head: &[u8], file_bytes: u64) -> Result<Self, BzImageError> {
        let byte = |at: usize| head.get(at).copied().ok_or(BzImageError::Header);
        let protocol = u16::from_le_bytes([byte(0x206)?, byte(0x207)?]);
        if protocol < 0x20a {
            return Err(BzImageError::TooOld { protocol });
        }
        let end = 0x202 + usize::from(byte(0x201)?);
        let header = head.get(Self::OFFSET..end).ok_or(BzImageError::Header)?;
        let setup_sectors = match byte(0x1f1)? {
            // For backwards compatibility 0 means 4 (boot.rst, "setup_sects").
            0 => 4,
            sectors => sectors,
        };
        let payload_offset = (u64::from(setup_sectors) + 1) * 512;
        if payload_offset >= file_bytes {
            return Err(BzImageError::Header);
        }
        let is_relocatable = byte(0x234)? != 0;
        let load_address = if is_relocatable {
            field(head, 0x258, 8)?
        } else {
            field(head, 0x214, 4)?
        };
        let parsed = Self {
            bytes: header.iter().copied().collect(),
            payload_offset,
            load_address,
            init_bytes: field(head, 0x260, 4)?.max(file_bytes - payload_offset),
            initramfs_last: field(head, 0x22c, 4)?,
            command_line_max: u32::try_from(field(head, 0x238, 4)?).unwrap_or(u32::MAX),
        };
        let is_reachable = (0x10_0000..1 << 32).contains(&load_address);
        if is_reachable {
            Ok(parsed)
        } else {
            Err(BzImageError::Header)
        }
    }

    /// The header's bytes, for the boot parameters.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A little-endian field of up to eight bytes.
fn field(head: &[u8], at: usize, bytes: usize) -> Result<u64, BzImageError> {
    let field = head.get(at..at + bytes).ok_or(BzImageError::Header)?;
    Ok(field
        .iter()
        .rev()
        .fold(0, |value, &byte| (value << 8) | u64::from(byte)))
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;
    use super::*;
    use std::{vec, vec::Vec};

    /// A bzImage with one setup sector and a payload of this size.
    pub(crate) fn image(payload_bytes: usize) -> Vec<u8> {
        let mut file = vec![0u8; 1024 + payload_bytes];
        file[0x1f1] = 1;
        file[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        file[0x200..0x202].copy_from_slice(&[0xeb, 0x6a]);
        file[0x202..0x206].copy_from_slice(b"HdrS");
        file[0x206..0x208].copy_from_slice(&[0x0f, 0x02]);
        file[0x211] = 0x03;
        file[0x214..0x218].copy_from_slice(&0x10_0000u32.to_le_bytes());
        file[0x22c..0x230].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
        file[0x234] = 1;
        file[0x238..0x23c].copy_from_slice(&2047u32.to_le_bytes());
        file[0x258..0x260].copy_from_slice(&0x100_0000u64.to_le_bytes());
        file[0x260..0x264].copy_from_slice(&0x20_0000u32.to_le_bytes());
        file
    }

    #[test]
    fn a_relocatable_kernel_goes_where_it_prefers() {
        let file = image(5000);
        assert!(SetupHeader::is_bzimage(&file));
        let header = SetupHeader::parse(&file, file.len() as u64).expect("good");
        assert_eq!(
            (header.load_address, header.init_bytes, header.payload_offset),
            (0x100_0000, 0x20_0000, 1024)
        );
        let mut fixed = file;
        fixed[0x234] = 0;
        assert_eq!(
            SetupHeader::parse(&fixed, fixed.len() as u64)
                .expect("good")
                .load_address,
            0x10_0000
        );
    }

    #[test]
    fn a_header_that_lies_is_refused() {
        let file = image(0);
        assert_eq!(
            SetupHeader::parse(&file, file.len() as u64),
            Err(BzImageError::Header)
        );
        let mut old = image(100);
        old[0x206] = 9;
        assert_eq!(
            SetupHeader::parse(&old, old.len() as u64),
            Err(BzImageError::TooOld { protocol: 0x209 })
        );
        assert_eq!(
            SetupHeader::parse(&image(100)[..0x240], 1124),
            Err(BzImageError::Header)
        );
    }
}
