//! Run by cargo before the program is built; not part of it.

use std::{env, error, fs, path::Path};

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-changed=src/build.rs");
    println!("cargo::rerun-if-changed=src/layout.txt");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if !(is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu")) {
        return Ok(());
    }
    // The zones' tables are full of pointers. Packed, the list of what the loader has to adjust
    // is a hundredth of the size; a linker that does not know of it warns and goes on.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    // GNU's linker and LLVM's know such scripts; whoever chooses another goes without.
    let linker = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if is("PROFILE", "release") && !linker.contains("mold") && !linker.contains("gold") {
        let script = Path::new(&env::var("OUT_DIR")?).join("layout.ld");
        fs::write(&script, layout(&fs::read_to_string("src/layout.txt")?))?;
        println!("cargo::rustc-link-arg-bins=-T{}", script.display());
    }
    Ok(())
}

/// A linker script that puts the functions of `names` side by side. The kernel maps a program in
/// pieces of 64 KiB; where what serves all day lies among what pairs, imports or is never called,
/// nearly every piece is in memory.
fn layout(names: &str) -> String {
    let pattern = |name| format!("*(.text.{name} .text.unlikely.{name})");
    let often: Vec<String> = names.lines().map(pattern).collect();
    format!("SECTIONS {{ .text.often : {{\n{}\n}} }} INSERT BEFORE .text;\n", often.join("\n"))
}
