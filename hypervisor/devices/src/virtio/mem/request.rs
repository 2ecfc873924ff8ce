//! Requests to a memory device and its answers, as the guest writes and reads them (virtio 1.2, 5.15.6).

use pleat_types::Gpa;

/// The header, then an address and a number of blocks.
pub(super) const REQUEST_BYTES: usize = 24;
pub(super) const ANSWER_BYTES: usize = 10;

/// What a guest asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Plug,
    Unplug,
    UnplugAll,
    State,
}

/// A request, before anything in it has been checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) kind: Kind,
    pub(super) at: Gpa,
    pub(super) blocks: u16,
}

impl Request {
    /// `None` for a type that the standard does not have.
    pub(super) fn decode(raw: &[u8; REQUEST_BYTES]) -> Option<Self> {
        let &[[t0, t1, ..], at, [b0, b1, ..]] = raw.as_chunks::<8>().0 else {
            return None;
        };
        let kind = match u16::from_le_bytes([t0, t1]) {
            0 => Kind::Plug,
            1 => Kind::Unplug,
            2 => Kind::UnplugAll,
            3 => Kind::State,
            _ => return None,
        };
        Some(Self {
            kind,
            at: Gpa::new(u64::from_le_bytes(at)),
            blocks: u16::from_le_bytes([b0, b1]),
        })
    }
}

/// What some blocks are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Plugged = 0,
    Unplugged = 1,
    Mixed = 2,
}

/// What the guest is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// It was done.
    Ack,
    /// It was done: this is the state.
    AckState(State),
    /// More than was requested of the guest.
    Nack,
    /// Not now. Linux tries again after some time.
    Busy,
    /// The request makes no sense. Linux does not use the device any more.
    Error,
}

impl Answer {
    pub(super) fn encode(self) -> [u8; ANSWER_BYTES] {
        let (kind, state) = match self {
            Self::Ack => (0, 0),
            Self::AckState(state) => (0, state as u8),
            Self::Nack => (1, 0),
            Self::Busy => (2, 0),
            Self::Error => (3, 0),
        };
        [kind, 0, 0, 0, 0, 0, 0, 0, state, 0]
    }
}
