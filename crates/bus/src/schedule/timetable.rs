//! Which schedule is next. Pure: both clocks are arguments.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use ahash::RandomState;
use swarmbus_core::{Event, Timestamp};

use super::{
    plan::{Missed, Plan},
    store::{Schedule, ScheduleChange, ScheduleId},
};
use crate::clock::WALL_RECHECK;

/// What two clocks show at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Now {
    /// The wall clock. It may jump.
    pub(super) wall: Timestamp,
    /// The wall clock when the bus was built, and the time that has passed
    /// since. It never jumps.
    pub(super) steady: Timestamp,
    /// How many microseconds the first is ahead of the second, about: see
    /// [`Now::read`].
    pub(super) ahead: i64,
}

/// By so many microseconds the wall clock may drift before it counts as set.
const DRIFT: u64 = 1_000_000;

impl Now {
    /// `ahead` is that of the reading before. It stays as it was while the
    /// wall clock only drifts, so that a time of the steady clock has one name
    /// on the wall clock: what a store has is what a firing says.
    pub(super) fn read(wall: Timestamp, steady: Timestamp, ahead: i64) -> Self {
        let is = wall.as_micros() as i64 - steady.as_micros() as i64;
        Self { wall, steady, ahead: if is.abs_diff(ahead) > DRIFT { is } else { ahead } }
    }

    fn on(self, clock: Clock) -> Timestamp {
        match clock {
            Clock::Wall => self.wall,
            Clock::Steady => self.steady,
        }
    }

    /// When the wall clock will show, if it does not jump, what is `due` on
    /// the other.
    pub(super) fn to_wall(self, clock: Clock, due: Timestamp) -> Timestamp {
        match clock {
            Clock::Wall => due,
            Clock::Steady => shift(due, self.ahead),
        }
    }

    fn wall_to(self, clock: Clock, due: Timestamp) -> Timestamp {
        match clock {
            Clock::Wall => due,
            Clock::Steady => shift(due, -self.ahead),
        }
    }
}

/// Later by so many microseconds, or earlier, within what a timestamp holds.
fn shift(at: Timestamp, by: i64) -> Timestamp {
    let micros = at.as_micros().saturating_add_signed(by);
    Timestamp::from_micros(micros.clamp(1, Timestamp::MAX.as_micros())).unwrap_or(at)
}

fn micros_between(earlier: Timestamp, later: Timestamp) -> u64 {
    later.as_micros().saturating_sub(earlier.as_micros())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    Wall,
    Steady,
}

impl Clock {
    fn of(plan: &Plan) -> Self {
        if plan.follows_wall() { Self::Wall } else { Self::Steady }
    }
}

/// Timers are not made for years.
const LONGEST_SLEEP: Duration = Duration::from_secs(60 * 60);

/// A wall clock that goes back further than this was wrong before. After a
/// smaller step no time comes twice.
const WAS_WRONG: Duration = Duration::from_secs(3 * 60 * 60);

/// All schedules of a bus, with those that are due first.
#[derive(Default)]
pub(super) struct Timetable {
    entries: HashMap<ScheduleId, Entry, RandomState>,
    wall: Queue,
    steady: Queue,
    /// What the store does not know yet.
    changed: HashSet<ScheduleId, RandomState>,
    /// Firings whose schedule is gone, until somebody takes them back.
    unwanted: Vec<FiringKey>,
    last_serial: u64,
    latest_wall: Option<Timestamp>,
}

/// By time, then by age.
type Queue = BTreeMap<(Timestamp, u64), ScheduleId>;

struct Entry {
    plan: Plan,
    missed: Missed,
    event: Event,
    /// Tells it from others that had its id.
    serial: u64,
    /// [`Missed::FireAll`] has thrown away what was too much up to here.
    limited_until: Option<Timestamp>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Waiting {
        due: Timestamp,
    },
    /// Being published. Nothing else of this schedule is until that is done.
    Firing {
        due: Timestamp,
        next: Option<Timestamp>,
    },
}

impl State {
    fn due(self) -> Timestamp {
        match self {
            Self::Waiting { due } | Self::Firing { due, .. } => due,
        }
    }
}

/// An event to publish because its time has come.
#[derive(Clone, Debug)]
pub(super) struct Firing {
    pub(super) key: FiringKey,
    pub(super) event: Event,
}

/// Which firing: of a schedule that may be gone when it is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FiringKey {
    pub(super) id: ScheduleId,
    serial: u64,
}

/// A schedule that is to be made, with its first time on the clock that it
/// follows.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) id: ScheduleId,
    pub(super) plan: Plan,
    pub(super) missed: Missed,
    pub(super) event: Event,
    pub(super) due: Timestamp,
}

impl Planned {
    /// One that a store had. How long it was to wait yet counts from now, and
    /// is never longer than the plan's own time: the wall clock may have been
    /// set back meanwhile.
    pub(super) fn restored(schedule: Schedule, now: Now) -> Self {
        let Schedule { id, plan, missed, event, next } = schedule;
        let clock = Clock::of(&plan);
        let mut due = now.wall_to(clock, next);
        if let Some(longest) = plan.longest_wait() {
            due = due.min(now.on(clock).saturating_add(longest));
        }
        if let Plan::Cron(cron) = &plan {
            let latest_fired = Timestamp::from_micros(next.as_micros() - 1);
            let latest_fired = latest_fired.and_then(|at| cron.last_until(at));
            if latest_fired.is_some_and(|at| was_wrong(at, now.wall)) {
                due = cron.next_after(now.wall).unwrap_or(due);
            }
        }
        Self { id, plan, missed, event, due }
    }
}

/// Whether a clock that shows `now` and has shown `before` was wrong then.
fn was_wrong(before: Timestamp, now: Timestamp) -> bool {
    before.saturating_since(now) > WAS_WRONG
}

impl Timetable {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains(&self, id: &ScheduleId) -> bool {
        self.entries.contains_key(id)
    }

    /// What the store is told of a schedule before it is put in: one of the
    /// same id and plan goes on where it is.
    pub(super) fn preview(&self, new: &Planned, now: Now) -> Schedule {
        let due = self.same(new).map_or(new.due, |entry| entry.state.due());
        Schedule {
            id: new.id.clone(),
            plan: new.plan.clone(),
            missed: new.missed,
            event: new.event.clone(),
            next: now.to_wall(Clock::of(&new.plan), due),
        }
    }

    fn same(&self, new: &Planned) -> Option<&Entry> {
        self.entries.get(&new.id).filter(|entry| entry.plan == new.plan)
    }

    /// Puts a schedule in, in the place of one of the same id.
    pub(super) fn insert(&mut self, new: Planned) {
        if self.same(&new).is_some() {
            if let Some(entry) = self.entries.get_mut(&new.id) {
                (entry.event, entry.missed) = (new.event, new.missed);
            }
            return;
        }
        self.take_out(&new.id);
        self.last_serial += 1;
        let entry = Entry {
            plan: new.plan,
            missed: new.missed,
            event: new.event,
            serial: self.last_serial,
            limited_until: None,
            state: State::Waiting { due: new.due },
        };
        let key = (new.due, entry.serial);
        self.queue(Clock::of(&entry.plan)).insert(key, new.id.clone());
        self.entries.insert(new.id, entry);
    }

    /// Takes a schedule out, for good.
    pub(super) fn remove(&mut self, id: &ScheduleId) -> bool {
        let removed = self.take_out(id);
        if removed {
            self.changed.insert(id.clone());
        }
        removed
    }

    fn take_out(&mut self, id: &ScheduleId) -> bool {
        let Some(entry) = self.entries.remove(id) else { return false };
        let serial = entry.serial;
        match entry.state {
            State::Waiting { due } => {
                self.queue(Clock::of(&entry.plan)).remove(&(due, serial));
            }
            State::Firing { .. } => self.unwanted.push(FiringKey { id: id.clone(), serial }),
        }
        true
    }

    pub(super) fn get(&self, id: &ScheduleId, now: Now) -> Option<Schedule> {
        self.entries.get_key_value(id).map(|(id, entry)| entry.describe(id, now))
    }

    /// All of them, in no order.
    pub(super) fn list(&self, now: Now) -> Vec<Schedule> {
        self.entries.iter().map(|(id, entry)| entry.describe(id, now)).collect()
    }

    /// How long until something is to be done; `None` for never.
    pub(super) fn wait(&self, now: Now) -> Option<Duration> {
        let until = |queue: &Queue, clock| {
            let ((due, _), _) = queue.first_key_value()?;
            Some(due.saturating_since(now.on(clock)))
        };
        let wall = until(&self.wall, Clock::Wall).map(|wait| wait.min(WALL_RECHECK));
        let steady = until(&self.steady, Clock::Steady).map(|wait| wait.min(LONGEST_SLEEP));
        wall.into_iter().chain(steady).min()
    }

    /// The firing that is due longest, if one is due.
    pub(super) fn take_due(&mut self, now: Now) -> Option<Firing> {
        self.look_at_wall(now.wall);
        while let Some((clock, due, serial)) = self.longest_due(now) {
            let id = self.queue(clock).remove(&(due, serial))?;
            let now_here = now.on(clock);
            let entry = self.entries.get_mut(&id)?;
            let limited = entry.limited_until.is_some_and(|until| due <= until);
            let step = entry.plan.step(due, now_here, entry.missed, limited);
            if !limited {
                entry.limited_until = Some(now_here);
            }
            if let Some(at) = step.fire {
                entry.state = State::Firing { due: at, next: step.next };
                let event = marked(&entry.event, &id, now.to_wall(clock, at));
                return Some(Firing { key: FiringKey { id, serial }, event });
            }
            self.advance(&id, step.next);
        }
        None
    }

    fn longest_due(&self, now: Now) -> Option<(Clock, Timestamp, u64)> {
        let first = |queue: &Queue, clock| {
            let (&(due, serial), _) = queue.first_key_value()?;
            (due <= now.on(clock)).then_some((clock, due, serial))
        };
        let by_lateness = |&(clock, due, serial): &(Clock, Timestamp, u64)| {
            (std::cmp::Reverse(micros_between(due, now.on(clock))), serial)
        };
        first(&self.wall, Clock::Wall)
            .into_iter()
            .chain(first(&self.steady, Clock::Steady))
            .min_by_key(by_lateness)
    }

    /// A firing was published, or will never be.
    pub(super) fn done(&mut self, key: &FiringKey) {
        let Some(entry) = self.entries.get(&key.id).filter(|e| e.serial == key.serial) else {
            return;
        };
        if let State::Firing { next, .. } = entry.state {
            self.advance(&key.id, next);
        }
    }

    /// Firings whose schedule was taken out or replaced since the last call.
    pub(super) fn take_unwanted(&mut self) -> Vec<FiringKey> {
        std::mem::take(&mut self.unwanted)
    }

    /// Lets a schedule wait for its next time, or ends it.
    fn advance(&mut self, id: &ScheduleId, next: Option<Timestamp>) {
        self.changed.insert(id.clone());
        match (self.entries.get_mut(id), next) {
            (Some(entry), Some(due)) => {
                entry.state = State::Waiting { due };
                let (clock, serial) = (Clock::of(&entry.plan), entry.serial);
                self.queue(clock).insert((due, serial), id.clone());
            }
            (_, None) => drop(self.entries.remove(id)),
            (None, Some(_)) => {}
        }
    }

    /// Notices a wall clock that was far ahead and is not any more: what it
    /// made cron schedules wait for is forgotten.
    fn look_at_wall(&mut self, wall: Timestamp) {
        let latest = self.latest_wall.unwrap_or(wall);
        self.latest_wall = Some(latest.max(wall));
        if !was_wrong(latest, wall) {
            return;
        }
        self.latest_wall = Some(wall);
        self.wall.clear();
        for (id, entry) in &mut self.entries {
            let again = match &entry.plan {
                Plan::Cron(cron) => cron.next_after(wall),
                Plan::At(at) => Some(*at),
                Plan::After(_) | Plan::Every(_) => continue,
            };
            match &mut entry.state {
                State::Firing { next, .. } => *next = next.and(again),
                State::Waiting { due } => {
                    *due = again.unwrap_or(*due);
                    self.wall.insert((*due, entry.serial), id.clone());
                }
            }
            entry.limited_until = None;
            self.changed.insert(id.clone());
        }
    }

    /// What is to be told to the store. Who takes it and cannot tell gives it
    /// back with [`put_back`](Self::put_back).
    pub(super) fn take_changes(&mut self, now: Now) -> Vec<ScheduleChange> {
        let change = |id: ScheduleId| match self.entries.get(&id) {
            Some(entry) => ScheduleChange::Save(entry.describe(&id, now)),
            None => ScheduleChange::Remove(id),
        };
        std::mem::take(&mut self.changed).into_iter().map(change).collect()
    }

    pub(super) fn put_back(&mut self, ids: impl IntoIterator<Item = ScheduleId>) {
        self.changed.extend(ids);
    }

    /// How many schedules the store does not know the last state of.
    pub(super) fn unsaved(&self) -> usize {
        self.changed.len()
    }

    fn queue(&mut self, clock: Clock) -> &mut Queue {
        match clock {
            Clock::Wall => &mut self.wall,
            Clock::Steady => &mut self.steady,
        }
    }
}

impl Entry {
    fn describe(&self, id: &ScheduleId, now: Now) -> Schedule {
        Schedule {
            id: id.clone(),
            plan: self.plan.clone(),
            missed: self.missed,
            event: self.event.clone(),
            next: now.to_wall(Clock::of(&self.plan), self.state.due()),
        }
    }
}

/// A fresh copy of the event that says which schedule and which time it is
/// for.
pub(super) fn marked(event: &Event, id: &ScheduleId, at: Timestamp) -> Event {
    let named = event.clone().with_attribute("schedule", id.as_str());
    let named = named.and_then(|event| event.with_attribute("scheduledat", at.to_string()));
    // Both names are valid: there is no error.
    named.unwrap_or_else(|_| event.clone())
}

#[cfg(test)]
mod tests;
