//! What commands that talk to a Redis server share.
#![allow(clippy::doc_markdown, reason = "help is read in a terminal")]

use std::{fmt, path::PathBuf, str::FromStr};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use serde::Serialize;
use swarmbus::transport::{Channel, Mode, TransportError, Unsupported};
use swarmbus_redis::{ConnectError, ConnectionError, RedisTransport, Settings};

/// Where the URL is looked for that is not in the arguments, which other users
/// of the machine can read.
pub(crate) const URL_VARIABLE: &str = "SWARMBUS_REDIS";

const DEFAULT_URL: &str = "redis://127.0.0.1:6379";

/// What to do without a server.
pub(crate) const GET_ONE: &str = "to get one, install redis-server or valkey-server (on Debian: \
    apt-get install redis-server) and start it";

/// The server to talk to.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerArg {
    /// The Redis or Valkey server, 7.0 or newer:
    /// redis://[USER[:PASSWORD]@]HOST[:PORT][/DB], rediss://… for TLS,
    /// unix:///PATH, or redis+cluster://HOST:PORT,… for a cluster. Other users of this machine can read arguments: a URL with
    /// a password is better kept in the variable SWARMBUS_REDIS [default:
    /// SWARMBUS_REDIS, or redis://127.0.0.1:6379].
    // Read by `settings`, as clap would repeat a wrong one with its password.
    #[arg(long = "redis", value_name = "URL")]
    url: Option<Secret>,

    /// Sentinels to ask where the master is. The host in --redis is then the
    /// name under which they know it.
    #[arg(long, value_name = "URL,…", value_delimiter = ',')]
    sentinels: Vec<Secret>,

    /// Whom to trust with rediss://, as PEM [default: whom the system trusts].
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// What all names on the server begin with.
    #[arg(long, value_name = "TEXT", default_value = "swarmbus")]
    prefix: String,
}

/// A text that is not shown.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

impl ServerArg {
    /// The URL that was given, as an argument or in the environment.
    pub(crate) fn given(&self) -> Option<Secret> {
        let variable = || std::env::var(URL_VARIABLE).ok().filter(|url| !url.is_empty());
        self.url.clone().or_else(|| variable().map(Secret))
    }

    /// Whether an argument names it.
    pub(crate) fn is_named(&self) -> bool {
        self.url.is_some() || !self.sentinels.is_empty()
    }

    /// Where the server is, and who asks.
    pub(crate) fn settings(&self) -> Result<Settings> {
        let wrong = |error| anyhow!("--redis: {error}");
        let url = match self.given() {
            Some(url) => url.0,
            None if self.sentinels.is_empty() => DEFAULT_URL.to_owned(),
            None => bail!("--sentinels: name the master with --redis redis://NAME"),
        };
        let mut settings = Settings::new(&url).map_err(wrong)?.prefix(&self.prefix);
        if !self.sentinels.is_empty() {
            let urls = self.sentinels.iter().map(|url| &url.0);
            settings = settings.sentinels(urls).map_err(|error| anyhow!("--sentinels: {error}"))?;
        }
        let Some(file) = &self.tls_ca else { return Ok(settings) };
        let pem = std::fs::read(file)
            .with_context(|| format!("cannot read {}: check --tls-ca", file.display()))?;
        Ok(settings.root_certificates(pem))
    }

    pub(crate) async fn connect(&self) -> Result<RedisTransport> {
        let transport = RedisTransport::builder(self.settings()?).connect().await;
        transport.map_err(|error| unconnected(&error))
    }
}

/// Why there is no connection, and how to get one.
pub(crate) fn unconnected(error: &ConnectError) -> anyhow::Error {
    match error {
        ConnectError::Connection(ConnectionError::Unreachable { .. }) => {
            anyhow!("{error} Another one is named by --redis or {URL_VARIABLE}; {GET_ONE}")
        }
        error => anyhow!("{error}"),
    }
}

/// Why the transport did not do it. Its texts have their causes in them.
pub(crate) fn refused(error: &TransportError) -> anyhow::Error {
    let hint = match error {
        TransportError::Unsupported(Unsupported::Once(_)) => "; use --mode durable or --mode group",
        TransportError::Unsupported(Unsupported::Start(Mode::Live)) => {
            "; use --mode durable, for channels that are published to with it"
        }
        TransportError::Unsupported(Unsupported::Start(Mode::Group)) => {
            ": a group goes on where it is, and a new one can start --from beginning"
        }
        _ => "",
    };
    anyhow!("{error}{hint}")
}

/// The channel to publish or subscribe to.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ChannelArgs {
    /// The channel: 1 to 200 bytes without white space and braces.
    #[arg(long, value_name = "NAME", default_value = "events")]
    channel: String,

    /// How it delivers. Channels of one name and different modes have nothing
    /// to do with each other.
    #[arg(long, value_enum, default_value_t = ModeArg::Live)]
    mode: ModeArg,
}

impl ChannelArgs {
    pub(crate) fn mode(&self) -> Mode {
        self.mode.into()
    }

    pub(crate) fn channel(&self) -> Result<Channel> {
        Channel::new(self.mode(), &self.channel).map_err(|error| anyhow!("--channel: {error}"))
    }
}

/// [`Mode`], as the user writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ModeArg {
    /// To every subscriber that is there, at most once.
    Live,
    /// To every subscriber, once and in order, also what came before it.
    Durable,
    /// To one worker of each group, until it is acknowledged.
    Group,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Live => Self::Live,
            ModeArg::Durable => Self::Durable,
            ModeArg::Group => Self::Group,
        }
    }
}
