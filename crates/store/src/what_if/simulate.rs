//! Playing a recording through a breaker and a backoff, on recorded time.

use std::{collections::BTreeMap, time::Duration};

use swarmbus_core::{
    Moment,
    breaker::{Breaker, Permit, StateKind, Transition},
};

use super::{
    recording::{Arrival, Made, Recording},
    settings::{Scope, Settings},
    tally::{ServiceWhatIf, Tally, WhatIf},
};

impl Recording {
    /// Plays the recording through two settings, the first of which should be
    /// those that were in force. See the [module](super) for what is assumed.
    ///
    /// ```
    /// use std::time::Duration;
    /// use swarmbus::{EventType, Priority, Timestamp};
    /// use swarmbus_store::what_if::{CallEnd, CallRecord, Recording, Settings};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut recording = Recording::new();
    /// for second in 1..=20_u64 {
    ///     let id = second.to_string();
    ///     let mut record = CallRecord {
    ///         at: Timestamp::from_micros(second * 1_000_000).ok_or("no time")?,
    ///         took: Duration::from_millis(3),
    ///         event: id.as_str().into(),
    ///         event_type: EventType::new("order.placed")?,
    ///         priority: Priority::DEFAULT,
    ///         handler: "payment".into(),
    ///         end: CallEnd::Failed,
    ///     };
    ///     recording.push(record.clone());
    ///     record.end = CallEnd::DeadLettered;
    ///     recording.push(record);
    /// }
    /// let off = Settings { breaker: None, ..Settings::default() };
    /// let what_if = recording.what_if(&off, &Settings::default());
    /// assert_eq!(what_if.baseline.dead_lettered, 20);
    /// // The breaker opens after five failures, for 30 s.
    /// assert_eq!((what_if.changed.dead_lettered, what_if.changed.rejected_by_breaker), (5, 15));
    /// # Ok(())
    /// # }
    /// ```
    pub fn what_if(&mut self, baseline: &Settings, changed: &Settings) -> WhatIf {
        self.sort();
        let (baseline, changed) = (simulate(self, baseline), simulate(self, changed));
        let mut what_if = WhatIf::default();
        for ((service, baseline), changed) in self.services.iter().zip(baseline).zip(changed) {
            what_if.recorded += service.recorded;
            what_if.baseline += baseline;
            what_if.changed += changed;
            what_if.services.push(ServiceWhatIf {
                handler: self.handlers[service.handler].name.to_string(),
                event_type: service.event_type.as_ref().map(ToString::to_string),
                recorded: service.recorded,
                baseline,
                changed,
            });
        }
        what_if
    }
}

/// What each service comes to.
fn simulate(recording: &Recording, settings: &Settings) -> Vec<Tally> {
    let guards: Vec<Guard> = match settings.scope {
        Scope::PerType => recording.services.iter().map(|_| Guard::new(settings)).collect(),
        Scope::PerHandler => recording.handlers.iter().map(|_| Guard::new(settings)).collect(),
    };
    let mut simulation = Simulation {
        recording,
        settings,
        guards: &guards,
        openings: guards.iter().map(|_| Opening::default()).collect(),
        tallies: recording.services.iter().map(|_| Tally::default()).collect(),
        agenda: BTreeMap::new(),
        steps: 0,
    };
    for (index, arrival) in recording.arrivals.iter().enumerate() {
        simulation.advance(arrival.at);
        simulation.arrive(index, arrival);
    }
    simulation.advance(Moment::from_nanos(u64::MAX));
    simulation.finish()
}

struct Guard(Option<Breaker>);

impl Guard {
    fn new(settings: &Settings) -> Self {
        Self(settings.breaker.clone().map(Breaker::new))
    }
}

/// How often and how long a guard was open.
#[derive(Clone, Copy, Default)]
struct Opening {
    opens: u64,
    since: Option<Moment>,
    total: Duration,
    /// The first service it belongs to, where its times are told.
    service: Option<usize>,
}

struct Simulation<'a> {
    recording: &'a Recording,
    settings: &'a Settings,
    guards: &'a [Guard],
    openings: Vec<Opening>,
    tallies: Vec<Tally>,
    /// What is to come, by time. At one moment calls end before others begin.
    agenda: BTreeMap<(Moment, bool, u64), Step<'a>>,
    steps: u64,
}

enum Step<'a> {
    Call { arrival: usize, tries: u32 },
    End { arrival: usize, tries: u32, succeeded: bool, permit: Option<Permit<'a>> },
}

impl<'a> Simulation<'a> {
    fn arrive(&mut self, index: usize, arrival: &Arrival) {
        let tally = &mut self.tallies[arrival.service];
        tally.matches += 1;
        if arrival.elsewhere {
            tally.elsewhere += 1;
        } else {
            self.call(arrival.at, index, 0);
        }
    }

    /// Does what is due before or at `now`.
    fn advance(&mut self, now: Moment) {
        while let Some(entry) = self.agenda.first_entry() {
            let (at, begins, _) = *entry.key();
            // What arrives now comes after what ends now, and before retries.
            if at > now || (at == now && begins) {
                return;
            }
            match entry.remove() {
                Step::Call { arrival, tries } => self.call(at, arrival, tries),
                Step::End { arrival, tries, succeeded, permit } => {
                    self.end(at, arrival, tries, succeeded, permit);
                }
            }
        }
    }

    /// A call is wanted, after `tries` others.
    fn call(&mut self, now: Moment, index: usize, tries: u32) {
        let arrival = &self.recording.arrivals[index];
        let Some(made) = self.result(now, arrival, tries) else {
            self.tallies[arrival.service].unknown += 1;
            return;
        };
        let guards = self.guards;
        let guard = self.guard_of(arrival);
        let permit = match &guards[guard].0 {
            None => None,
            Some(breaker) if arrival.priority.bypasses_breaker() => Some(breaker.bypass()),
            Some(breaker) => match breaker.acquire(now) {
                Ok(permit) => {
                    self.moved(guard, arrival.service, permit.transition(), now);
                    Some(permit)
                }
                Err(rejected) => {
                    self.moved(guard, arrival.service, rejected.transition, now);
                    if tries == 0 {
                        self.tallies[arrival.service].rejected_by_breaker += 1;
                    } else {
                        // A retry that is refused leaves what it was to mend.
                        self.give_up(arrival.service);
                    }
                    return;
                }
            },
        };
        let tally = &mut self.tallies[arrival.service];
        tally.calls += 1;
        tally.retries += u64::from(tries > 0);
        let end = Step::End { arrival: index, tries, succeeded: made.succeeded, permit };
        self.plan(now + made.took, false, end);
    }

    fn end(
        &mut self,
        now: Moment,
        index: usize,
        tries: u32,
        succeeded: bool,
        permit: Option<Permit<'a>>,
    ) {
        let arrival = &self.recording.arrivals[index];
        let transition = permit
            .and_then(|permit| if succeeded { permit.success(now) } else { permit.failure(now) });
        self.moved(self.guard_of(arrival), arrival.service, transition, now);
        let tally = &mut self.tallies[arrival.service];
        if succeeded {
            tally.delivered += 1;
            return;
        }
        if let Some(backoff) = self.settings.retry.filter(|backoff| tries < backoff.tries()) {
            // The middle of what jitter may make of it.
            let delay = backoff.delay(tries, u64::MAX / 2);
            self.plan(now + delay, true, Step::Call { arrival: index, tries: tries + 1 });
            return;
        }
        self.give_up(arrival.service);
    }

    fn give_up(&mut self, service: usize) {
        let handler = self.recording.services[service].handler;
        let tally = &mut self.tallies[service];
        if self.recording.handlers[handler].gives_up {
            tally.failed += 1;
        } else {
            tally.dead_lettered += 1;
        }
    }

    fn plan(&mut self, at: Moment, begins: bool, step: Step<'a>) {
        self.steps += 1;
        self.agenda.insert((at, begins, self.steps), step);
    }

    fn guard_of(&self, arrival: &Arrival) -> usize {
        match self.settings.scope {
            Scope::PerType => arrival.service,
            Scope::PerHandler => self.recording.services[arrival.service].handler,
        }
    }

    /// How a call goes: as in the recording, or else as the nearest one.
    fn result(&self, now: Moment, arrival: &Arrival, tries: u32) -> Option<Made> {
        let made = usize::try_from(tries).ok().and_then(|tries| arrival.calls.get(tries));
        made.copied().or_else(|| {
            let handler = self.recording.services[arrival.service].handler;
            nearest(&self.recording.handlers[handler].calls, now)
        })
    }

    fn moved(&mut self, guard: usize, service: usize, moved: Option<Transition>, now: Moment) {
        let Some(Transition { from, to, .. }) = moved else { return };
        let opening = &mut self.openings[guard];
        opening.service.get_or_insert(service);
        if to == StateKind::Open {
            opening.opens += 1;
            opening.since = Some(now);
        } else if from == StateKind::Open
            && let Some(since) = opening.since.take()
        {
            opening.total += now.saturating_since(since);
        }
    }

    fn finish(mut self) -> Vec<Tally> {
        for tally in &mut self.tallies {
            (tally.opens, tally.open_for) = (Some(0), Some(Duration::ZERO));
        }
        for opening in &self.openings {
            let Some(service) = opening.service else { continue };
            let still =
                opening.since.map_or(Duration::ZERO, |at| self.recording.last.saturating_since(at));
            let tally = &mut self.tallies[service];
            (tally.opens, tally.open_for) = (Some(opening.opens), Some(opening.total + still));
        }
        self.tallies
    }
}

/// The call that began nearest to `at`, the earlier of two.
fn nearest(calls: &[Made], at: Moment) -> Option<Made> {
    let next = calls.partition_point(|call| call.at <= at);
    let before = next.checked_sub(1).and_then(|before| calls.get(before));
    match (before, calls.get(next)) {
        (Some(before), Some(after)) => {
            let later = after.at.saturating_since(at) < at.saturating_since(before.at);
            Some(if later { *after } else { *before })
        }
        (before, after) => before.or(after).copied(),
    }
}
