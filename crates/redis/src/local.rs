//! [`Server`]: a Redis server of one's own, for tests, benches and load tests.
//!
//! ```
//! use swarmbus_redis::local::Server;
//!
//! # fn main() -> Result<(), swarmbus_redis::local::StartError> {
//! let server = Server::start()?;
//! assert_eq!(server.run(["SET", "a", "1"])?, "OK");
//! println!("connect to {}", server.url());
//! # Ok(())
//! # }
//! ```
//!
//! It listens on a free port of 127.0.0.1, keeps its files in a folder of its
//! own, and never touches a server that runs already. It ends when the
//! [`Server`] is dropped, and also when the process that started it is killed:
//! a small shell between the two notices the end of a pipe. Nothing here is
//! async, so that it works in a `Drop`, in a bench and before a runtime.
//!
//! Programs: `redis-server` and `redis-cli`, or Valkey's of the same kind.
//! `SWARMBUS_REDIS_SERVER` names another server program.
//!
//! Several that belong together are a [`Replicated`] set or a [`Cluster`].
//!
//! To cut, delay or swallow what goes between a client and the server, put a
//! [`Proxy`] between them.

mod builder;
mod cluster;
mod process;
mod proxy;
mod sets;

use std::{
    ffi::OsStr,
    fmt, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::Command,
    time::Duration,
};

use parking_lot::Mutex;
use tempfile::TempDir;

pub use builder::{Fsync, ServerBuilder};
pub use cluster::Cluster;
pub use proxy::{Proxy, Way};
pub use sets::Replicated;

use self::{
    builder::Spec,
    process::{Process, Programs},
};

/// The longest that a server may take to start, loading of its data included.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The longest that a server may take to stop when it is asked to.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Ports that the system does not hand out by itself, so that a killed
/// server's port is still free when it comes back.
const PORTS: std::ops::Range<u16> = 10_000..22_000;

/// A Redis server that belongs to this value. See the [module](self).
pub struct Server {
    spec: Spec,
    programs: Programs,
    /// Configuration and data; deleted after the process has ended.
    folder: TempDir,
    port: u16,
    process: Mutex<Option<Process>>,
}

/// Why a private server did not start, or did not do what it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No server program is installed.
    #[error(
        "neither redis-server nor valkey-server is on PATH: install one \
         (on Debian: apt-get install redis-server), or name one in SWARMBUS_REDIS_SERVER"
    )]
    NoProgram,
    /// Nothing is free between the ports that are tried.
    #[error("no free port was found")]
    NoPort,
    /// A file or a process could not be made.
    #[error("a private Redis server cannot be set up: {0}")]
    Io(#[from] io::Error),
    /// It ended at once; its last words.
    #[error("the private Redis server ended at once: {log}")]
    Ended {
        /// What it wrote.
        log: String,
    },
    /// It was not ready in time; its last words.
    #[error("the private Redis server was not ready in time: {log}")]
    TimedOut {
        /// What it wrote.
        log: String,
    },
    /// The server answered a command with an error.
    #[error("the private Redis server says: {0}")]
    Refused(String),
}

impl Server {
    /// Starts one that keeps nothing and asks for no password.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn start() -> Result<Self, StartError> {
        Self::builder().start()
    }

    /// Settings first.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    fn launch(spec: Spec) -> Result<Self, StartError> {
        let programs = Programs::find().ok_or(StartError::NoProgram)?;
        // Another process may take the port between the look and the start.
        for _ in 0..10 {
            let folder = tempfile::Builder::new().prefix("swarmbus-redis-").tempdir()?;
            let port = free_port()?;
            let spec = spec.clone().with_ports()?;
            spec.write(folder.path(), port)?;
            let server =
                Self { spec, programs: programs.clone(), folder, port, process: Mutex::new(None) };
            match server.restart() {
                Err(StartError::Ended { log }) if log.contains("Address already in use") => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(server),
            }
        }
        Err(StartError::NoPort)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// `redis://127.0.0.1:PORT`, with the password if it has one.
    pub fn url(&self) -> String {
        self.url_at(self.address())
    }

    /// The same for another address that leads to it: a [`Proxy`]'s.
    pub fn url_at(&self, address: SocketAddr) -> String {
        match &self.spec.password {
            Some(password) => format!("redis://:{password}@{address}"),
            None => format!("redis://{address}"),
        }
    }

    /// `rediss://127.0.0.1:PORT` of a server with
    /// [`tls`](ServerBuilder::tls).
    pub fn tls_url(&self) -> Option<String> {
        self.spec.tls_port.map(|port| format!("rediss://127.0.0.1:{port}"))
    }

    /// The certificate to trust, of a server with [`tls`](ServerBuilder::tls).
    pub fn certificate(&self) -> std::path::PathBuf {
        self.folder.path().join(builder::CERTIFICATE)
    }

    /// Its folder: configuration, data, and nothing else.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command through `redis-cli` and gives what it prints, without
    /// the last line end.
    ///
    /// # Errors
    ///
    /// [`StartError::Refused`] with the server's answer, or [`StartError::Io`].
    pub fn run<A: AsRef<OsStr>>(
        &self,
        command: impl IntoIterator<Item = A>,
    ) -> Result<String, StartError> {
        let mut cli = Command::new(&self.programs.client);
        cli.args(["-e", "-h", "127.0.0.1", "-p"]).arg(self.port.to_string());
        if let Some(password) = &self.spec.password {
            // In the environment, where other users do not see it.
            cli.env("REDISCLI_AUTH", password);
        }
        let output = cli.args(command).output()?;
        let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        if output.status.success() {
            return Ok(text);
        }
        let error = String::from_utf8_lossy(&output.stderr);
        Err(StartError::Refused(format!("{text} {error}").trim().to_owned()))
    }

    /// Kills it as a power cut would, and returns when it is dead. What it had
    /// not written is lost.
    pub fn kill9(&self) {
        drop(self.process.lock().take());
    }

    /// Asks it to stop, and returns when it has.
    pub fn stop(&self) {
        if let Some(process) = self.process.lock().take() {
            process.signal("TERM");
            process.wait_for_end(STOP_LIMIT);
        }
    }

    /// Starts it again on its port with its data; kills it first if it runs.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn restart(&self) -> Result<(), StartError> {
        let mut process = self.process.lock();
        drop(process.take());
        let file = self.folder.path().join(builder::FILE);
        let started = Process::start(&self.programs.server, &file, self.spec.sentinel)?;
        started.wait_until_ready(self.address(), START_LIMIT)?;
        *process = Some(started);
        Ok(())
    }

    /// Stops it in the middle of whatever it does: connections stay, nothing
    /// answers.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Whether its process lives, as far as its log tells.
    pub fn is_running(&self) -> bool {
        self.process.lock().as_ref().is_some_and(Process::is_running)
    }

    /// The last lines that it wrote since it was started.
    pub fn log(&self) -> String {
        self.process.lock().as_ref().map(Process::log).unwrap_or_default()
    }

    fn signal(&self, name: &str) {
        if let Some(process) = &*self.process.lock() {
            process.signal(name);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Before its folder goes.
        self.kill9();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address())
            .field("running", &self.is_running())
            .finish_non_exhaustive()
    }
}

fn free_port() -> Result<u16, StartError> {
    (0..200)
        .map(|_| fastrand::u16(PORTS))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or(StartError::NoPort)
}

#[cfg(test)]
mod tests;
