//! The disk tier: blocks, and the store with a disk that completes later, and fails as it is told.

mod blocks;
mod cases;
mod clean;
mod corruption;
mod failures;
mod model;
mod world;
