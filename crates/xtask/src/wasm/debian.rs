//! Debian's Rust compiler with a standard library for WebAssembly, unpacked into a
//! private folder: for machines that reach package registries and nothing else.
//!
//! Its packages are only unpacked, so the machine gets no second `rustc`. Debian
//! ships that library for other compilers than this one, so it is built here, once,
//! from Debian's copy of its source.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use duct::Expression;

use super::cache::Cache;
use super::paths;
use super::toolchain::TARGET;
use crate::apt;
use crate::workspace::Workspace;

const COMPILER: &str = "rustc-web";
const SOURCE: &str = "rust-web-src";

/// The compiler: a script that starts Debian's with its libraries.
pub(super) fn ensure(workspace: &Workspace, cache: &Cache) -> Result<PathBuf> {
    let folder = cache.folder("rust-debian-2", |folder| {
        println!("unpacking Debian's Rust, and building its library for {TARGET}");
        fill(workspace, folder)
    })?;
    // Each time: the script names the folder, which `fill` saw under another name,
    // and the user's toolchain may have moved.
    write_script(&folder)?;
    link_linker(workspace, &folder)?;
    Ok(folder.join("rustc"))
}

fn fill(workspace: &Workspace, folder: &Path) -> Result<()> {
    ensure!(
        apt::is_here() && cfg!(target_arch = "x86_64"),
        "there is no Rust library for {TARGET}: `rustup target add {TARGET}` did not work, \
         and only on Debian for x86-64 is another way known"
    );
    if depends(workspace, COMPILER).is_empty() {
        apt::update(workspace)?;
    }
    let packages = packages(workspace)?;
    let debs = folder.join("debs");
    fs::create_dir(&debs)?;
    let download = [&["download".to_owned()], packages.as_slice()].concat();
    duct::cmd("apt-get", download).dir(&debs).run().context("`apt-get download` failed")?;
    for deb in fs::read_dir(&debs)? {
        let deb = deb?.path();
        duct::cmd!("dpkg", "-x", &deb, folder).run().context("`dpkg -x` failed")?;
    }
    fs::remove_dir_all(&debs)?;
    link_driver(folder)?;
    link_linker(workspace, folder)?;
    write_script(folder)?;
    let rustc = folder.join("rustc");
    duct::cmd!(&rustc, "-vV").run().with_context(|| {
        format!("Debian's rustc does not start; `{}` may help", apt::by_hand(&["libllvm22"]))
    })?;
    build_std(workspace, folder, &rustc)
}

/// The compiler, its own library, the source, and the LLVM that it names.
fn packages(workspace: &Workspace) -> Result<Vec<String>> {
    let dev = named(workspace, COMPILER, "libstd-rust-web-dev")?;
    let own = named(workspace, &dev, "libstd-rust-web-")?;
    let llvm = named(workspace, &own, "libllvm")?;
    Ok(vec![COMPILER.to_owned(), SOURCE.to_owned(), dev, own, llvm])
}

fn named(workspace: &Workspace, package: &str, prefix: &str) -> Result<String> {
    let found = depends(workspace, package).into_iter().find(|name| name.starts_with(prefix));
    found.with_context(|| format!("Debian's package {package} needs no {prefix}"))
}

fn depends(workspace: &Workspace, package: &str) -> Vec<String> {
    let output = workspace.command("apt-cache", &["depends", package]).stderr_null().read();
    let output = output.unwrap_or_default();
    let names = output.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.map(str::to_owned).collect()
}

/// Puts the compiler's library where it looks for its sysroot.
fn link_driver(folder: &Path) -> Result<()> {
    let libraries = folder.join("usr/lib/x86_64-linux-gnu");
    for entry in fs::read_dir(&libraries)? {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with("librustc_driver") {
            fs::hard_link(libraries.join(&name), folder.join("usr/lib").join(&name))?;
        }
    }
    Ok(())
}

/// Points at rustup's linker from where the compiler looks for one. Not a copy: the
/// linker finds its libraries beside itself.
fn link_linker(workspace: &Workspace, folder: &Path) -> Result<()> {
    let sysroot = workspace.command("rustc", &["--print", "sysroot"]).read()?;
    let tools = "lib/rustlib/x86_64-unknown-linux-gnu/bin";
    let linker = Path::new(sysroot.trim()).join(tools).join("rust-lld");
    if !linker.is_file() {
        bail!("there is no linker for {TARGET}: {} is not there", linker.display());
    }
    let link = folder.join("usr").join(tools).join("rust-lld");
    if fs::read_link(&link).is_ok_and(|there| there == linker) {
        return Ok(());
    }
    fs::create_dir_all(link.parent().context("the link has a folder")?)?;
    // What another toolchain left there, if anything did.
    let _ = fs::remove_file(&link);
    symlink(&linker, &link)
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> Result<()> {
    Ok(std::os::unix::fs::symlink(target, link)?)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> Result<()> {
    bail!("Debian's Rust runs on Debian alone")
}

fn write_script(folder: &Path) -> Result<()> {
    let script = folder.join("rustc");
    let at = folder.to_str().context("the path of the cache is not UTF-8")?.replace('\'', r"'\''");
    let text = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{at}/usr/lib/x86_64-linux-gnu' exec '{at}/usr/bin/rustc' \"$@\"\n"
    );
    if fs::read_to_string(&script).is_ok_and(|there| there == text) {
        return Ok(());
    }
    fs::write(&script, text)?;
    duct::cmd!("chmod", "+x", &script).run()?;
    Ok(())
}

/// Builds the standard library beside an empty crate, and keeps what came of it.
fn build_std(workspace: &Workspace, folder: &Path, rustc: &Path) -> Result<()> {
    let empty = folder.join("empty");
    fs::create_dir_all(empty.join("src"))?;
    let manifest = "[package]\nname = \"empty\"\nedition = \"2024\"\n\n[workspace]\n";
    fs::write(empty.join("Cargo.toml"), manifest)?;
    fs::write(empty.join("src/lib.rs"), "")?;
    let own = format!("--remap-path-prefix={}=/rust", folder.display());
    // Without bitcode a build with `lto = "fat"` cannot take the library in.
    let flags = ["-Cembed-bitcode=yes", &paths::flags(workspace), &own];
    let args = ["build", "--release", "-Zbuild-std=std,panic_abort", "--target", TARGET];
    compiler(duct::cmd("cargo", args), rustc)
        .dir(&empty)
        .env("CARGO_TARGET_DIR", empty.join("target"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .run()
        .context("building the standard library failed")?;
    let built = empty.join("target").join(TARGET).join("release/deps");
    let keep = folder.join("usr/lib/rustlib").join(TARGET).join("lib");
    fs::create_dir_all(&keep)?;
    for entry in fs::read_dir(built)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if text.ends_with(".rlib") && !text.starts_with("libempty-") {
            fs::copy(entry.path(), keep.join(&name))?;
        }
    }
    fs::remove_dir_all(&empty)?;
    Ok(())
}

/// `cargo` with another compiler, whatever the environment says of one.
pub(super) fn compiler(cargo: Expression, rustc: &Path) -> Expression {
    cargo.env("RUSTC", rustc).env_remove("RUSTC_WRAPPER").env_remove("RUSTFLAGS")
}
