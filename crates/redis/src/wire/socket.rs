//! [`Target`]: where a server is and who asks; makes connections to it.

use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use redis::{ConnectionAddr, RedisConnectionInfo, Value};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, lookup_host},
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

use super::{Connection, OnPush, request::Request};
use crate::error::{ConnectionError, NEEDED};

/// Both directions of a connection.
pub(super) struct Stream {
    pub(super) reader: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) writer: Box<dyn AsyncWrite + Send + Unpin>,
}

/// A server, and how to log in.
#[derive(Clone)]
pub(crate) struct Target {
    address: Address,
    login: RedisConnectionInfo,
}

#[derive(Clone)]
enum Address {
    Tcp { host: String, port: u16, tls: Option<TlsConnector> },
    Unix(PathBuf),
}

/// Whom to trust with TLS, and who we are; all as PEM.
#[derive(Clone, Default)]
pub(crate) struct Certificates {
    /// Instead of those of the system.
    pub(crate) roots: Option<Vec<u8>>,
    /// Certificates and key.
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Target {
    /// Fails with what is wrong with the certificates.
    pub(crate) fn new(
        address: &ConnectionAddr,
        login: RedisConnectionInfo,
        certificates: &Certificates,
    ) -> Result<Self, String> {
        let address = match address {
            ConnectionAddr::Tcp(host, port) => {
                Address::Tcp { host: host.clone(), port: *port, tls: None }
            }
            ConnectionAddr::TcpTls { host, port, .. } => {
                let tls = Some(certificates.connector()?);
                Address::Tcp { host: host.clone(), port: *port, tls }
            }
            ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
            _ => return Err("no such address is known".to_owned()),
        };
        Ok(Self { address, login })
    }

    /// Host and port, or the path of a socket.
    pub(crate) fn address(&self) -> String {
        match &self.address {
            Address::Tcp { host, port, .. } => format!("{host}:{port}"),
            Address::Unix(path) => path.display().to_string(),
        }
    }

    /// Connects and logs in. Gives what the server answers to HELLO, too. Commands
    /// of `more` are sent with it; the second value has their answers.
    ///
    /// `patience` is for each answer; none: as long as it takes. How long
    /// connecting takes is the caller's business.
    pub(crate) async fn connect(
        &self,
        patience: Option<Duration>,
        on_push: OnPush,
        more: &[redis::Cmd],
    ) -> Result<(Connection, Value, Vec<Value>), ConnectionError> {
        let stream = self.open().await?;
        let connection = Connection::new(stream, patience, on_push);
        let mut request = Request::of(&self.hello());
        let database = self.login.db();
        if database != 0 {
            request.command(redis::cmd("SELECT").arg(database));
        }
        more.iter().for_each(|command| request.command(command));
        let answers = connection.ask_all(request).await.map_err(|error| match error {
            ConnectionError::Lost(detail) => {
                ConnectionError::Unreachable { address: self.address(), detail }
            }
            other => other,
        });
        let mut answers = answers?.into_iter();
        let hello = accepted(answers.next(), "HELLO")?;
        if database != 0 {
            accepted(answers.next(), "SELECT")?;
        }
        Ok((connection, hello, answers.collect()))
    }

    /// RESP3 sends messages and answers over one connection, told apart.
    fn hello(&self) -> redis::Cmd {
        let mut hello = redis::cmd("HELLO");
        hello.arg(3);
        if let Some(password) = self.login.password() {
            let user = self.login.username().unwrap_or("default");
            hello.arg("AUTH").arg(user).arg(password);
        }
        hello
    }

    async fn open(&self) -> Result<Stream, ConnectionError> {
        let unreachable = |error: io::Error| {
            let detail = error.to_string();
            ConnectionError::Unreachable { address: self.address(), detail }
        };
        let (host, port, tls) = match &self.address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(unreachable)?;
                let (reader, writer) = stream.into_split();
                return Ok(Stream { reader: Box::new(reader), writer: Box::new(writer) });
            }
            Address::Tcp { host, port, tls } => (host, *port, tls),
        };
        let stream = connect_tcp(host, port).await.map_err(unreachable)?;
        let Some(tls) = tls else {
            let (reader, writer) = stream.into_split();
            return Ok(Stream { reader: Box::new(reader), writer: Box::new(writer) });
        };
        let name = ServerName::try_from(host.clone())
            .map_err(|error| ConnectionError::Tls(error.to_string()))?;
        let stream = tls.connect(name, stream).await.map_err(|error| {
            // Its own error is the one to read.
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(inner) => ConnectionError::Tls(inner.to_string()),
                None => unreachable(error),
            }
        })?;
        let (reader, writer) = tokio::io::split(stream);
        Ok(Stream { reader: Box::new(reader), writer: Box::new(writer) })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the password.
        f.debug_struct("Target").field("address", &self.address()).finish_non_exhaustive()
    }
}

/// The first address of a host that answers: all are tried at once.
async fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
    let mut tries = JoinSet::new();
    for address in addresses {
        tries.spawn(TcpStream::connect(address));
    }
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    while let Some(tried) = tries.join_next().await {
        match tried.map_err(io::Error::other).flatten() {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn accepted(answer: Option<Value>, command: &str) -> Result<Value, ConnectionError> {
    match answer {
        Some(Value::ServerError(error)) => Err(match error.code() {
            "NOPROTO" => ConnectionError::TooOld { found: "before 6.0".to_owned(), needed: NEEDED },
            _ => ConnectionError::answered(&error, command),
        }),
        Some(answer) => Ok(answer),
        None => Err(ConnectionError::Protocol(format!("no answer to {command}"))),
    }
}

impl Certificates {
    pub(crate) fn is_empty(&self) -> bool {
        self.roots.is_none() && self.client.is_none()
    }

    fn connector(&self) -> Result<TlsConnector, String> {
        let mut roots = RootCertStore::empty();
        match &self.roots {
            Some(pem) => {
                for certificate in read(pem)? {
                    roots.add(certificate).map_err(|error| error.to_string())?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                if let Some(error) = found.errors.first() {
                    return Err(error.to_string());
                }
                for certificate in found.certs {
                    roots.add(certificate).map_err(|error| error.to_string())?;
                }
            }
        }
        // Programs that have chosen a provider of cryptography get that.
        let provider = CryptoProvider::get_default().cloned();
        let provider = provider.unwrap_or_else(|| Arc::new(ring::default_provider()));
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let config = match &self.client {
            None => config.with_no_client_auth(),
            Some((certificates, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| error.to_string())?;
                let with = config.with_client_auth_cert(read(certificates)?, key);
                with.map_err(|error| error.to_string())?
            }
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn read(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match read.map_err(|error| error.to_string())? {
        none if none.is_empty() => Err("no certificate in it".to_owned()),
        some => Ok(some),
    }
}
