//! `cargo xtask engines`: the tests of the npm package in Deno, Bun and newer versions of Node.js.
//!
//! They come from the npm registry, about 100 MB each, into the folder where other tools are kept;
//! so this is a command of its own and no step of `cargo xtask test`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::wasm::{self, Cache};
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only those whose name begins so: `deno`, `node-26`.
    only: Vec<String>,
}

/// What is fetched and started.
struct Engine {
    kind: &'static str,
    version: &'static str,
    /// Below `node_modules`.
    program: &'static str,
}

const ENGINES: &[Engine] = &[
    Engine { kind: "node", version: "22.23.3", program: "node/bin/node" },
    Engine { kind: "node", version: "24.21.0", program: "node/bin/node" },
    Engine { kind: "node", version: "26.10.0", program: "node/bin/node" },
    Engine { kind: "deno", version: "2.9.6", program: ".bin/deno" },
    Engine { kind: "bun", version: "1.4.5", program: ".bin/bun" },
];

impl Engine {
    fn name(&self) -> String {
        format!("{}-{}", self.kind, self.version)
    }

    /// Where it is; fetched when this is the first time.
    fn program(&self, workspace: &Workspace, cache: &Cache) -> Result<PathBuf> {
        let folder = cache.folder(&self.name(), |folder| {
            println!("missing: {}; fetching it", self.name());
            let package = format!("{}@{}", self.kind, self.version);
            let folder = folder.to_str().context("the path of the cache is not UTF-8")?;
            let args = ["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"];
            wasm::npm(workspace, wasm::PACKAGE, &[&args[..], &[folder, &package]].concat())
                .run()
                .with_context(|| format!("`npm install {package}` failed"))?;
            Ok(())
        })?;
        let program = folder.join("node_modules").join(self.program);
        let said = duct::cmd!(&program, "--version").read();
        let said = said.with_context(|| format!("{} does not start", program.display()))?;
        ensure!(said.contains(self.version), "{} says {said}", program.display());
        Ok(program)
    }
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let is_wanted =
        |name: &str| args.only.is_empty() || args.only.iter().any(|only| name.starts_with(only));
    let engines: Vec<_> = ENGINES.iter().filter(|engine| is_wanted(&engine.name())).collect();
    ensure!(!engines.is_empty(), "there is none of that name");
    wasm::run(workspace)?;
    let cache = Cache::open()?;
    let mut lines = Vec::new();
    let mut failed = 0;
    for engine in engines {
        println!("\n== {}", engine.name());
        let outcome = match engine.program(workspace, &cache) {
            Ok(program) => {
                let what = format!("{}={}", engine.kind, program.display());
                let args = ["run", "--silent", "test", "--", "--in", &what];
                let passed = wasm::npm(workspace, wasm::PACKAGE, &args).run().is_ok();
                failed += u32::from(!passed);
                if passed { "ok".to_owned() } else { "failed".to_owned() }
            }
            Err(error) => format!("skipped, as it cannot be had here: {error:#}"),
        };
        lines.push(format!("{:<14} {outcome}", engine.name()));
    }
    println!("\n{}", lines.join("\n"));
    if failed > 0 {
        bail!("the tests failed in {failed} of the engines");
    }
    Ok(())
}
