//! Runs the program, against a private server.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio},
    thread,
};

use swarmbus_redis::local::Server;

/// A command, with its arguments as a shell without quotes would split them.
pub(crate) fn swarmbus(server: &Server, args: &str) -> Command {
    at(&server.url(), args)
}

/// The same for the server at a URL.
pub(crate) fn at(url: &str, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarmbus"));
    command.args(args.split_whitespace()).env("SWARMBUS_REDIS", url);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Standard output of a command that succeeds.
pub(crate) fn ok(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out
}

/// What a command that fails says.
pub(crate) fn error(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert!(!output.status.success(), "{}{said}", text(&output.stdout));
    said
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Gives a command its standard input.
pub(crate) fn feed(command: &mut Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// A `subscribe` that listens already.
pub(crate) struct Listening {
    child: Child,
    out: Option<BufReader<ChildStdout>>,
    err: BufReader<ChildStderr>,
}

impl Listening {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let out = child.stdout.take().map(BufReader::new);
        let mut err = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening") {
            line.clear();
            assert_ne!(err.read_line(&mut line).unwrap(), 0, "it has ended");
        }
        Self { child, out, err }
    }

    /// Waits for a line of standard output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Reads no further.
    pub(crate) fn leave(&mut self) {
        self.out = None;
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    #[cfg(unix)]
    pub(crate) fn interrupt(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    /// Waits for the end: the exit code, and what it printed that was not read.
    pub(crate) fn end(mut self) -> (i32, String, String) {
        let reading = self.out.take().map(|mut stdout| {
            thread::spawn(move || {
                let mut out = String::new();
                stdout.read_to_string(&mut out).unwrap();
                out
            })
        });
        let mut err = String::new();
        self.err.read_to_string(&mut err).unwrap();
        let out = reading.map_or_else(String::new, |reading| reading.join().unwrap());
        (self.child.wait().unwrap().code().unwrap_or(-1), out, err)
    }
}
