//! What a run found: as rows, a table and JSON.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Value, json};
use swarmbus::transport::Mode;

use crate::{
    book::Counts,
    fault::{Fault, Promise},
    memory::Memory,
};

/// A fault in one mode.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) fault: Fault,
    pub(crate) mode: Mode,
    pub(crate) promise: Promise,
    pub(crate) repeat: usize,
    /// Events that transports took.
    pub(crate) published: u64,
    /// Of these, tasks that nobody can do.
    pub(crate) poisoned: u64,
    /// Tasks that were given up.
    pub(crate) dead: u64,
    /// Given up too soon or too late, or done though nobody can.
    pub(crate) mishandled: u64,
    pub(crate) counts: Counts,
    /// From the end of each fault until new events of every publisher came.
    pub(crate) recovery: Vec<Duration>,
    /// The same from its beginning.
    pub(crate) outage: Vec<Duration>,
    pub(crate) memory: Memory,
}

/// What is asked for half of all recoveries.
const RECOVERY: Duration = Duration::from_secs(1);

impl Row {
    pub(crate) fn lost(&self) -> u64 {
        (self.published - self.dead).saturating_sub(self.counts.delivered)
    }

    /// In what the promise was broken. `timed`: whether recovery had to be
    /// quick.
    pub(crate) fn broken(&self, timed: bool) -> Vec<String> {
        let Counts { duplicated, disordered, gaps, reported, unknown, silent, .. } = self.counts;
        let mut broken = Vec::new();
        let mut check = |held: bool, what: String| {
            if !held {
                broken.push(what);
            }
        };
        check(duplicated == 0, format!("{duplicated} came twice"));
        let ordered = self.mode == Mode::Group || disordered == 0;
        check(ordered, format!("{disordered} came too late"));
        // Nobody does what is given up.
        let silent = silent.saturating_sub(self.dead);
        check(silent == 0, format!("{silent} are missing without a word"));
        let lost = self.lost();
        match self.promise {
            Promise::Exact => {
                check(lost == 0, format!("{lost} are lost"));
                check(gaps == 0, format!("{gaps} gaps, though nothing is lost"));
            }
            Promise::Counted => {
                check(lost == reported, format!("{lost} are lost, {reported} reported"));
                check(unknown == 0, format!("{unknown} gaps have no size"));
            }
            Promise::Told if self.mode == Mode::Group => {
                // What is lost may have been done.
                check(lost <= reported, format!("{lost} are lost, {reported} reported"));
                check(unknown == 0, format!("{unknown} gaps have no size"));
            }
            Promise::Told => {
                check(lost == reported, format!("{lost} are lost, {reported} reported"));
                check(unknown == 0, format!("{unknown} gaps have no size"));
            }
            Promise::NewEpoch => {
                check(gaps >= self.repeat as u64, format!("only {gaps} gaps"));
            }
            Promise::Buried => {
                check(lost == 0, format!("{lost} are lost"));
                let (dead, poisoned) = (self.dead, self.poisoned);
                check(dead == poisoned, format!("{dead} dead letters of {poisoned}"));
                let wrong = self.mishandled;
                check(wrong == 0, format!("{wrong} given up at the wrong time"));
            }
        }
        if let Some(p50) = median(&self.recovery) {
            check(!timed || p50 <= RECOVERY, format!("half took {} to recover", time(p50)));
        }
        // It takes its time until all buffers are full.
        check(!timed || self.memory.is_bounded(), "memory grew all the time".to_owned());
        broken
    }

    pub(crate) fn json(&self, timed: bool) -> Value {
        let counts = &self.counts;
        let ms = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1e3);
        let broken = self.broken(timed);
        let mut row = json!({
            "fault": self.fault.name(),
            "mode": self.mode.name(),
            "times": self.repeat,
            "published": self.published,
            "delivered": counts.delivered,
            "lost": self.lost(),
            "duplicated": counts.duplicated,
            "redelivered": counts.redelivered,
            "disordered": if self.mode == Mode::Group { 0 } else { counts.disordered },
            "gaps": counts.gaps,
            "reported": counts.reported,
            "gaps_without_size": counts.unknown,
            "missing_without_a_gap": counts.silent,
            "dead_letters": self.dead,
            "recovery_p50_ms": ms(median(&self.recovery)),
            "recovery_max_ms": ms(self.recovery.iter().max().copied()),
            "outage_p50_ms": ms(median(&self.outage)),
            "outage_max_ms": ms(self.outage.iter().max().copied()),
            "promise": self.promise.name(),
            "kept": broken.is_empty(),
            "broken": broken,
        });
        if self.fault == Fault::Outage {
            let Memory { start, early, late } = self.memory;
            row["rss_bytes"] = json!({ "before": start, "first_third": early, "later": late });
        }
        row
    }
}

/// All rows for people.
pub(crate) fn table(rows: &[Row], timed: bool) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "fault",
        "mode",
        "times",
        "published",
        "delivered",
        "lost",
        "twice",
        "redelivered",
        "reported",
        "gaps",
        "recovery p50",
        "max",
        "promise",
        "kept",
    ]);
    for row in rows {
        let counts = &row.counts;
        let broken = row.broken(timed);
        table.add_row([
            row.fault.name().to_owned(),
            row.mode.name().to_owned(),
            row.repeat.to_string(),
            row.published.to_string(),
            counts.delivered.to_string(),
            row.lost().to_string(),
            counts.duplicated.to_string(),
            counts.redelivered.to_string(),
            reported(counts),
            counts.gaps.to_string(),
            median(&row.recovery).map_or_else(String::new, time),
            row.recovery.iter().max().copied().map_or_else(String::new, time),
            row.promise.name().to_owned(),
            if broken.is_empty() { "yes".to_owned() } else { broken.join("; ") },
        ]);
    }
    for column in 2..12 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Events in gaps; `+ ?` if the size of some is not known.
fn reported(counts: &Counts) -> String {
    let Counts { reported, unknown, .. } = counts;
    if *unknown == 0 { reported.to_string() } else { format!("{reported} + ?") }
}

/// How memory was while the server was away.
pub(crate) fn memory(memory: Memory) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let Memory { start, early, late } = memory;
    format!(
        "memory while the server was away: {:.0} MiB before, at most {:.0} MiB in the first \
         third, {:.0} MiB after that",
        mib(start),
        mib(early),
        mib(late)
    )
}

fn time(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// The middle one; of two, the longer.
fn median(times: &[Duration]) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(promise: Promise, counts: Counts) -> Row {
        Row {
            fault: Fault::Cut,
            mode: Mode::Durable,
            promise,
            repeat: 2,
            published: 10,
            poisoned: 0,
            dead: 0,
            mishandled: 0,
            counts,
            recovery: vec![Duration::from_millis(3); 2],
            outage: Vec::new(),
            memory: Memory::default(),
        }
    }

    #[test]
    fn each_promise_can_be_broken() {
        let all = Counts { delivered: 10, ..Counts::default() };
        let lost = Counts { delivered: 8, ..all };
        let told = Counts { gaps: 1, reported: 2, ..lost };
        let vague = Counts { gaps: 2, unknown: 2, ..lost };
        let holds = |promise, counts| row(promise, counts).broken(true).is_empty();
        assert!(holds(Promise::Exact, all));
        assert!(!holds(Promise::Exact, lost) && !holds(Promise::Exact, told));
        assert!(holds(Promise::Counted, all) && holds(Promise::Counted, told));
        assert!(!holds(Promise::Counted, lost) && !holds(Promise::Counted, vague));
        assert!(holds(Promise::Told, told) && !holds(Promise::Told, vague));
        assert!(holds(Promise::NewEpoch, vague));
        assert!(!holds(Promise::NewEpoch, told), "twice, so two gaps");
        for promise in [Promise::Exact, Promise::Counted, Promise::Told, Promise::Buried] {
            for bad in [
                Counts { duplicated: 1, ..all },
                Counts { disordered: 1, ..all },
                Counts { silent: 1, ..all },
            ] {
                assert!(!holds(promise, bad), "{promise:?} {bad:?}");
            }
        }
        let slow = Row { recovery: vec![Duration::from_secs(2)], ..row(Promise::Exact, all) };
        assert!(!slow.broken(true).is_empty() && slow.broken(false).is_empty());
        let poisoned = Row { poisoned: 1, ..row(Promise::Buried, all) };
        assert!(!poisoned.broken(true).is_empty());
    }
}
