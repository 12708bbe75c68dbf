//! One side of a conversation, for tests of the other: what the Node.js package
//! says to Rust, and Rust to it.
//!
//! ```text
//! cargo run -p swarmbus-redis --example peer -- redis://127.0.0.1:6379
//! ```
//!
//! Each line of standard input is an `Order` as JSON, each line of standard output
//! a `Word`. Orders are done one after the other; payloads are text.

use std::{collections::HashMap, env, sync::Arc};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use swarmbus::{
    Event,
    messenger::{Message, Messenger, RequestError, To, WorkOptions},
    transport::{Channel, Inbox, Incoming, Position, SubscribeOptions, Transport},
};
use swarmbus_redis::RedisTransport;
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Order {
    /// Publishes the numbers from `from` on, and flushes.
    Publish {
        channel: String,
        from: u64,
        count: u64,
    },
    /// Prints what comes, and acknowledges tasks.
    Subscribe {
        channel: String,
        start: Option<String>,
        group: Option<String>,
    },
    /// Joins as an agent that prints what it hears, answers `ask.*` and works on the
    /// queue of its swarm's name.
    Join {
        swarm: String,
        agent: String,
        durable: bool,
    },
    Send {
        to: String,
        text: String,
    },
    Request {
        to: String,
        ty: String,
        text: String,
    },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    /// An order was carried out, with what it has led to, if anything.
    Done(Option<String>),
    Failed(String),
    Event {
        channel: String,
        text: String,
        position: Option<Position>,
        deliveries: u32,
    },
    Gap {
        channel: String,
        missed: Option<u64>,
        reason: &'static str,
    },
    Heard {
        agent: Option<String>,
        scope: String,
        text: String,
    },
}

fn say(word: &Word) {
    match serde_json::to_string(word) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("{error}"),
    }
}

fn text(event: &Event) -> String {
    event.text().unwrap_or("?").to_owned()
}

#[tokio::main]
async fn main() -> Result<()> {
    let url = env::args().nth(1).context("the URL of a server is missing")?;
    let transport = Arc::new(RedisTransport::connect(&url).await?);
    let mut peer = Peer { transport, messengers: HashMap::new() };
    say(&Word::Done(None));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let done = match serde_json::from_str(&line) {
            Ok(order) => peer.carry_out(order).await,
            Err(error) => Err(error.into()),
        };
        say(&match done {
            Ok(done) => Word::Done(done),
            Err(error) => Word::Failed(error.to_string()),
        });
    }
    peer.transport.close().await;
    Ok(())
}

struct Peer {
    transport: Arc<RedisTransport>,
    messengers: HashMap<String, Messenger>,
}

impl Peer {
    async fn carry_out(&mut self, order: Order) -> Result<Option<String>> {
        match order {
            Order::Publish { channel, from, count } => {
                let channel: Channel = channel.parse()?;
                for n in from..from + count {
                    self.transport
                        .publish(&channel, Event::of("test.event", n.to_string()))
                        .await?;
                }
                self.transport.flush().await?;
                Ok(None)
            }
            Order::Subscribe { channel, start, group } => {
                let channel: Channel = channel.parse()?;
                let mut options = SubscribeOptions::new();
                options = match start.as_deref() {
                    None => options,
                    Some("beginning") => options.from_beginning(),
                    Some(position) => options.after(position.parse()?),
                };
                if let Some(group) = group {
                    options = options.group(group);
                }
                let inbox = self.transport.subscribe(&channel, options).await?;
                tokio::spawn(print(channel, inbox));
                Ok(None)
            }
            Order::Join { swarm, agent, durable } => {
                self.join(&swarm, &agent, durable).await?;
                Ok(None)
            }
            Order::Send { to, text } => {
                self.messenger()?.send(&address(&to)?, Event::of("note.sent", text)).await?;
                Ok(None)
            }
            Order::Request { to, ty, text } => {
                let request = Event::new(ty.parse()?, text);
                match self.messenger()?.request(&address(&to)?, request).await {
                    Ok(answer) => Ok(answer.text().map(str::to_owned)),
                    Err(RequestError::Refused(refusal)) => {
                        Ok(Some(format!("refused: {refusal:?}")))
                    }
                    Err(RequestError::Failed(why)) => Ok(Some(format!("failed: {why}"))),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    async fn join(&mut self, swarm: &str, agent: &str, durable: bool) -> Result<()> {
        let identity = swarmbus::messenger::Identity::new(swarm, agent)?;
        let transport = Arc::clone(&self.transport);
        let mut builder = Messenger::builder(transport, identity);
        if durable {
            builder = builder.durable();
        }
        let messenger = builder.join().await?;
        messenger
            .on(">")
            .handle(|message: &Message| {
                let agent = message.agent().map(str::to_owned);
                let scope = format!("{:?}", message.scope).to_lowercase();
                say(&Word::Heard { agent, scope, text: text(&message.event) });
            })?
            .detach();
        messenger
            .respond("ask.text", async |request: Message| {
                Ok::<_, String>(format!("rust: {}", text(&request.event)))
            })?
            .detach();
        messenger
            .respond("ask.broken", async |_: Message| {
                Err::<String, _>("broken in rust".to_owned())
            })?
            .detach();
        let worker = messenger.work(swarm, WorkOptions::new(), async |task: Message| {
            let agent = task.agent().map(str::to_owned);
            say(&Word::Heard { agent, scope: "tasks".to_owned(), text: text(&task.event) });
        });
        worker.await?.detach();
        self.messengers.insert(agent.to_owned(), messenger);
        Ok(())
    }

    fn messenger(&self) -> Result<&Messenger> {
        self.messengers.values().next().context("nobody has joined")
    }
}

fn address(to: &str) -> Result<To> {
    Ok(match to.split_once(':') {
        Some(("swarm", name)) => To::swarm(name)?,
        Some(("agent", name)) => To::agent(name)?,
        Some(("tasks", name)) => To::tasks(name)?,
        _ if to == "broadcast" => To::broadcast(),
        _ => bail!("{to} is nobody"),
    })
}

async fn print(channel: Channel, mut inbox: Inbox) {
    let name = channel.to_string();
    while let Some(incoming) = inbox.next().await {
        match incoming {
            Incoming::Event(received) => {
                let (position, deliveries) = (received.position(), received.deliveries());
                let text = text(&received.event);
                say(&Word::Event { channel: name.clone(), text, position, deliveries });
                received.ack();
            }
            Incoming::Gap(gap) => {
                let reason = gap.reason.name();
                say(&Word::Gap { channel: name.clone(), missed: gap.missed, reason });
            }
            _ => {}
        }
    }
}
