//! Two programs in one file, told apart by the name they are called by: most of either is what both share, and every
//! guest has a copy in its memory.

#![forbid(unsafe_code)]

mod program {
    pub mod agent;
    pub mod heap;
}

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let parser = lexopt::Parser::from_env();
    let is_heap = parser
        .bin_name()
        .and_then(|name| Path::new(name).file_name())
        .is_some_and(|name| name == "pleat-heap");
    let (name, ended) = if is_heap {
        ("pleat-heap", program::heap::main(parser))
    } else {
        ("pleat-agent", program::agent::main(parser))
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            pleat_agent::log::say(&format!("{name}: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
