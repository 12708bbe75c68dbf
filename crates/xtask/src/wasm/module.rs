//! From Rust to what the npm package embeds: the module as text, its glue, and the
//! same module as JavaScript.
//!
//! | file in `js-bindings/generated` | what |
//! | --- | --- |
//! | `glue.js`, `glue.d.ts` | wasm-bindgen's side of the exports |
//! | `module.js` | the module as text, a script that leaves it in the global object |
//! | `fallback.js` | the module turned to JavaScript, for where WebAssembly is not |
//!
//! The fallback comes of the same code, compiled to be small: where it runs, nothing
//! is fast, and it is in each package. It lacks the tokeniser, as JavaScript reads
//! payloads quicker than that would.

use std::collections::hash_map::DefaultHasher;
use std::ffi::{OsStr, OsString};
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, ensure};

use super::PACKAGE;
use super::debian;
use super::paths;
use super::toolchain::Toolchain;
use super::tools::Tools;
use crate::workspace::Workspace;

/// Changed when the steps below change, so that old results are not kept.
const RECIPE: u32 = 8;

/// The class that the fallback does without (`codec/engine.ts`).
const TOKENISER: &str = "tape";

/// The character that stands for the byte 0 in the module's text (`instance.ts`): behind
/// it come all others, and of those only the backslash has a meaning in a string. A byte
/// stays a character, so that what repeats in the module does in the text: compressed it
/// is a quarter smaller than base64.
const FIRST: u32 = '#' as u32;

/// What the compiler and wasm-bindgen made of the same code, for speed and for size: folders with
/// `swarmbus_bg.wasm` and its glue.
pub(super) struct Compiled {
    fast: PathBuf,
    small: PathBuf,
}

/// Builds swarmbus-wasm; cargo says whether there was anything to compile.
pub(super) fn compile(
    workspace: &Workspace,
    toolchain: &Toolchain,
    tools: &Tools,
) -> Result<Compiled> {
    let builder = Builder { workspace, toolchain, tools };
    Ok(Compiled {
        fast: builder.build("wasm", "bundler", "wasm", "3")?,
        small: builder.build("wasm", "bundler", "wasm/small", "z")?,
    })
}

/// Builds the crate in `folder` as a module for Node.js: `index.cjs` and what it reads.
pub(super) fn rival(
    workspace: &Workspace,
    toolchain: &Toolchain,
    tools: &Tools,
    folder: &str,
    to: &Path,
) -> Result<()> {
    let built = Builder { workspace, toolchain, tools }.build(folder, "nodejs", "wasm", "3")?;
    let steps = Steps { workspace, temp: &built };
    // What the compiler's own library claims, and wasm-bindgen makes use of.
    let passes = ["-O3", "--enable-reference-types", "--enable-multivalue"];
    let module =
        steps.binaryen("wasm-opt", &built.join("swarmbus_bg.wasm"), "module.wasm", &passes)?;
    fs::create_dir_all(to)?;
    fs::copy(module, to.join("swarmbus_bg.wasm"))?;
    fs::copy(built.join("swarmbus.js"), to.join("index.cjs"))?;
    Ok(())
}

/// Runs wasm-pack: cargo, and wasm-bindgen after it.
struct Builder<'a> {
    workspace: &'a Workspace,
    toolchain: &'a Toolchain,
    tools: &'a Tools,
}

impl Builder<'_> {
    /// Builds the crate in the folder `at` for a target of wasm-bindgen. `target` is the target
    /// folder, one of its own: the flags differ from those of other release builds.
    fn build(&self, at: &str, kind: &str, target: &str, level: &str) -> Result<PathBuf> {
        let target = self.workspace.target.join(target);
        let out = target.join("pack").join(at);
        // No package of its own, no look for another wasm-bindgen, and optimised later.
        let args = ["--quiet", "build", "--release", "--mode", "no-install", "--no-pack"];
        let more = ["--no-opt", "--out-name", "swarmbus", "--target", kind, "--out-dir"];
        let args = args.iter().chain(&more).map(AsRef::<OsStr>::as_ref);
        let crate_folder = self.workspace.root.join(at);
        let args = args.chain([out.as_os_str(), crate_folder.as_os_str()]);
        let mut pack = duct::cmd(&self.tools.wasm_pack, args).env("PATH", self.path()?);
        if let Some(rustc) = &self.toolchain.rustc {
            pack = debian::compiler(pack, rustc);
        }
        pack.env("CARGO_TARGET_DIR", &target)
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", level)
            .env("CARGO_ENCODED_RUSTFLAGS", paths::flags(self.workspace))
            .run()
            .with_context(|| format!("building {at} failed"))?;
        Ok(out)
    }

    /// With the programs that wasm-pack looks for before all others.
    fn path(&self) -> Result<OsString> {
        let found = [Some(&self.tools.wasm_bindgen), self.toolchain.rustc.as_ref()];
        let found = found.into_iter().flatten().filter_map(|program| program.parent());
        let path = env::var_os("PATH").unwrap_or_default();
        let all = found.map(Path::to_owned).chain(env::split_paths(&path));
        env::join_paths(all).context("a folder of PATH has a colon")
    }
}

/// Writes the files of the table above, unless they are of this very module.
pub(super) fn generate(workspace: &Workspace, compiled: &Compiled) -> Result<()> {
    let package = workspace.root.join(PACKAGE);
    let generated = package.join("generated");
    let snip = package.join("scripts/snip.js");
    let of =
        |folder: &Path, name: &str| fs::read(folder.join(name)).with_context(|| name.to_owned());
    let [fast, small] = [&compiled.fast, &compiled.small];
    let stamp = stamp(&[&of(fast, MODULE)?, &of(small, MODULE)?, &fs::read(snip)?]);
    if fs::read_to_string(generated.join("stamp")).is_ok_and(|there| there == stamp) {
        return Ok(());
    }
    fs::create_dir_all(&generated)?;
    ensure!(of(fast, GLUE)? == of(small, GLUE)?, "the two modules have other imports or exports");
    let steps = Steps { workspace, temp: fast };
    let module = steps.optimize(&steps.snip(None)?)?;
    let steps = Steps { workspace, temp: small };
    let fallback = steps.to_js(&steps.snip(Some(TOKENISER))?)?;

    let module = fs::read(&module)?;
    for part in [&module, &of(small, "lowered.wasm")?] {
        paths::ensure_none(workspace, part)?;
    }
    let module_text = format!(
        "// The WebAssembly module, made by `cargo xtask wasm`.\n\
         globalThis[Symbol.for('swarmbus.module')] =\n  \"{}\";\n",
        text(&module)
    );
    fs::write(generated.join("module.js"), module_text)?;
    fs::write(generated.join("module.d.ts"), "export {};\n")?;
    let instantiate = "export declare function instantiate(imports: object): object;\n";
    fs::write(generated.join("fallback.d.ts"), instantiate)?;
    fs::write(generated.join("fallback.js"), wrap(&fs::read_to_string(fallback)?)?)?;
    for (from, to) in [(GLUE, "glue.js"), ("swarmbus.d.ts", "glue.d.ts")] {
        fs::copy(fast.join(from), generated.join(to)).with_context(|| from.to_owned())?;
    }
    fs::write(generated.join("stamp"), stamp)?;
    Ok(())
}

fn stamp(from: &[&[u8]]) -> String {
    let mut hasher = DefaultHasher::new();
    (RECIPE, from).hash(&mut hasher);
    format!("{:016x}\n", hasher.finish())
}

/// The bytes of the module as what stands between quotes.
fn text(module: &[u8]) -> String {
    let chars = module.iter().filter_map(|byte| char::from_u32(FIRST + u32::from(*byte)));
    let mut text = String::with_capacity(module.len() * 3 / 2);
    for char in chars {
        if char == '\\' {
            text.push('\\');
        }
        text.push(char);
    }
    text
}

/// What wasm-bindgen writes.
const MODULE: &str = "swarmbus_bg.wasm";
const GLUE: &str = "swarmbus_bg.js";

/// What is done to a module in the folder `temp`.
struct Steps<'a> {
    workspace: &'a Workspace,
    temp: &'a Path,
}

impl Steps<'_> {
    /// Takes out what reports panics, and the exports of a class that is not used.
    fn snip(&self, unused: Option<&str>) -> Result<PathBuf> {
        let snipped = self.temp.join("snipped.wasm");
        let script = self.workspace.root.join(PACKAGE).join("scripts/snip.js");
        let module = self.temp.join(MODULE);
        let args = [script.as_os_str(), module.as_os_str(), snipped.as_os_str()];
        let args = args.into_iter().chain(unused.map(AsRef::as_ref));
        duct::cmd("node", args).run().context("scripts/snip.js failed")?;
        Ok(snipped)
    }

    fn optimize(&self, module: &Path) -> Result<PathBuf> {
        self.binaryen(
            "wasm-opt",
            module,
            "module.wasm",
            &["-O3", "--strip-producers", "--strip-target-features"],
        )
    }

    /// Lowers what JavaScript has no words for, then says it in JavaScript.
    fn to_js(&self, module: &Path) -> Result<PathBuf> {
        let passes = ["-Oz", "--signext-lowering", "--llvm-nontrapping-fptoint-lowering"];
        let lowered = self.binaryen("wasm-opt", module, "lowered.wasm", &passes)?;
        self.binaryen("wasm2js", &lowered, "fallback.js", &["-Oz"])
    }

    /// One of the programs that the npm package brings.
    fn binaryen(&self, tool: &str, from: &Path, to: &str, passes: &[&str]) -> Result<PathBuf> {
        let to = self.temp.join(to);
        let features = ["--enable-bulk-memory", "--enable-bulk-memory-opt", "--enable-sign-ext"];
        let more = ["--enable-mutable-globals", "--enable-nontrapping-float-to-int", "-o"];
        let path = |path: &Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
        let (from, to_text) = (path(from)?, path(&to)?);
        // Started by node: a link in `.bin` is not the same on every system.
        let program = format!("{PACKAGE}/node_modules/binaryen/bin/{tool}");
        let mut args = vec![program.as_str(), &from];
        args.extend(features.iter().chain(passes).chain(&more));
        args.push(&to_text);
        self.workspace.command("node", &args).run().with_context(|| format!("{tool} failed"))?;
        ensure!(to.is_file(), "{tool} wrote no {}", to.display());
        Ok(to)
    }
}

/// wasm2js writes a module that starts itself. This keeps the function that makes
/// an instance, which the package starts (`instance.ts`), and makes memory behave as
/// WebAssembly's does: when it grows, views of the old buffer become empty instead of
/// showing what was.
fn wrap(text: &str) -> Result<String> {
    let start = text.find("var bufferView").or_else(|| text.find("function asmFunc"));
    let end = text.find("var retasmFunc").context("wasm2js starts its module in another way")?;
    let body = &text[start.context("wasm2js wrote no `asmFunc`")?..end];
    let grown = "buffer = newBuffer;";
    ensure!(body.matches(grown).count() == 1, "wasm2js grows memory in another way");
    let body =
        body.replace(grown, "structuredClone(buffer, { transfer: [buffer] }); buffer = newBuffer;");
    Ok(format!(
        "// The WebAssembly module as JavaScript, made by `cargo xtask wasm`.\n{body}\n\
         export {{ asmFunc as instantiate }};\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fallback_is_a_function_whose_old_memory_is_gone() {
        let text = "import * as a from 'a';\nvar bufferView;\nfunction asmFunc(imports) {\n\
                    buffer = newBuffer;\n}\nvar retasmFunc = asmFunc({});\nexport var b = 1;\n";
        let wrapped = wrap(text).unwrap();
        assert!(wrapped.contains("transfer: [buffer]") && !wrapped.contains("retasmFunc"));
        assert!(!wrapped.contains("import ") && wrapped.contains("as instantiate"));
        wrap("function asmFunc() {}").unwrap_err();
    }

    #[test]
    fn each_byte_is_a_character_and_the_backslash_two() {
        assert_eq!(text(&[0, 1, b'9', 255]), "#$\\\\\u{122}");
        let all: Vec<u8> = (0..=255).collect();
        let text = text(&all);
        assert_eq!(text.chars().count(), 257);
        assert!(!text.contains(['"', '\n', '\r', '\0']));
    }
}
