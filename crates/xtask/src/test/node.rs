//! The npm package: checked, tested on what was built, and installed as its users do.

use anyhow::{Context, Result};

use crate::wasm;
use crate::workspace::Workspace;

/// The scripts of the package, and what each is for.
const SCRIPTS: &[(&str, &str)] = &[
    ("check", "types and formatting"),
    ("test", "tests and examples, with WebAssembly and without"),
    ("check:package", "what publint and attw say of the package"),
    ("check:pack", "packed, installed and used; its size"),
];

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    // Alone, as `--only node`, it needs what the step before it built.
    wasm::run(workspace)?;
    for (script, about) in SCRIPTS {
        println!("\n-- {script}: {about}");
        let args = ["run", "--silent", script];
        wasm::npm(workspace, wasm::PACKAGE, &args)
            .run()
            .with_context(|| format!("`npm run {script}` in {} failed", wasm::PACKAGE))?;
    }
    Ok(())
}
