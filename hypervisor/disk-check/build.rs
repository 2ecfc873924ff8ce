//! Links the check: a freestanding program for the host's own target, placed by the machine's script.

fn main() {
    let script =
        std::env::var("DEP_PLEAT_MACHINE_LINKER_SCRIPT").expect("pleat-machine names its linker script");
    println!("cargo::rerun-if-changed={script}");
    for argument in [
        "-nostdlib",
        "-nostartfiles",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=4096",
        "-Wl,-z,noexecstack",
    ] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    println!("cargo::rustc-link-arg-bins=-T{script}");
}
