//! A guest that does what the fuzzer's bytes say, to all devices of its board; `tests/any_driver.rs` does the same
//! with the corpus and with random bytes.
//!
//! ```text
//! cd hypervisor/devices
//! cargo +nightly fuzz run board fuzz/corpus/board tests/corpus -- -max_len=1024
//! ```
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|guest: &[u8]| {
    let _: support::Reached = support::drive(guest);
});
