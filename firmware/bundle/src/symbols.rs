//! The hypervisor's symbols, for backtraces in crash records.
//!
//! The section is: the number of entries (u32); that many entries of (address u32, name offset u32),
//! sorted by address; then the names, UTF-8, one after the other in the order of the entries. A name
//! ends where the next one starts. An entry with an empty name says that from its address on there is
//! no symbol. Addresses have 32 bits because Pleat is linked below 4 GiB.
//!
//! [`Symbols::lookup`] runs while the machine is crashing: it needs no memory but the section.

use crate::bytes::u32_at;

const ENTRIES_AT: usize = 4;
const ENTRY_BYTES: usize = 8;

/// A symbols section.
#[derive(Clone, Copy, Debug)]
pub struct Symbols<'a> {
    entries: &'a [u8],
    names: &'a [u8],
}

/// What [`Symbols::lookup`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// The symbol's name.
    pub name: &'a str,
    /// How far the address lies behind the symbol's own.
    pub offset: u64,
}

impl<'a> Symbols<'a> {
    /// Takes a section's bytes; `None` when they are too short for the entries they announce.
    #[must_use]
    pub fn parse(section: &'a [u8]) -> Option<Self> {
        let count = usize::try_from(u32_at(section, 0)?).ok()?;
        let bytes = count.checked_mul(ENTRY_BYTES)?;
        let (entries, names) = section.get(ENTRIES_AT..)?.split_at_checked(bytes)?;
        Some(Self { entries, names })
    }

    /// The symbol that this address lies in.
    #[must_use]
    pub fn lookup(&self, address: u64) -> Option<Symbol<'a>> {
        let address = u32::try_from(address).ok()?;
        let entries = self.entries.as_chunks::<ENTRY_BYTES>().0;
        // Also when the entries are not sorted this ends; it then finds something else or nothing.
        let after = entries.partition_point(|entry| entry_fields(entry).0 <= address);
        let (start, name_start) = entry_fields(entries.get(after.checked_sub(1)?)?);
        let name_start = usize::try_from(name_start).ok()?;
        let name_end = match entries.get(after) {
            Some(next) => usize::try_from(entry_fields(next).1).ok()?,
            None => self.names.len(),
        };
        let name = core::str::from_utf8(self.names.get(name_start..name_end)?).ok()?;
        let offset = address.checked_sub(start)?;
        (!name.is_empty()).then_some(Symbol {
            name,
            offset: u64::from(offset),
        })
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len() / ENTRY_BYTES
    }

    /// There is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn entry_fields(entry: &[u8; ENTRY_BYTES]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = *entry;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

#[cfg(feature = "write")]
pub use writer::SymbolsWriter;

#[cfg(feature = "write")]
mod writer {
    use alloc::collections::BTreeMap;
    use alloc::string::String;
    use alloc::vec::Vec;

    /// Collects symbols in any order.
    #[derive(Clone, Debug, Default)]
    pub struct SymbolsWriter {
        /// By address: the size and the name.
        symbols: BTreeMap<u32, (u32, String)>,
    }

    impl SymbolsWriter {
        /// Starts with no symbol.
        #[must_use]
        pub fn new() -> Self {
            Self::default()
        }

        /// Adds a symbol. Of several at one address, the one with the larger size stays. Symbols
        /// beyond 4 GiB are not the hypervisor's and are left out.
        pub fn add(&mut self, address: u64, bytes: u64, name: &str) {
            let Ok(address) = u32::try_from(address) else {
                return;
            };
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let known = self.symbols.entry(address).or_insert_with(|| (0, String::new()));
            if known.1.is_empty() || bytes > known.0 {
                *known = (bytes, String::from(name));
            }
        }

        /// The finished section. A symbol of size 0 (a label in assembly) reaches to the next symbol.
        #[must_use]
        pub fn finish(self) -> Vec<u8> {
            let mut entries: Vec<(u32, &str)> = Vec::new();
            let mut end_of_last = None;
            for (&address, (bytes, name)) in &self.symbols {
                if let Some(end) = end_of_last.filter(|&end| end < address) {
                    entries.push((end, ""));
                }
                entries.push((address, name));
                end_of_last = (*bytes != 0).then(|| address.saturating_add(*bytes));
            }
            entries.extend(end_of_last.map(|end| (end, "")));
            encode(&entries)
        }
    }

    fn encode(entries: &[(u32, &str)]) -> Vec<u8> {
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let mut section = Vec::from(count.to_le_bytes());
        let mut names = String::new();
        for (address, name) in entries {
            let name_start = u32::try_from(names.len()).unwrap_or(u32::MAX);
            section.extend_from_slice(&address.to_le_bytes());
            section.extend_from_slice(&name_start.to_le_bytes());
            names.push_str(name);
        }
        section.extend_from_slice(names.as_bytes());
        section
    }
}
