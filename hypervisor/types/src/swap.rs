//! Content that is in no frame of a guest: what a page's entry says of it.

/// A slot of the swap store. It stands for one content, which any number of pages may have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SwapSlot(u32);

impl SwapSlot {
    /// The slot with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// One page's claim to the content of a slot: not `Copy`, so there are as many as there are pages whose entries name
/// the slot. It is to a slot what a [`crate::Share`] is to a frame.
///
/// Dropping one leaves its slot with a reference too many, and so never free; the audit shows that.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a reference that is dropped keeps its slot for ever"]
pub struct SlotReference {
    slot: SwapSlot,
}

impl SlotReference {
    /// Claims a reference. Only two may: the swap store when it adds one, and a page table for an entry that it has
    /// just taken out.
    pub const fn claim(slot: SwapSlot) -> Self {
        Self { slot }
    }

    /// The slot.
    #[must_use]
    pub const fn slot(&self) -> SwapSlot {
        self.slot
    }
}
