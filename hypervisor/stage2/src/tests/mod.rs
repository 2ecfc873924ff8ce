//! Tests: the bits, directed cases, and random operations against a model with the history rewound.

mod cases;
mod codec;
mod history;
mod memory;
mod model;
mod oracle;
mod random;
