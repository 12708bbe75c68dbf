//! `swarmbus publish`: events to a channel on a Redis server.

mod input;

use std::{
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;
use indicatif::HumanCount;
use swarmbus::{
    Event, EventType, Priority, Timestamp,
    core::event::Content,
    transport::{Channel, Transport},
};
use swarmbus_redis::RedisTransport;
use tokio::signal;

use self::input::{Lines, Whole, payload};
use super::{
    print, say,
    server::{ChannelArgs, ServerArg, refused},
};

/// Publish events to a channel on a Redis server
///
/// Returns when the server has them, and says what was published.
///
///   swarmbus publish order.placed '{"id": 17}'
///   swarmbus publish image.resize cat.png --mode group --channel images
///   tail -f app.log | swarmbus publish log.line - --lines
///
/// A live event goes to the subscribers that are there; nobody may be. Durable
/// and group channels keep it.
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The event's type, such as order.placed.
    #[arg(value_name = "TYPE", value_parser = event_type)]
    event_type: EventType,

    /// What it carries; `-` reads it from standard input [default: nothing].
    #[arg(value_name = "PAYLOAD")]
    payload: Option<String>,

    /// With `-`: each line is the payload of an event of its own, and is
    /// published as it comes. Empty lines are left out.
    #[arg(long)]
    lines: bool,

    /// What the payload is.
    #[arg(long, value_enum, default_value_t = As::Auto)]
    content: As,

    #[command(flatten)]
    server: ServerArg,

    #[command(flatten)]
    channel: ChannelArgs,

    /// Who publishes.
    #[arg(long, value_name = "NAME", default_value = "swarmbus-cli")]
    source: String,

    /// 0, lowest, to 9, highest.
    #[arg(long, value_name = "N", default_value = "5", value_parser = priority)]
    priority: Priority,

    /// Publish only if nothing was published with this key before, to a durable
    /// or group channel. One who got no answer may try again with the same key.
    #[arg(long, value_name = "KEY", conflicts_with = "lines")]
    key: Option<String>,
}

/// [`Content`], as the user writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum As {
    /// JSON if it can be read as such, else text if it is UTF-8, else binary.
    Auto,
    Json,
    Text,
    Binary,
}

fn event_type(text: &str) -> Result<EventType, String> {
    EventType::new(text).map_err(|error| error.to_string())
}

fn priority(text: &str) -> Result<Priority, String> {
    let level: u8 = text.parse().map_err(|_| "it is a number from 0 to 9".to_owned())?;
    Priority::new(level).ok_or_else(|| "it is a number from 0 to 9".to_owned())
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let channel = args.channel.channel()?;
    if args.lines && args.payload.as_deref() != Some("-") {
        bail!("--lines reads standard input: write `-` as the payload");
    }
    if args.lines {
        let transport = args.server.connect().await?;
        let done = lines(&args, &transport, &channel).await;
        transport.close().await;
        return done;
    }
    let payload = match args.payload.as_deref() {
        Some("-") => Whole::read().await?,
        text => text.unwrap_or_default().as_bytes().to_vec(),
    };
    let event = event(&args, payload)?;
    let transport = args.server.connect().await?;
    let done = one(&args, &transport, &channel, event).await;
    transport.close().await;
    done
}

/// Stamped, as a bus would: so that its id can be told.
fn event(args: &Args, bytes: Vec<u8>) -> Result<Event> {
    let payload = payload(args.content, bytes)?;
    let mut event = Event::new(args.event_type.clone(), payload)
        .with_source(args.source.as_str())
        .with_priority(args.priority);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    event.stamp(Timestamp::from_unix(now), fastrand::u64(1..));
    Ok(event)
}

async fn one(
    args: &Args,
    transport: &RedisTransport,
    channel: &Channel,
    event: Event,
) -> Result<ExitCode> {
    let id = event.id().map_or_else(String::new, |id| format!(" as {id}"));
    let (ty, what) = (event.ty().clone(), describe(&event));
    if let Some(key) = &args.key {
        let new = transport.publish_once(channel, key, event).await;
        if !new.map_err(|error| refused(&error.cause))? {
            print(format_args!("not published: {channel} had an event with this key already"))?;
            return Ok(ExitCode::SUCCESS);
        }
    } else {
        transport.publish(channel, event).await.map_err(|error| refused(&error.cause))?;
        transport.flush().await.map_err(|error| refused(&error))?;
    }
    print(format_args!("published {ty} to {channel}{id}: {what}"))?;
    Ok(ExitCode::SUCCESS)
}

fn describe(event: &Event) -> String {
    let bytes = HumanCount(event.payload().len() as u64);
    match event.content() {
        _ if event.payload().is_empty() => "no payload".to_owned(),
        Content::Json => format!("JSON, {bytes} bytes"),
        Content::Text => format!("text, {bytes} bytes"),
        Content::MessagePack => format!("MessagePack, {bytes} bytes"),
        Content::Binary => format!("binary, {bytes} bytes"),
    }
}

/// Until the input ends, or Ctrl-C: what was read is published.
async fn lines(args: &Args, transport: &RedisTransport, channel: &Channel) -> Result<ExitCode> {
    let mut input = Lines::start()?;
    let (mut events, mut published) = (Vec::new(), 0_u64);
    let interrupt = signal::ctrl_c();
    tokio::pin!(interrupt);
    let ended = loop {
        let read = tokio::select! {
            read = input.next() => read,
            _ = &mut interrupt => break Ok(()),
        };
        match read {
            None => break Ok(()),
            Some(Err(error)) => break Err(error),
            Some(Ok(lines)) => {
                for (number, line) in lines {
                    match event(args, line) {
                        Ok(event) => events.push(event),
                        Err(error) => say(format_args!("note: line {number} left out: {error}")),
                    }
                }
            }
        }
        let count = events.len() as u64;
        let sent = transport.publish_batch(channel, &mut events).await;
        published += count - events.len() as u64;
        if let Err(error) = sent {
            break Err(refused(&error));
        }
    };
    let flushed = transport.flush().await.map_err(|error| refused(&error));
    let (ty, events) = (&args.event_type, HumanCount(published));
    if let Err(error) = ended.and(flushed) {
        return Err(anyhow!("{error}; {events} events of {ty} were handed over before"));
    }
    print(format_args!("published {events} events of {ty} to {channel}"))?;
    Ok(ExitCode::SUCCESS)
}
