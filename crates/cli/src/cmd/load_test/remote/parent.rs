//! The first process: starts the others, tells them what to do, and adds up
//! what they saw.

use std::{
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use swarmbus::transport::Transport;
use swarmbus_redis::local::{Server, StartError};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

use super::{
    channels, node,
    protocol::{Answer, Order, Part},
    report::{Measured, Report},
};
use crate::cmd::{
    load_test::{args::Args, progress::leave_at_second},
    print, say,
    server::{URL_VARIABLE, refused},
};

/// How long a process may take to answer. It gives up itself before.
const PATIENCE: Duration = Duration::from_secs(90);

pub(super) async fn run(args: &Args) -> Result<ExitCode> {
    let named = args.remote.server.given();
    // Dropped, it ends.
    let private = if named.is_some() { None } else { Some(private()?) };
    let url = named.map(|url| url.0).or_else(|| private.as_ref().map(Server::url));
    let address = match &private {
        Some(_) => "a private server".to_owned(),
        None => args.remote.server.settings()?.address(),
    };
    let run = format!("{:08x}", fastrand::u32(..));
    let numbers = 0..usize::from(args.remote.processes);
    let mut processes = numbers
        .map(|number| Process::start(number, &run, url.as_deref()))
        .collect::<Result<Vec<_>>>()?;
    for worker in 0..args.remote.node_agents.into() {
        let number = processes.len();
        let command = node::command(args, &run, worker)?;
        processes.push(Process::spawn(number, command, url.as_deref())?);
    }
    for process in &mut processes {
        let Answer::Ready = process.answer().await? else { return Err(process.confused()) };
    }
    tell(&mut processes, &Order::Go).await?;
    let started = Instant::now();
    let interrupted = wait(args.seconds).await;
    let elapsed = started.elapsed();
    let (published_at_stop, delivered_at_stop) = stop(&mut processes).await?;
    let published = settle(&mut processes).await?;
    let mut parts = Vec::new();
    for (process, expected) in processes.iter_mut().zip(&published) {
        process.tell(&Order::Expect(*expected)).await?;
    }
    for process in &mut processes {
        let Answer::Report(part) = process.answer().await? else { return Err(process.confused()) };
        parts.push(*part);
    }
    for process in processes {
        process.end().await;
    }
    if private.is_none() {
        delete(args, &run).await?;
    }
    let report = Report::new(&Measured {
        args,
        server: address,
        elapsed,
        interrupted,
        published: published.iter().sum(),
        published_at_stop,
        delivered_at_stop,
        parts: &parts,
    })?;
    print(report.text(args.json)?)?;
    Ok(if report.ledger_balanced { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn private() -> Result<Server> {
    Server::start().map_err(|error| match error {
        StartError::NoProgram => {
            anyhow!("{error}; or name a server with --redis or {URL_VARIABLE}")
        }
        error => error.into(),
    })
}

/// Whether Ctrl-C came before the time was up.
async fn wait(limit: Duration) -> bool {
    let interrupted = tokio::select! {
        () = sleep(limit) => false,
        heard = tokio::signal::ctrl_c() => heard.is_ok(),
    };
    leave_at_second();
    if interrupted {
        say("stopping: what is in flight is delivered first; Ctrl-C again ends at once");
    }
    interrupted
}

/// No more tasks begin. Returns what was published and delivered until then.
async fn stop(processes: &mut [Process]) -> Result<(u64, u64)> {
    tell(processes, &Order::Stop).await?;
    let mut sum = (0, 0);
    for process in processes {
        let Answer::Stopped { published, delivered } = process.answer().await? else {
            return Err(process.confused());
        };
        sum = (sum.0 + published, sum.1 + delivered);
    }
    Ok(sum)
}

/// All is sent. Returns how many events were published to each process.
async fn settle(processes: &mut [Process]) -> Result<Vec<u64>> {
    tell(processes, &Order::Quiet).await?;
    let mut sums = vec![0; processes.len()];
    for process in processes {
        let Answer::Published(counts) = process.answer().await? else {
            return Err(process.confused());
        };
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    Ok(sums)
}

/// Leaves nothing on a server that is not ours. Whoever reads a channel would
/// make it anew.
async fn delete(args: &Args, run: &str) -> Result<()> {
    let transport = args.remote.server.connect().await?;
    for channel in channels(args, run)? {
        transport.delete(&channel).await.map_err(|error| refused(&error))?;
    }
    transport.close().await;
    Ok(())
}

async fn tell(processes: &mut [Process], order: &Order) -> Result<()> {
    for process in processes {
        process.tell(order).await?;
    }
    Ok(())
}

/// Another process of this program; killed when dropped.
struct Process {
    number: usize,
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(number: usize, run: &str, url: Option<&str>) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.args(std::env::args_os().skip(1)).args(["--child", &format!("{number}:{run}")]);
        Self::spawn(number, command, url)
    }

    fn spawn(number: usize, mut command: Command, url: Option<&str>) -> Result<Self> {
        if let Some(url) = url {
            // In the environment, where other users do not see it.
            command.env(URL_VARIABLE, url);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        // Ctrl-C is for this process, which tells the others.
        #[cfg(unix)]
        command.process_group(0);
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a process has no pipes");
        };
        Ok(Self { number, child, orders, answers: BufReader::new(answers).lines() })
    }

    async fn tell(&mut self, order: &Order) -> Result<()> {
        let line = format!("{}\n", serde_json::to_string(order)?);
        let told = self.orders.write_all(line.as_bytes()).await;
        told.map_err(|_| self.gone())
    }

    async fn answer(&mut self) -> Result<Answer> {
        let line = timeout(PATIENCE, self.answers.next_line()).await;
        let Ok(line) = line else { bail!("process {} does not answer", self.number) };
        let Ok(Some(line)) = line else { return Err(self.gone()) };
        serde_json::from_str(&line).map_err(|_| self.confused())
    }

    /// Waits for its end, which comes when it has no more orders.
    async fn end(self) {
        let Self { mut child, orders, .. } = self;
        drop(orders);
        let _ = timeout(PATIENCE, child.wait()).await;
    }

    /// It has said why on standard error, which is ours.
    fn gone(&self) -> anyhow::Error {
        anyhow!("process {} has ended", self.number)
    }

    fn confused(&self) -> anyhow::Error {
        anyhow!("process {} says what was not asked", self.number)
    }
}

/// All parts together, but for latencies.
pub(super) fn sum(parts: &[Part]) -> Part {
    let mut sum = Part::default();
    for part in parts {
        sum.delivered += part.delivered;
        sum.handled += part.handled;
        sum.duplicated += part.duplicated;
        sum.redelivered += part.redelivered;
        sum.gaps += part.gaps;
        sum.reported += part.reported;
        sum.unknown += part.unknown;
        sum.unsent += part.unsent;
        sum.given_up += part.given_up;
        sum.corrupted += part.corrupted;
        sum.stuck += part.stuck;
        sum.tasks += part.tasks;
        sum.rss_peak += part.rss_peak;
        sum.cpu_us += part.cpu_us;
    }
    sum
}
