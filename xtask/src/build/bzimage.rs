//! Unpacks the kernel that a bzImage carries.
//!
//! Layout: Linux, Documentation/arch/x86/boot.rst (setup header) and lib/decompress_unlz4.c (the legacy
//! LZ4 frame: a magic number, then blocks, each with its compressed length; each unpacks to at most 8 MiB).

use anyhow::{Context, Result, bail};

const SETUP_SECTS_AT: usize = 0x1f1;
const MAGIC_AT: usize = 0x202;
const PAYLOAD_OFFSET_AT: usize = 0x248;
const PAYLOAD_LENGTH_AT: usize = 0x24c;
const SECTOR: usize = 512;
const LZ4_LEGACY_MAGIC: u32 = 0x184c_2102;
const LZ4_BLOCK_BYTES: usize = 8 << 20;

/// The uncompressed kernel: an ELF file, with relocations behind it that nobody needs.
pub fn payload(bzimage: &[u8]) -> Result<Vec<u8>> {
    if bzimage.get(MAGIC_AT..MAGIC_AT + 4) != Some(b"HdrS".as_slice()) {
        bail!("the kernel is no bzImage");
    }
    let setup_sectors = match bzimage[SETUP_SECTS_AT] {
        // Zero stands for four, for the sake of very old loaders.
        0 => 4,
        sectors => usize::from(sectors),
    };
    let field = |at| word(bzimage, at).context("the bzImage ends in its header");
    let start = (setup_sectors + 1) * SECTOR + field(PAYLOAD_OFFSET_AT)?;
    let length = field(PAYLOAD_LENGTH_AT)?;
    let payload = bzimage
        .get(start..)
        .and_then(|rest| rest.get(..length))
        .context("the bzImage ends in its payload")?;
    if word(payload, 0) != usize::try_from(LZ4_LEGACY_MAGIC).ok() {
        bail!(
            "the kernel's payload is not compressed with LZ4; only that is understood (Debian's cloud kernel has it)"
        );
    }
    // The last four bytes are the unpacked size (what `size_append` adds in scripts/Makefile.lib).
    let size = word(payload, length - 4).unwrap_or(0);
    let unpacked = blocks(&payload[4..length - 4])?;
    if unpacked.len() != size {
        bail!(
            "the kernel unpacks to {} bytes, its header says {size}",
            unpacked.len()
        );
    }
    Ok(unpacked)
}

fn blocks(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    while !rest.is_empty() {
        let length = word(rest, 0).context("the LZ4 payload ends in a block's length")?;
        let block = rest
            .get(4..4 + length)
            .context("the LZ4 payload ends in a block")?;
        unpacked.extend(lz4_flex::block::decompress(block, LZ4_BLOCK_BYTES).context("a damaged LZ4 block")?);
        rest = &rest[4 + length..];
    }
    Ok(unpacked)
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::{LZ4_LEGACY_MAGIC, payload};

    fn bzimage(content: &[u8], said_size: u32) -> Vec<u8> {
        let mut image = vec![0; 2 * 512];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        let mut body = vec![0; 16];
        body.extend(LZ4_LEGACY_MAGIC.to_le_bytes());
        for half in content.chunks(content.len().div_ceil(2)) {
            let block = lz4_flex::block::compress(half);
            body.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
            body.extend(block);
        }
        body.extend(said_size.to_le_bytes());
        let length = u32::try_from(body.len() - 16).unwrap();
        image[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        image.extend(body);
        image
    }

    #[test]
    fn the_payload_of_a_bzimage_is_unpacked() {
        let content: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(payload(&bzimage(&content, 80_000)).unwrap(), content);
    }

    #[test]
    fn a_wrong_size_and_a_cut_image_are_noticed() {
        let image = bzimage(&[7; 5000], 4999);
        assert!(payload(&image).unwrap_err().to_string().contains("5000 bytes"));
        let cut = &image[..image.len() - 20];
        assert!(
            payload(cut)
                .unwrap_err()
                .to_string()
                .contains("ends in its payload")
        );
        assert!(payload(b"not a kernel").is_err());
    }
}
