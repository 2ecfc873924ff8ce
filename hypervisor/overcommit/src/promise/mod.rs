//! What guests are entitled to, and how they are asked for memory when there is too little of it.
//!
//! Pure policy: nothing here changes a mapping or tells a guest anything. All numbers are integers, all amounts
//! frames of 4 KiB.
//!
//! - [`Terms`]: what a guest was promised, what it can always have, and at most;
//! - [`Book`] and [`admit`]: whether the reservation of one more guest can be kept;
//! - [`HostState`]: how short of memory the host is;
//! - [`FundingRate`]: who gives next;
//! - [`entitled`]: what each one's part is of what there is;
//! - [`cache::look`]: what a guest's page cache holds beyond its limits;
//! - [`plan`]: how large each balloon is to be;
//! - [`PressureGauge`] and [`Grace`]: what guests are told before memory is taken.
//!
//! About once a second the owner fills a [`HostView`] and a [`GuestView`] for each guest and calls [`plan`]. Then for
//! each guest: the gauge is updated with [`Target::wanted`], a change of level is told ([`Notice`]), the
//! target goes through [`Grace::released`], and the balloon is told what comes out.

mod admission;
mod amount;
mod bounds;
pub mod cache;
mod entitlement;
mod host_state;
mod pressure;
mod seat;
mod share;
mod targets;
mod terms;
#[cfg(test)]
mod tests;
mod view;

pub use admission::{Book, MAX_GUESTS, Refusal, admit, overhead};
pub use amount::Amount;
pub use bounds::{cushion, survival};
pub use entitlement::FundingRate;
pub use host_state::{HostState, Thresholds};
pub use pressure::{Clock, Grace, HOLD_MS, Level, Notice, PressureGauge};
pub use share::entitled;
pub use targets::plan;
pub use terms::{IDLE_TAX_MAX_PERCENT, PROMISED_MAX, Place, Terms, TermsError, Wishes};
pub use view::{Asked, Claims, GuestView, Health, HostView, OutOfMemory, Reason, Target};
