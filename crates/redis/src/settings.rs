//! [`Settings`]: where the server is and how patient to be.

use std::{fmt, time::Duration};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use swarmbus_core::backoff::{Backoff, Jitter};

use crate::wire::socket::{Certificates, Target};

/// Where the server is, who asks, and how patient to be.
///
/// | setting | default |
/// | --- | --- |
/// | [`prefix`](Self::prefix) | `swarmbus` |
/// | [`connect_timeout`](Self::connect_timeout) | 5 s |
/// | [`response_timeout`](Self::response_timeout) | 5 s |
/// | [`probe_every`](Self::probe_every) | 5 s |
/// | [`backoff`](Self::backoff) | 0.1 s, doubling up to 1 s, full jitter |
/// | [`root_certificates`](Self::root_certificates) | those of the system |
/// | [`client_certificate`](Self::client_certificate) | none |
///
/// Its `Debug` shows no password.
///
/// ```
/// use std::time::Duration;
/// use swarmbus_redis::Settings;
///
/// let settings = Settings::new("redis://worker:secret@127.0.0.1:6379/2")?
///     .prefix("staging")
///     .response_timeout(Duration::from_secs(2));
/// assert_eq!(settings.address(), "127.0.0.1:6379");
/// assert!(!format!("{settings:?}").contains("secret"));
/// # Ok::<(), swarmbus_redis::SettingsError>(())
/// ```
#[derive(Clone)]
pub struct Settings {
    info: ConnectionInfo,
    sentinels: Vec<ConnectionInfo>,
    /// Nodes of a cluster that are asked first; none: it is no cluster.
    seeds: Vec<ConnectionInfo>,
    certificates: Certificates,
    pub(crate) prefix: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) probe_every: Duration,
    pub(crate) backoff: Backoff,
}

/// The longest delay between tries. A transport has several connections, and the
/// first that is made brings the others: with full jitter, half of all transports
/// are back within 0.3 s of the end of an outage, however long that was.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Why settings make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The URL cannot be read. It is not repeated here: it may hold a password.
    #[error(
        "the URL cannot be read ({0}); it looks like redis://[USER[:PASSWORD]@]HOST[:PORT][/DB], \
         rediss://… for TLS, unix:///PATH[?db=DB&user=USER&pass=PASSWORD], or \
         redis+cluster://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]…]"
    )]
    Url(&'static str),
    /// Certificates that are not checked are as good as none.
    #[error("a TLS connection without a check of the certificate is not supported")]
    Insecure,
    /// Certificates were given for a connection without TLS, or they are no
    /// PEM.
    #[error("the certificates cannot be used ({0})")]
    Certificates(String),
    /// A list of sentinels is empty.
    #[error("at least one sentinel must be named")]
    NoSentinel,
    /// A duration is zero.
    #[error("{0} must be more than zero")]
    Zero(&'static str),
    /// The prefix of names on the server is 1 to 64 bytes long and holds no
    /// braces, white space or control characters.
    #[error("{0:?} is no prefix: 1 to 64 bytes without braces, white space and control characters")]
    Prefix(String),
}

impl Settings {
    /// For the server at a URL: `redis://`, `rediss://` (TLS) or `unix://`,
    /// with user, password and number of the database; or for the cluster of
    /// which some nodes are named: `redis+cluster://` or `rediss+cluster://`.
    ///
    /// ```
    /// use swarmbus_redis::Settings;
    ///
    /// let cluster = Settings::new("redis+cluster://worker:secret@10.0.0.1:7000,10.0.0.2:7000")?;
    /// assert_eq!(cluster.address(), "cluster of 10.0.0.1:7000, 10.0.0.2:7000");
    /// # Ok::<(), swarmbus_redis::SettingsError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SettingsError::Url`] and [`SettingsError::Insecure`].
    pub fn new(url: &str) -> Result<Self, SettingsError> {
        if let Some((scheme, rest)) = url.split_once("+cluster://") {
            return Self::of_cluster(scheme, rest);
        }
        // redis-rs may name the URL in its error, and with it the password.
        let info = url.into_connection_info().map_err(|_| SettingsError::Url("see its form"))?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            return Err(SettingsError::Insecure);
        }
        Ok(Self {
            info,
            sentinels: Vec::new(),
            seeds: Vec::new(),
            certificates: Certificates::default(),
            prefix: "swarmbus".to_owned(),
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(5),
            probe_every: Duration::from_secs(5),
            backoff: Backoff::exponential(Duration::from_millis(100))
                .cap(MAX_DELAY)
                .jitter(Jitter::Full),
        })
    }

    /// The same settings for several nodes: the part before their addresses, and
    /// the one after them, is that of a URL for one.
    fn of_cluster(scheme: &str, rest: &str) -> Result<Self, SettingsError> {
        let (nodes, end) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (login, hosts) = match nodes.rsplit_once('@') {
            Some((login, hosts)) => (format!("{login}@"), hosts),
            None => (String::new(), nodes),
        };
        let node = |host: &str| Self::new(&format!("{scheme}://{login}{host}{end}"));
        let mut settings: Vec<_> = hosts.split(',').map(node).collect::<Result<_, _>>()?;
        let seeds: Vec<_> = settings.iter().map(|settings| settings.info.clone()).collect();
        let mut first = settings.swap_remove(0);
        if matches!(first.info.addr(), ConnectionAddr::Unix(_)) {
            return Err(SettingsError::Url("nodes of a cluster have hosts"));
        }
        if first.info.redis_settings().db() != 0 {
            return Err(SettingsError::Url("a cluster has one database"));
        }
        first.seeds = seeds;
        Ok(first)
    }

    /// The URLs of sentinels, which are asked where the master is, each time
    /// that a connection is made. The host in the URL of [`new`](Self::new) is
    /// then the name under which they know it, and its port has no meaning.
    ///
    /// With TLS the master's certificate must be for the address that sentinels
    /// give.
    ///
    /// ```
    /// use swarmbus_redis::Settings;
    ///
    /// let settings = Settings::new("redis://worker:secret@mymaster/2")?
    ///     .sentinels(["redis://10.0.0.1:26379", "redis://10.0.0.2:26379"])?;
    /// assert_eq!(settings.address(), "mymaster of 10.0.0.1:26379, 10.0.0.2:26379");
    /// # Ok::<(), swarmbus_redis::SettingsError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`SettingsError::NoSentinel`].
    pub fn sentinels<U: AsRef<str>>(
        mut self,
        urls: impl IntoIterator<Item = U>,
    ) -> Result<Self, SettingsError> {
        if matches!(self.info.addr(), ConnectionAddr::Unix(_)) {
            return Err(SettingsError::Url("sentinels name hosts"));
        }
        if self.is_cluster() {
            return Err(SettingsError::Url("a cluster has no sentinels"));
        }
        let read = |url: U| Self::new(url.as_ref()).map(|settings| settings.info);
        self.sentinels = urls.into_iter().map(read).collect::<Result<_, _>>()?;
        if self.sentinels.is_empty() { Err(SettingsError::NoSentinel) } else { Ok(self) }
    }

    /// What all names on the server begin with, so that systems that share a
    /// server do not meet.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long making a connection may take, log-in included.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long an answer may take before the connection counts as broken.
    #[must_use]
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// How often it is tried whether a published event still arrives.
    #[must_use]
    pub fn probe_every(mut self, interval: Duration) -> Self {
        self.probe_every = interval;
        self
    }

    /// The delays between tries to connect. They never end: its number of
    /// tries has no meaning here.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Whom to trust with TLS, as PEM, instead of the system's store.
    #[must_use]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates.roots = Some(pem.into());
        self
    }

    /// Who this program is with TLS: certificate and key as PEM.
    #[must_use]
    pub fn client_certificate(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.certificates.client = Some((certificate.into(), key.into()));
        self
    }

    /// Host and port, the path of the socket, the master's name and its
    /// sentinels, or the nodes of a cluster that were named.
    pub fn address(&self) -> String {
        let list = |infos: &[ConnectionInfo]| {
            let addresses: Vec<_> = infos.iter().map(|info| info.addr().to_string()).collect();
            addresses.join(", ")
        };
        if self.is_cluster() {
            return format!("cluster of {}", list(&self.seeds));
        }
        match self.master() {
            None => self.info.addr().to_string(),
            Some(name) => format!("{name} of {}", list(&self.sentinels)),
        }
    }

    /// The name of the master, if sentinels are to be asked for it.
    pub(crate) fn master(&self) -> Option<&str> {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => {
                (!self.sentinels.is_empty()).then_some(host)
            }
            _ => None,
        }
    }

    /// Where the sentinels are.
    pub(crate) fn sentinel_targets(&self) -> Result<Vec<Target>, SettingsError> {
        self.sentinels.iter().map(|info| self.target_of(info.clone())).collect()
    }

    /// Whether it is a cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        !self.seeds.is_empty()
    }

    /// Host and port of the nodes of a cluster that were named.
    pub(crate) fn seeds(&self) -> impl Iterator<Item = (String, u16)> {
        self.seeds.iter().filter_map(|info| match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some((host.clone(), *port))
            }
            _ => None,
        })
    }

    /// Where a server is that sentinels or nodes of the cluster have named.
    pub(crate) fn target_at(&self, host: String, port: u16) -> Result<Target, SettingsError> {
        let addr = match self.info.addr() {
            ConnectionAddr::TcpTls { .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        self.target_of(self.info.clone().set_addr(addr))
    }

    /// Checks everything that later code trusts, and says where the server is.
    pub(crate) fn target(&self) -> Result<Target, SettingsError> {
        let durations = [
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
            ("probe_every", self.probe_every),
        ];
        if let Some((name, _)) = durations.iter().find(|(_, duration)| duration.is_zero()) {
            return Err(SettingsError::Zero(name));
        }
        let bad = |c: char| matches!(c, '{' | '}') || c.is_whitespace() || c.is_control();
        if !(1..=64).contains(&self.prefix.len()) || self.prefix.contains(bad) {
            return Err(SettingsError::Prefix(self.prefix.clone()));
        }
        let tls = |info: &ConnectionInfo| matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        if !self.certificates.is_empty()
            && !std::iter::once(&self.info).chain(&self.sentinels).any(tls)
        {
            let why = "no URL begins with rediss://".to_owned();
            return Err(SettingsError::Certificates(why));
        }
        self.target_of(self.info.clone())
    }

    fn target_of(&self, info: ConnectionInfo) -> Result<Target, SettingsError> {
        let login = info.redis_settings().clone();
        Target::new(info.addr(), login, &self.certificates).map_err(SettingsError::Certificates)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = self.info.redis_settings();
        f.debug_struct("Settings")
            .field("address", &self.address())
            .field("tls", &matches!(self.info.addr(), ConnectionAddr::TcpTls { .. }))
            .field("user", &login.username())
            .field("has_password", &login.password().is_some())
            .field("database", &login.db())
            .field("prefix", &self.prefix)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("probe_every", &self.probe_every)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_all_kinds_are_read() {
        let at = |url: &str| Settings::new(url).unwrap().address();
        assert_eq!(at("redis://localhost"), "localhost:6379");
        assert_eq!(at("rediss://[::1]:7000/3"), "::1:7000");
        assert_eq!(at("unix:///run/redis.sock?db=1&user=a&pass=b"), "/run/redis.sock");
        for bad in ["", "localhost:6379", "http://localhost", "redis://h:99999", "redis://h/x"] {
            assert!(matches!(Settings::new(bad), Err(SettingsError::Url(_))), "{bad}");
        }
        let named = Settings::new("redis://mymaster").unwrap();
        assert_eq!(named.clone().sentinels([""; 0]).unwrap_err(), SettingsError::NoSentinel);
        assert!(matches!(named.sentinels(["nonsense"]), Err(SettingsError::Url(_))));
        assert_eq!(at("redis+cluster://a,b:7000"), "cluster of a:6379, b:7000");
        assert_eq!(at("rediss+cluster://u:p@[::1]:1,b/"), "cluster of ::1:1, b:6379");
        for bad in
            ["redis+cluster://", "redis+cluster://a,", "redis+cluster://a/1", "x+cluster://a"]
        {
            assert!(matches!(Settings::new(bad), Err(SettingsError::Url(_))), "{bad}");
        }
        let cluster = Settings::new("redis+cluster://a").unwrap();
        assert!(matches!(cluster.sentinels(["redis://b"]), Err(SettingsError::Url(_))));
        let insecure = Settings::new("rediss://localhost/#insecure");
        assert_eq!(insecure.unwrap_err(), SettingsError::Insecure);
    }

    #[test]
    fn passwords_stay_secret() {
        for url in [
            "redis://u:pa55@h",
            "redis://:pa55@h:1/2",
            "unix:///s?user=u&pass=pa55",
            "redis+cluster://u:pa55@h,i:1",
        ] {
            assert!(!format!("{:?}", Settings::new(url).unwrap()).contains("pa55"));
        }
        let error = Settings::new("redis://u:pa55@h:badport").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("pa55"));
    }

    #[test]
    fn nonsense_is_refused() {
        let plain = || Settings::new("redis://localhost").unwrap();
        let zero = plain().probe_every(Duration::ZERO).target().unwrap_err();
        assert_eq!(zero, SettingsError::Zero("probe_every"));
        for prefix in ["", "a b", "a{b}", &"x".repeat(65)] {
            let error = plain().prefix(prefix).target().unwrap_err();
            assert_eq!(error, SettingsError::Prefix(prefix.to_owned()));
        }
        let error = plain().root_certificates("x").target().unwrap_err();
        assert!(matches!(error, SettingsError::Certificates(_)));
        let tls = Settings::new("rediss://localhost").unwrap().client_certificate("no", "pem");
        assert!(matches!(tls.target().unwrap_err(), SettingsError::Certificates(_)));
    }
}
