//! The record stream: JSON lines from the hypervisor, raw text from whoever ran before it.

mod cooperation;
mod escapes;
mod reclaim;
mod record;
mod transcript;
mod view;

pub use cooperation::Cooperation;
pub use reclaim::Reclaim;
pub use record::{Kind, Record};
pub use transcript::{GuestTranscript, Transcript};
pub use view::{Lines, View};
