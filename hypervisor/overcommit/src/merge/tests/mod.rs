//! Tests: of each part by itself, the index and the pace against simple models.

mod content;
mod index;
mod ledger;
mod pace;
mod sampler;
