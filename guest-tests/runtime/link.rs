//! The build script of every test kernel: a freestanding program, laid out by `kernel.ld`.
//!
//! One file for all of them (`build = "../../runtime/link.rs"`); Cargo runs it in the kernel's own directory.

fn main() {
    let script = format!("{}/../../runtime/kernel.ld", env!("CARGO_MANIFEST_DIR"));
    println!("cargo::rerun-if-changed={script}");
    for argument in [
        "-nostdlib",
        "-nostartfiles",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
    ] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    println!("cargo::rustc-link-arg-bins=-T{script}");
}
