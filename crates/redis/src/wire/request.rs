//! [`Request`]: commands, as they are sent.

use std::io::Write as _;

use redis::Cmd;

/// Commands in the form in which a server reads them.
#[derive(Debug, Default)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    commands: usize,
}

impl Request {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn of(command: &Cmd) -> Self {
        let mut request = Self::new();
        request.command(command);
        request
    }

    /// Adds a command.
    pub(crate) fn command(&mut self, command: &Cmd) {
        self.commands += 1;
        command.write_packed_command(&mut self.bytes);
    }

    /// Adds a command of so many arguments, its name included, which follow.
    pub(crate) fn begin(&mut self, arguments: usize) {
        self.commands += 1;
        self.line(b'*', arguments);
    }

    /// Adds an argument.
    pub(crate) fn arg(&mut self, bytes: &[u8]) {
        self.arg_in_two(bytes, &[]);
    }

    /// Adds an argument that consists of two parts.
    pub(crate) fn arg_in_two(&mut self, first: &[u8], rest: &[u8]) {
        self.line(b'$', first.len() + rest.len());
        self.bytes.extend_from_slice(first);
        self.bytes.extend_from_slice(rest);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Adds the commands of another.
    pub(crate) fn append(&mut self, other: &Self) {
        self.commands += other.commands;
        self.bytes.extend_from_slice(&other.bytes);
    }

    /// How many commands it holds.
    pub(crate) fn commands(&self) -> usize {
        self.commands
    }

    /// Forgets its commands, and keeps their memory, if that is not too much.
    pub(crate) fn clear(&mut self) {
        const KEPT: usize = 1 << 20;
        self.commands = 0;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn line(&mut self, kind: u8, number: usize) {
        self.bytes.push(kind);
        // Most are that short.
        if let Ok(small @ 0..10) = u8::try_from(number) {
            self.bytes.push(b'0' + small);
        } else {
            // Writing to memory does not fail.
            let _ = write!(self.bytes, "{number}");
        }
        self.bytes.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_writes_what_redis_rs_writes() {
        for payload in [&b""[..], b"x", b"0123456789\r\n", &[0; 1_000]] {
            let command = redis::cmd("PUBLISH").arg("a:{b}:live").arg(payload).to_owned();
            let mut request = Request::new();
            request.begin(3);
            request.arg(b"PUBLISH");
            request.arg(b"a:{b}:live");
            let (first, rest) = payload.split_at(payload.len() / 2);
            request.arg_in_two(first, rest);
            assert_eq!(request.bytes(), command.get_packed_command());
            assert_eq!(Request::of(&command).bytes(), request.bytes());
            assert_eq!(request.commands(), 1);
        }
    }
}
