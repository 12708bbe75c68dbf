//! [`ServerBuilder`]: the settings of a private server, and its files.

use std::{fmt::Write as _, fs, io, path::Path, process::Command};

use super::{Server, StartError, free_port};

pub(super) const FILE: &str = "redis.conf";
pub(super) const CERTIFICATE: &str = "server.crt";
const KEY: &str = "server.key";

/// When a server with an append-only file has it written to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before it answers.
    Always,
    /// Once a second.
    EverySecond,
    /// When the system sees fit.
    Never,
}

/// Settings of a private [`Server`].
///
/// | setting | default |
/// | --- | --- |
/// | [`append_only`](Self::append_only) | nothing is kept |
/// | [`password`](Self::password) | none |
/// | [`tls`](Self::tls) | none |
/// | [`setting`](Self::setting) | those of the server |
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ServerBuilder(Spec);

#[derive(Clone, Default)]
pub(super) struct Spec {
    append_only: Option<Fsync>,
    pub(super) password: Option<String>,
    pub(super) sentinel: bool,
    cluster_port: Option<u16>,
    cluster: bool,
    tls: bool,
    pub(super) tls_port: Option<u16>,
    lines: String,
}

impl ServerBuilder {
    /// Keeps its data in an append-only file, which survives
    /// [`Server::kill9`] as far as it was written.
    pub fn append_only(mut self, fsync: Fsync) -> Self {
        self.0.append_only = Some(fsync);
        self
    }

    /// Asks every client for this password; without white space and quotes.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.0.password = Some(password.into());
        self
    }

    /// Has a second port with TLS, with a certificate of its own for
    /// 127.0.0.1 and `localhost` ([`Server::certificate`]). Needs the program
    /// `openssl`.
    pub fn tls(mut self) -> Self {
        self.0.tls = true;
        self
    }

    /// Is a sentinel: of its settings only [`setting`](Self::setting) counts.
    pub(super) fn sentinel(mut self) -> Self {
        self.0.sentinel = true;
        self
    }

    /// Is a node of a cluster.
    pub(crate) fn cluster(mut self) -> Self {
        self.0.cluster = true;
        self
    }

    /// The most memory it uses, in bytes, and what it does then:
    /// `noeviction`, `allkeys-lru`, …
    pub fn max_memory(self, bytes: u64, policy: &str) -> Self {
        self.setting("maxmemory", &bytes.to_string()).setting("maxmemory-policy", policy)
    }

    /// Cuts off subscribers of pub/sub for whom more than this many bytes wait.
    pub fn pubsub_buffer(self, bytes: u64) -> Self {
        self.setting("client-output-buffer-limit", &format!("pubsub {bytes} {bytes} 1"))
    }

    /// A user by the rules of Redis ACLs: `user("reader", "on >secret ~* &* +@read")`.
    pub fn user(self, name: &str, rules: &str) -> Self {
        self.setting("user", &format!("{name} {rules}"))
    }

    /// Any other line of the configuration file.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        let _ = writeln!(self.0.lines, "{name} {value}");
        self
    }

    /// Starts it and returns when it answers.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn start(self) -> Result<Server, StartError> {
        Server::launch(self.0)
    }
}

impl Spec {
    /// Those that it needs beside its own.
    pub(super) fn with_ports(mut self) -> Result<Self, StartError> {
        self.tls_port = self.tls.then(free_port).transpose()?;
        self.cluster_port = self.cluster.then(free_port).transpose()?;
        Ok(self)
    }

    /// Writes the configuration into an empty folder.
    pub(super) fn write(&self, folder: &Path, port: u16) -> io::Result<()> {
        let mut text = String::new();
        // A server that would guess may find a file that is not its own.
        let dir = folder.display();
        let _ = write!(
            text,
            "bind 127.0.0.1\nport {port}\ndir \"{dir}\"\ndaemonize no\nlogfile \"\"\n\
             protected-mode no\n"
        );
        if self.sentinel {
            text.push_str(&self.lines);
            return fs::write(folder.join(FILE), text);
        }
        text.push_str("save \"\"\nenable-debug-command yes\n");
        if let Some(port) = self.cluster_port {
            let _ = writeln!(text, "cluster-enabled yes\ncluster-port {port}");
        }
        if let Some(fsync) = self.append_only {
            let fsync = match fsync {
                Fsync::Always => "always",
                Fsync::EverySecond => "everysec",
                Fsync::Never => "no",
            };
            let _ = writeln!(text, "appendonly yes\nappendfsync {fsync}");
        }
        if let Some(password) = &self.password {
            let _ = writeln!(text, "requirepass {password}");
        }
        if let Some(port) = self.tls_port {
            certify(folder)?;
            let _ = writeln!(
                text,
                "tls-port {port}\ntls-auth-clients no\ntls-cert-file \"{dir}/{CERTIFICATE}\"\n\
                 tls-key-file \"{dir}/{KEY}\"\ntls-ca-cert-file \"{dir}/{CERTIFICATE}\""
            );
        }
        text.push_str(&self.lines);
        fs::write(folder.join(FILE), text)
    }
}

/// Makes a certificate that is trusted by itself. It is no authority, for
/// clients refuse one that signs for itself as a server.
fn certify(folder: &Path) -> io::Result<()> {
    const REQUEST: &str = "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = use\n\
        [name]\nCN = localhost\n[use]\nbasicConstraints = critical, CA:FALSE\n\
        subjectAltName = DNS:localhost, IP:127.0.0.1\n";
    let request = folder.join("request.cnf");
    fs::write(&request, REQUEST)?;
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "30", "-config"])
        .arg(request)
        .arg("-keyout")
        .arg(folder.join(KEY))
        .arg("-out")
        .arg(folder.join(CERTIFICATE))
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

impl std::fmt::Debug for Spec {
    /// Without the password, and without the lines, which may hold some.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spec")
            .field("append_only", &self.append_only)
            .field("password", &self.password.is_some())
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
