//! What a frame can be.

/// What a frame is, as its record has it. Which block a [`State::Tail`] belongs to is in the block's
/// first record, so that splitting and merging blocks touches two records and not all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Reserved,
    Free,
    Tail,
    Table,
    Guest,
    Vcpu,
    Bundle,
    Image,
    Metadata,
    Zero,
    Shared,
    SharerList,
    Swap,
}

impl State {
    /// In the order of their numbers.
    pub(super) const ALL: [Self; 13] = [
        Self::Reserved,
        Self::Free,
        Self::Tail,
        Self::Table,
        Self::Guest,
        Self::Vcpu,
        Self::Bundle,
        Self::Image,
        Self::Metadata,
        Self::Zero,
        Self::Shared,
        Self::SharerList,
        Self::Swap,
    ];

    pub(super) const fn number(self) -> u32 {
        self as u32
    }
}
