//! How long a page must stay unwritten before it is hashed.
//!
//! A page is worth hashing when it will stay as it is. One that was written owes an epoch of calm. If it is
//! hashed then, and when it is hashed the next time its content has changed, calm did not mean much: it owes
//! twice as much from then on, up to 15 epochs, which is what the four bits of its entry hold. A page that
//! is found unchanged, or is merged, starts over.

/// The most that [`next_changes`] counts to: from there on a page owes [`OWED_MAX`].
pub const CHANGES_MAX: u8 = 4;
/// The most epochs that a page can owe.
pub const OWED_MAX: u8 = 15;

/// What hashing a page showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Nobody has hashed it before.
    New,
    /// It is not what it was when it was hashed before.
    Changed,
    /// It is what it was.
    Same,
    /// It is merged now.
    Merged,
}

/// How many epochs without a write a page owes that was written now, from its record's count of changes.
#[must_use]
pub const fn owed(changes: u8) -> u8 {
    if changes >= CHANGES_MAX {
        OWED_MAX
    } else {
        1 << changes
    }
}

/// The count of changes of a page after it was hashed.
#[must_use]
pub const fn next_changes(changes: u8, content: Content) -> u8 {
    match content {
        Content::New => changes,
        Content::Changed if changes >= CHANGES_MAX => CHANGES_MAX,
        Content::Changed => changes + 1,
        Content::Same | Content::Merged => 0,
    }
}
