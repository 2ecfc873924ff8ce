//! Tells whoever links the image where the linker script is.

fn main() {
    println!("cargo::rerun-if-changed=image.ld");
    println!(
        "cargo::metadata=LINKER_SCRIPT={}/image.ld",
        std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")
    );
}
