//! Waiting for the end, with a progress bar if somebody looks.

use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::{signal, time};

use super::usage::Usage;
use crate::cmd::say;

/// How often to look.
const STEP: Duration = Duration::from_millis(100);

/// Waits for this long, or until Ctrl-C. Returns whether that came; another
/// one ends the program at once.
/// `delivered` says how many events were, so far.
pub(super) async fn wait(limit: Duration, delivered: impl Fn() -> u64, usage: &mut Usage) -> bool {
    // Draws on standard error, and only if that is a terminal.
    let bar = ProgressBar::new(limit.as_millis() as u64).with_style(style());
    let started = time::Instant::now();
    let mut steps = time::interval(STEP);
    // Both live through all rounds of the loop: a new listener would miss a
    // signal that came between two.
    let (end, ctrl_c) = (time::sleep(limit), signal::ctrl_c());
    tokio::pin!(end, ctrl_c);
    let mut listening = true;
    let interrupted = loop {
        tokio::select! {
            () = &mut end => break false,
            heard = &mut ctrl_c, if listening => match heard {
                Ok(()) => break true,
                // Then Ctrl-C ends the program, which will do.
                Err(_) => listening = false,
            },
            _ = steps.tick() => {
                usage.sample();
                let elapsed = started.elapsed();
                let rate = delivered() as f64 / elapsed.as_secs_f64().max(0.001);
                bar.set_position(elapsed.as_millis() as u64);
                bar.set_message(format!("{} delivered/s", HumanCount(rate as u64)));
            }
        }
    };
    bar.finish_and_clear();
    leave_at_second();
    if interrupted {
        say("stopping: what is in flight is delivered first; Ctrl-C again ends at once");
    }
    interrupted
}

/// From now on, Ctrl-C ends the program.
pub(super) fn leave_at_second() {
    tokio::spawn(async {
        if signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {msg}");
    style.unwrap_or_else(|_| ProgressStyle::default_bar())
}
