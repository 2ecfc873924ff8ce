//! The ACPI tables that a guest finds: RSDP, XSDT and a MADT with one local APIC (ACPI 6.5, 5.2.5 to 5.2.12).
//!
//! There is no FADT on purpose. Linux then reads the MADT, which it needs for its x2APIC driver, finds that
//! it cannot enable ACPI, and probes PCI by itself.

use pleat_types::Gpa;

/// Bytes of [`tables`].
pub const TABLES_BYTES: usize = 192;

const XSDT_OFFSET: usize = 64;
const MADT_OFFSET: usize = 128;
/// As the RSDP's length field has it.
const RSDP_BYTES: u8 = 36;
const RSDP_V1_BYTES: usize = 20;
const HEADER_BYTES: usize = 36;
const XSDT_BYTES: usize = HEADER_BYTES + 8;
const MADT_BYTES: usize = HEADER_BYTES + 8 + 8;
const OEM: &[u8; 6] = b"PLEAT ";
/// The machine also has a pair of 8259s, to be masked by who does not use them.
const MADT_PCAT_COMPAT: u32 = 1;
const LOCAL_APIC_ADDRESS: u32 = 0xfee0_0000;
/// Type 0 (processor local APIC), 8 bytes, processor 0, APIC 0, enabled.
const LOCAL_APIC: [u8; 8] = [0, 8, 0, 0, 1, 0, 0, 0];

/// The tables for guest-physical address `base` (16-byte aligned); the RSDP comes first.
#[must_use]
pub fn tables(base: Gpa) -> [u8; TABLES_BYTES] {
    let at = |offset: usize| base.get().wrapping_add(offset as u64);
    let mut out = [0; TABLES_BYTES];
    let (rsdp, rest) = out.split_at_mut(XSDT_OFFSET);
    let (xsdt, madt) = rest.split_at_mut(MADT_OFFSET - XSDT_OFFSET);
    write_rsdp(rsdp, at(XSDT_OFFSET));

    let (xsdt, madt) = (&mut xsdt[..XSDT_BYTES], &mut madt[..MADT_BYTES]);
    xsdt[HEADER_BYTES..].copy_from_slice(&at(MADT_OFFSET).to_le_bytes());
    seal(xsdt, *b"XSDT", 1);

    madt[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&LOCAL_APIC_ADDRESS.to_le_bytes());
    madt[HEADER_BYTES + 4..HEADER_BYTES + 8].copy_from_slice(&MADT_PCAT_COMPAT.to_le_bytes());
    madt[HEADER_BYTES + 8..].copy_from_slice(&LOCAL_APIC);
    // Revision 5 is that of ACPI 6.3 and knows this entry type as revision 1 did.
    seal(madt, *b"APIC", 5);
    out
}

/// The root pointer, revision 2: the first 20 bytes have a checksum of their own.
fn write_rsdp(out: &mut [u8], xsdt: u64) {
    out[0..8].copy_from_slice(b"RSD PTR ");
    out[9..15].copy_from_slice(OEM);
    out[15] = 2;
    out[20] = RSDP_BYTES;
    out[24..32].copy_from_slice(&xsdt.to_le_bytes());
    out[8] = checksum(&out[..RSDP_V1_BYTES]);
    out[32] = checksum(&out[..usize::from(RSDP_BYTES)]);
}

/// Fills in the common header; the body is there already.
fn seal(table: &mut [u8], signature: [u8; 4], revision: u8) {
    let length = u32::try_from(table.len()).unwrap_or(0);
    table[0..4].copy_from_slice(&signature);
    table[4..8].copy_from_slice(&length.to_le_bytes());
    table[8] = revision;
    table[10..16].copy_from_slice(OEM);
    table[16..24].copy_from_slice(b"PLEATVM ");
    table[24..28].copy_from_slice(&1u32.to_le_bytes());
    table[28..32].copy_from_slice(b"PLT ");
    table[32..36].copy_from_slice(&1u32.to_le_bytes());
    table[9] = checksum(table);
}

/// The byte that makes the sum 0, for a slice whose checksum byte is still 0.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
    }

    fn place(address: u64) -> usize {
        usize::try_from(address).unwrap()
    }

    fn quad(bytes: &[u8], offset: usize) -> u64 {
        u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
    }

    #[test]
    fn each_table_leads_to_the_next_and_sums_to_zero() {
        let base = 0x9_e000;
        let bytes = tables(Gpa::new(base));
        assert_eq!(
            (&bytes[..8], sum(&bytes[..20]), sum(&bytes[..36])),
            (&b"RSD PTR "[..], 0, 0)
        );

        let xsdt = place(quad(&bytes, 24) - base);
        let xsdt = &bytes[xsdt..xsdt + 44];
        assert_eq!((&xsdt[..4], xsdt[4], sum(xsdt)), (&b"XSDT"[..], 44, 0));

        let madt = place(quad(xsdt, 36) - base);
        let madt = &bytes[madt..madt + 52];
        assert_eq!((&madt[..4], madt[4], sum(madt)), (&b"APIC"[..], 52, 0));
        assert_eq!(quad(madt, 36), 0x1_fee0_0000);
        assert_eq!(madt[44..], [0, 8, 0, 0, 1, 0, 0, 0]);
    }
}
