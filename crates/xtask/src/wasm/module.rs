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
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::PACKAGE;
use super::debian;
use super::paths;
use super::toolchain::{TARGET, Toolchain};
use crate::workspace::Workspace;

/// Changed when the steps below change, so that old results are not kept.
const RECIPE: u32 = 7;

/// The class that the fallback does without (`codec/engine.ts`).
const TOKENISER: &str = "tape";

/// A custom section: its kind and length, the length of its name, the name, and a
/// list of no items.
const NO_FEATURES: [u8; 19] = *b"\x00\x11\x0ftarget_features\x00";

/// The character that stands for the byte 0 in the module's text (`instance.ts`): behind
/// it come all others, and of those only the backslash has a meaning in a string. A byte
/// stays a character, so that what repeats in the module does in the text: compressed it
/// is a quarter smaller than base64.
const FIRST: u32 = '#' as u32;

/// What the compiler made: of the same code, for speed and for size.
pub(super) struct Compiled {
    fast: PathBuf,
    small: PathBuf,
}

/// Builds swarmbus-wasm; cargo says whether there was anything to do.
pub(super) fn compile(workspace: &Workspace, toolchain: &Toolchain) -> Result<Compiled> {
    let build = |folder, level| cargo(workspace, toolchain, "swarmbus-wasm", folder, level);
    Ok(Compiled { fast: build("wasm", "3")?, small: build("wasm/small", "z")? })
}

/// Builds a package for WebAssembly. Folders of their own: the flags differ from those of other
/// release builds.
fn cargo(
    workspace: &Workspace,
    toolchain: &Toolchain,
    package: &str,
    folder: &str,
    level: &str,
) -> Result<PathBuf> {
    let target = workspace.target.join(folder);
    let args = ["build", "--package", package, "--release", "--target", TARGET];
    let mut cargo = workspace.cargo(&args);
    if let Some(rustc) = &toolchain.rustc {
        cargo = debian::compiler(cargo, rustc);
    }
    cargo
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", level)
        .env("CARGO_ENCODED_RUSTFLAGS", paths::flags(workspace))
        .run()
        .with_context(|| format!("building {package} failed"))?;
    Ok(target.join(TARGET).join("release").join(format!("{}.wasm", package.replace('-', "_"))))
}

/// Builds the rival `package` into `folder`, as a module for Node.js: `NAME.cjs` and its code.
pub(super) fn rival(
    workspace: &Workspace,
    toolchain: &Toolchain,
    bindgen: &Path,
    package: &str,
    to: &Path,
) -> Result<()> {
    let raw = cargo(workspace, toolchain, package, "wasm", "3")?;
    let temp = workspace.target.join("wasm/generate").join(package);
    fs::create_dir_all(&temp)?;
    fs::create_dir_all(to)?;
    let steps = Steps { workspace, temp: &temp };
    let bound = steps.bind(bindgen, "nodejs", &raw)?;
    // What the compiler's own library claims, and wasm-bindgen makes use of.
    let passes = ["-O3", "--enable-reference-types", "--enable-multivalue"];
    let small = steps.binaryen("wasm-opt", &bound, "module.wasm", &passes)?;
    fs::copy(small, to.join("swarmbus_bg.wasm"))?;
    fs::copy(temp.join("swarmbus.js"), to.join("index.cjs"))?;
    Ok(())
}

/// Writes the files of the table above, unless they are of this very module.
pub(super) fn generate(workspace: &Workspace, bindgen: &Path, raw: &Compiled) -> Result<()> {
    let package = workspace.root.join(PACKAGE);
    let generated = package.join("generated");
    let snip = package.join("scripts/snip.js");
    let stamp = stamp(&[&fs::read(&raw.fast)?, &fs::read(&raw.small)?, &fs::read(snip)?]);
    if fs::read_to_string(generated.join("stamp")).is_ok_and(|there| there == stamp) {
        return Ok(());
    }
    fs::create_dir_all(&generated)?;
    let temp = workspace.target.join("wasm/generate");
    let fast = Steps { workspace, temp: &temp.join("fast") };
    let module = fast.optimize(&fast.bind(bindgen, "bundler", &fast.strip(&raw.fast, None)?)?)?;
    let small = Steps { workspace, temp: &temp.join("small") };
    let fallback = small.to_js(&small.bind(
        bindgen,
        "bundler",
        &small.strip(&raw.small, Some(TOKENISER))?,
    )?)?;
    let glue = |steps: &Steps<'_>| fs::read(steps.temp.join("swarmbus_bg.js"));
    ensure!(glue(&fast)? == glue(&small)?, "the two modules have other imports or exports");

    let module = fs::read(&module)?;
    for part in [&module, &fs::read(small.temp.join("lowered.wasm"))?] {
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
    for (from, to) in [("swarmbus_bg.js", "glue.js"), ("swarmbus.d.ts", "glue.d.ts")] {
        fs::copy(fast.temp.join(from), generated.join(to)).with_context(|| from.to_owned())?;
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

struct Steps<'a> {
    workspace: &'a Workspace,
    temp: &'a Path,
}

impl Steps<'_> {
    /// Takes out what reports panics, and the list of features that the compiler's own library claims, and
    /// puts an empty one in its place: wasm-bindgen would make use of reference
    /// types, which cannot be turned into JavaScript.
    fn strip(&self, raw: &Path, unused: Option<&str>) -> Result<PathBuf> {
        fs::create_dir_all(self.temp)?;
        let snipped = self.temp.join("snipped.wasm");
        let script = self.workspace.root.join(PACKAGE).join("scripts/snip.js");
        let args = [script.as_os_str(), raw.as_os_str(), snipped.as_os_str()];
        let args = args.into_iter().chain(unused.map(AsRef::as_ref));
        duct::cmd("node", args).run().context("scripts/snip.js failed")?;
        let to =
            self.binaryen("wasm-opt", &snipped, "swarmbus.wasm", &["--strip-target-features"])?;
        let mut module = fs::read(&to)?;
        module.extend(NO_FEATURES);
        fs::write(&to, module)?;
        Ok(to)
    }

    fn bind(&self, bindgen: &Path, target: &str, module: &Path) -> Result<PathBuf> {
        let out: [&std::ffi::OsStr; 2] = ["--out-dir".as_ref(), self.temp.as_ref()];
        let args = ["--target", target, "--out-name", "swarmbus"];
        let args = args.iter().map(AsRef::as_ref).chain(out).chain([module.as_os_str()]);
        duct::cmd(bindgen, args).run().context("wasm-bindgen failed")?;
        Ok(self.temp.join("swarmbus_bg.wasm"))
    }

    fn optimize(&self, module: &Path) -> Result<PathBuf> {
        self.binaryen("wasm-opt", module, "module.wasm", &["-O3", "--strip-producers"])
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

    #[test]
    fn the_empty_list_of_features_is_a_custom_section() {
        let [kind, len, name_len, ..] = NO_FEATURES;
        assert_eq!((kind, usize::from(len)), (0, NO_FEATURES.len() - 2));
        assert_eq!(usize::from(name_len), "target_features".len());
    }
}
