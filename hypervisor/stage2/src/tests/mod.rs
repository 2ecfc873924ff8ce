//! Tests: the bits, directed cases, and random operations against a model with the history rewound.

mod cases;
mod codec;
mod discarding;
mod ends;
mod gathering;
mod leaving;
mod memory;
mod model;
mod model_sharing;
mod op;
mod oracle;
mod perform;
mod random;
mod ranges;
mod sharing;
mod swapping;
mod sweeping;
mod world;
