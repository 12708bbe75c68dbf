//! [`Script`]: a program for Node that measures by itself.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

/// Runs for as long as this value lives. It is asked a line at a time, and
/// answers with nanoseconds.
pub(super) struct Script {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// Where the scripts are.
pub(super) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node");

impl Script {
    /// One of `benches/node`. `None` if Node is not installed: then that is said,
    /// and its sides are left out.
    pub(super) fn start(file: &str, arguments: &[&str]) -> Option<Self> {
        let path = Path::new(FOLDER).join(file);
        let program = Command::new("node")
            .arg(&path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = program else {
            eprintln!("  left out: {file}, as node is not installed");
            return None;
        };
        let (input, output) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        Some(Self { child, input, output })
    }

    /// Has it do something, and gives how long that took.
    pub(super) fn ask(&mut self, line: &str) -> Duration {
        writeln!(self.input, "{line}").expect("it listens");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("it answers");
        let nanos = answer.trim().parse();
        Duration::from_nanos(nanos.unwrap_or_else(|_| panic!("{line}: {answer:?} is no time")))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
