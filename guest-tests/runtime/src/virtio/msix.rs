//! Interrupts as messages (PCI 3.0, 6.8.2): a table in memory says which vector each of a device's interrupts has.

use crate::pci::Function;
use crate::window::Window;

const CAPABILITY: u8 = 0x11;
const CONTROL: u8 = 2;
const TABLE: u8 = 4;
const ENABLED: u16 = 1 << 15;
const ALL_MASKED: u16 = 1 << 14;
const ENTRY_BYTES: u64 = 16;
/// Vector control: this one is masked.
const MASKED: u32 = 1;
/// To the local APIC with ID 0, fixed, edge (SDM vol. 3, 11.11.1).
const MESSAGE_ADDRESS: u64 = 0xfee0_0000;

/// The MSI-X of a function.
#[derive(Clone, Copy, Debug)]
pub struct Msix {
    function: Function,
    place: u8,
    table: Window,
}

impl Msix {
    /// That of a function, if it has any.
    #[must_use]
    pub fn of(function: Function) -> Option<Self> {
        let (_, place) = function.capabilities().find(|(id, _)| *id == CAPABILITY)?;
        let table = function.read_u32(place + TABLE);
        let bar = u8::try_from(table & 7).ok()?;
        Some(Self {
            function,
            place,
            table: function.base(bar).at(u64::from(table & !7)),
        })
    }

    /// Entries of its table.
    #[must_use]
    pub fn len(self) -> u16 {
        (self.control() & 0x7ff) + 1
    }

    /// Never: a table has at least one entry.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Where its table lies.
    #[must_use]
    pub const fn table(self) -> Window {
        self.table
    }

    fn control(self) -> u16 {
        self.function.read_u16(self.place + CONTROL)
    }

    fn set_control(self, set: u16, clear: u16) {
        let control = self.control() & !clear | set;
        self.function.write_u16(self.place + CONTROL, control);
    }

    /// Messages instead of the interrupt line.
    pub fn enable(self) {
        self.set_control(ENABLED, ALL_MASKED);
    }

    /// The interrupt line instead of messages.
    pub fn disable(self) {
        self.set_control(0, ENABLED);
    }

    /// Holds all messages back.
    pub fn mask_all(self) {
        self.set_control(ALL_MASKED, 0);
    }

    /// Lets messages go, those that were held back too.
    pub fn unmask_all(self) {
        self.set_control(0, ALL_MASKED);
    }

    /// Gives an interrupt a vector, and unmasks it.
    pub fn set(self, entry: u16, vector: u8) {
        let entry = self.table.at(u64::from(entry) * ENTRY_BYTES);
        entry.store_u32(12, MASKED);
        entry.store_u64(0, MESSAGE_ADDRESS);
        entry.store_u32(8, u32::from(vector));
        entry.store_u32(12, 0);
    }

    /// Holds an interrupt back.
    pub fn mask(self, entry: u16) {
        self.table.store_u32(u64::from(entry) * ENTRY_BYTES + 12, MASKED);
    }

    /// Lets an interrupt go.
    pub fn unmask(self, entry: u16) {
        self.table.store_u32(u64::from(entry) * ENTRY_BYTES + 12, 0);
    }
}
