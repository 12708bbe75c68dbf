//! `swarmbus subscribe`: what is published to a channel, printed or handed to a
//! command.
#![allow(clippy::doc_markdown, reason = "help is read in a terminal")]

mod exec;
mod show;

use std::{num::NonZeroUsize, process::ExitCode, str::FromStr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use swarmbus::{
    core::router::Pattern,
    transport::{
        Channel, ConnectionState, Gap, Inbox, Incoming, Mode, Position, Received, Start,
        SubscribeOptions, Transport,
    },
};
use tokio::{signal, sync::watch};

use self::{exec::Exec, show::Show};
use super::{
    say,
    server::{ChannelArgs, ServerArg, refused},
    store::pattern,
    when::duration,
};

/// The exit code of a program that got Ctrl-C, as shells have it.
const INTERRUPTED: i32 = 130;

/// Print what is published on a Redis server, or run a command for each event
///
///   swarmbus subscribe 'order.>'
///   swarmbus subscribe '>' --mode durable --from beginning --json
///   swarmbus subscribe --mode group --channel images --exec ./resize.sh
///
/// Events that are missing show as a line of their own, in the place where they
/// are missing. Ctrl-C ends it; a durable channel can be read on from the
/// position that is then printed.
///
/// In a group, a task is acknowledged when it is printed, or when the command
/// for it has ended with exit code 0; else it comes again, to this worker or
/// another, and after 5 deliveries it is a dead letter.
///
/// The exit code is 1 if a command failed in another mode, where events do not
/// come again.
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Which events: task.created, task.*, task.> or /regex/. A group's tasks
    /// are taken all [default: >].
    #[arg(value_name = "PATTERN", value_parser = pattern)]
    pattern: Option<Pattern>,

    #[command(flatten)]
    server: ServerArg,

    #[command(flatten)]
    channel: ChannelArgs,

    /// Where to begin: `new`, `beginning`, or a position that was printed when
    /// this command ended [default: new; for a group that is new: beginning].
    #[arg(long, value_name = "WHERE")]
    from: Option<From>,

    /// The group to work for, with --mode group [default: workers].
    #[arg(long, value_name = "NAME")]
    group: Option<String>,

    /// Run this command through `sh` for each event, one at a time: the event
    /// is a line of CloudEvents JSON on its standard input, and SWARMBUS_TYPE,
    /// SWARMBUS_ID, SWARMBUS_SOURCE, SWARMBUS_TIME, SWARMBUS_PRIORITY,
    /// SWARMBUS_CHANNEL, SWARMBUS_POSITION (durable) and SWARMBUS_DELIVERIES
    /// (group) are in its environment.
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,

    /// In a group: after what time a task comes again whose command failed.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    retry_after: Duration,

    /// In a group: a task that was not answered for this long is given to
    /// another worker. Longer than the command takes.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    redeliver_after: Duration,

    /// One JSON object on each line: {"event": …} with the event as
    /// CloudEvents, its `position` (durable) and its `deliveries` (group), or
    /// {"gap": …} with `missed` and `reason`.
    #[arg(long)]
    json: bool,

    /// End after this many events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// [`Start`], as the user writes it.
#[derive(Clone, Copy, Debug)]
struct From(Start);

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "new" => Ok(Self(Start::New)),
            "beginning" => Ok(Self(Start::Beginning)),
            text => match text.parse::<Position>() {
                Ok(position) => Ok(Self(Start::After(position))),
                Err(error) => Err(format!("it is `new`, `beginning` or a position: {error}")),
            },
        }
    }
}

impl Args {
    fn options(&self) -> Result<SubscribeOptions> {
        let group = self.channel.mode() == Mode::Group;
        if self.group.is_some() && !group {
            bail!("a {} channel has no groups: add --mode group", self.channel.mode());
        }
        if group && self.pattern.as_ref().is_some_and(|pattern| pattern.as_str() != ">") {
            bail!(
                "a group's tasks cannot be filtered: whom would the others go to? Leave the \
                 pattern out, and use a channel for each kind of task"
            );
        }
        let mut options = SubscribeOptions::new().redeliver_after(self.redeliver_after);
        if let Some(From(start)) = self.from {
            options = options.start(start);
        }
        if let Some(name) = &self.group {
            options = options.group(name);
        }
        // Tasks that wait here are tasks that nobody else can do.
        let few = if self.exec.is_some() { Some(1) } else { self.count };
        if let Some(few) = few.filter(|_| group) {
            let few = usize::try_from(few).unwrap_or(usize::MAX);
            let most = SubscribeOptions::DEFAULT_TASKS;
            options = options.capacity(NonZeroUsize::new(few).map_or(most, |few| few.min(most)));
        }
        Ok(options)
    }
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let (channel, options) = (args.channel.channel()?, args.options()?);
    let transport = args.server.connect().await?;
    let inbox = transport.subscribe(&channel, options).await.map_err(|error| refused(&error))?;
    say(format_args!("listening to {channel}; Ctrl-C ends"));
    let telling = tokio::spawn(tell(transport.state()));
    let mut session = Session {
        pattern: args.pattern.clone(),
        left: args.count,
        to: match &args.exec {
            Some(command) => To::Exec(Exec::new(command, &channel, args.retry_after)),
            None => To::Show(Show { json: args.json, group: channel.mode() == Mode::Group }),
        },
        json: args.json,
        position: None,
        failed: 0,
    };
    let ended = session.run(inbox).await;
    telling.abort();
    // Answers to tasks.
    let flushed = transport.flush().await.map_err(|error| refused(&error));
    transport.close().await;
    session.say_position(&channel);
    ended.and(flushed)?;
    Ok(if session.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Says when the connection breaks and when it is back.
async fn tell(mut state: watch::Receiver<ConnectionState>) {
    let mut away = false;
    while state.changed().await.is_ok() {
        let error = match &*state.borrow_and_update() {
            ConnectionState::Disconnected { error, .. } => Some(Arc::clone(error)),
            ConnectionState::Connected => None,
            _ => continue,
        };
        match error {
            Some(error) if !away => say(format_args!("note: disconnected: {error}; trying again")),
            None if away => say("note: connected again"),
            _ => {}
        }
        away = !state.borrow().is_connected();
    }
}

/// Ctrl-C, or what a supervisor sends.
async fn interrupted() -> Result<()> {
    let ctrl_c = signal::ctrl_c();
    #[cfg(unix)]
    {
        let terminate = signal::unix::SignalKind::terminate();
        let mut terminate = signal::unix::signal(terminate).context("cannot wait for signals")?;
        tokio::select! {
            heard = ctrl_c => heard.context("cannot wait for Ctrl-C"),
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    ctrl_c.await.context("cannot wait for Ctrl-C")
}

/// What is done with events.
enum To {
    Show(Show),
    Exec(Exec),
}

/// One subscription, as long as it lasts.
struct Session {
    pattern: Option<Pattern>,
    /// Events that are still wanted.
    left: Option<u64>,
    to: To,
    json: bool,
    /// Of the last event that was dealt with.
    position: Option<Position>,
    /// Commands that failed and will not be run again.
    failed: u64,
}

/// Whether there is more to do.
enum More {
    Yes,
    No,
}

impl Session {
    async fn run(&mut self, mut inbox: Inbox) -> Result<()> {
        let (end, unread) = (interrupted(), show::unread());
        tokio::pin!(end, unread);
        let shows = matches!(self.to, To::Show(_));
        loop {
            let next = tokio::select! {
                biased;
                heard = &mut end => return heard,
                next = inbox.next() => next,
                () = &mut unread, if shows => return Ok(()),
            };
            let Some(incoming) = next else {
                return inbox.error().map_or(Ok(()), |error| Err(refused(&error)));
            };
            let handling = self.handle(incoming);
            tokio::pin!(handling);
            let (more, stop) = tokio::select! {
                more = &mut handling => (more?, false),
                heard = &mut end => {
                    heard?;
                    // The command got Ctrl-C too, and is waited for.
                    leave_at_second();
                    (handling.await?, true)
                }
            };
            if stop || matches!(more, More::No) {
                return Ok(());
            }
        }
    }

    async fn handle(&mut self, incoming: Incoming) -> Result<More> {
        match incoming {
            Incoming::Event(received) => {
                let wanted = |pattern: &Pattern| pattern.matches(received.event.ty().as_str());
                if self.pattern.as_ref().is_some_and(|pattern| !wanted(pattern)) {
                    self.position = received.position().or(self.position);
                    return Ok(More::Yes);
                }
                self.event(received).await
            }
            Incoming::Gap(gap) => self.gap(&gap),
            _ => Ok(More::Yes),
        }
    }

    async fn event(&mut self, received: Received) -> Result<More> {
        let position = received.position();
        let more = match &mut self.to {
            To::Show(show) => show.event(received)?,
            To::Exec(exec) => {
                self.failed += u64::from(!exec.run(received).await?);
                More::Yes
            }
        };
        if matches!(more, More::No) {
            // Nobody reads what is printed.
            return Ok(More::No);
        }
        self.position = position.or(self.position);
        if let Some(left) = &mut self.left {
            *left -= 1;
            if *left == 0 {
                return Ok(More::No);
            }
        }
        Ok(More::Yes)
    }

    fn gap(&mut self, gap: &Gap) -> Result<More> {
        let more = match &self.to {
            To::Show(_) => show::gap(gap, self.json)?,
            // Standard output is the commands'.
            To::Exec(_) => {
                say(show::gap_line(gap, self.json));
                More::Yes
            }
        };
        self.position = gap.position.or(self.position);
        Ok(more)
    }

    fn say_position(&self, channel: &Channel) {
        if let Some(position) = self.position {
            say(format_args!("to go on in {channel}: --from {position}"));
        }
    }
}

/// For a command that does not end.
fn leave_at_second() {
    say("waiting for the command; Ctrl-C again ends at once");
    tokio::spawn(async {
        if interrupted().await.is_ok() {
            std::process::exit(INTERRUPTED);
        }
    });
}
