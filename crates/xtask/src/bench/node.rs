//! `cargo xtask bench node`: the npm package and its rivals.
//!
//! Each program in `benches/node` that is listed here takes `--json FILE` and
//! `--quick`, prints its tables, writes its figures, and fails when an output is
//! wrong. This sets up what they need and puts their figures into one file.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::wasm;
use crate::workspace::Workspace;

const FOLDER: &str = "benches/node";
/// The rival that is written in Rust, and where `codec-rivals.mjs` finds it.
const NAIVE: &str = "benches/naive";
const NAIVE_FOLDER: &str = "naive";
const PROGRAMS: &[&str] = &["codec", "bus", "messenger"];

pub(super) fn run(workspace: &Workspace, json: Option<&Path>, quick: bool) -> Result<()> {
    wasm::run(workspace)?;
    wasm::install(workspace, FOLDER)?;
    let folder = workspace.root.join(FOLDER);
    wasm::rival(workspace, NAIVE, &folder.join(NAIVE_FOLDER))?;
    let temp = workspace.target.join("bench-node");
    fs::create_dir_all(&temp)?;
    let (mut figures, mut failed) = (Map::new(), Vec::new());
    for program in PROGRAMS {
        println!("\n== {program}");
        let figure = temp.join(format!("{program}.json"));
        // An old file must not stand for a program that failed.
        let _ = fs::remove_file(&figure);
        let script = format!("{program}.mjs");
        let file = figure.to_str().context("the target folder is not UTF-8")?;
        let mut args = vec![script.as_str(), "--json", file];
        args.extend(quick.then_some("--quick"));
        if duct::cmd("node", &args).dir(&folder).run().is_err() {
            failed.push(*program);
        }
        if let Ok(text) = fs::read_to_string(&figure) {
            figures.insert((*program).to_owned(), serde_json::from_str(&text)?);
        }
    }
    if let Some(json) = json {
        fs::write(json, serde_json::to_string_pretty(&Value::Object(figures))?)?;
    }
    if !failed.is_empty() {
        bail!("these programs of {FOLDER} failed: {}", failed.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_is_there() {
        let folder = Workspace::find().unwrap().root.join(FOLDER);
        for program in PROGRAMS {
            assert!(folder.join(format!("{program}.mjs")).is_file(), "{program}");
        }
    }
}
