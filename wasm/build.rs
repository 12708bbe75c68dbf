//! Says which features of WebAssembly the module needs: those that every engine has, and that can
//! be turned into JavaScript. The compiler's own library claims more, and wasm-bindgen would make
//! use of reference types.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32") {
        for arg in ["--features=mutable-globals", "--no-check-features"] {
            println!("cargo::rustc-link-arg-cdylib={arg}");
        }
    }
}
