//! The timetable against a list that is searched from end to end.

use proptest::prelude::*;

use super::*;

const START: u64 = 1_750_000_000_000_000;

fn micros(n: u64) -> Timestamp {
    Timestamp::from_micros(n).unwrap()
}

fn start() -> Now {
    Now { wall: micros(START), steady: micros(START), ahead: 0 }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn plan(which: u8, n: u64) -> Plan {
    match which {
        0 => Plan::At(micros(START).saturating_add(seconds(n))),
        1 => Plan::After(seconds(n)),
        2 => Plan::Every(seconds(n.max(1))),
        _ => Plan::Cron(
            ["*/7 * * * * *", "0 * * * * *", "5,6 */2 * * * *"][n as usize % 3].parse().unwrap(),
        ),
    }
}

fn new(id: u8, plan: Plan, missed: Missed, now: Now) -> Planned {
    let due = plan.first(now.on(Clock::of(&plan))).unwrap();
    let id = ScheduleId::new(id.to_string()).unwrap();
    Planned { id, plan, missed, event: Event::of("tick", ()), due }
}

#[derive(Clone, Debug)]
enum Do {
    Add(u8, Plan, Missed),
    Remove(u8),
    Pass(u64),
    /// The wall clock is set forward.
    Jump(u64),
    /// Up to so many are taken and done.
    Fire(usize),
}

fn any_do() -> impl Strategy<Value = Do> {
    let missed = prop_oneof![
        Just(Missed::FireOnce),
        Just(Missed::Skip),
        (1_u32..4).prop_map(|limit| Missed::FireAll { limit }),
    ];
    prop_oneof![
        4 => (0_u8..12, 0_u8..4, 0_u64..90, missed).prop_map(|(id, w, n, m)| Do::Add(id, plan(w, n), m)),
        1 => (0_u8..12).prop_map(Do::Remove),
        4 => (0_u64..40_000_000).prop_map(Do::Pass),
        1 => (0_u64..300).prop_map(Do::Jump),
        4 => (0_usize..6).prop_map(Do::Fire),
    ]
}

/// All schedules in the order in which they were made, and nothing else.
#[derive(Default)]
struct Naive(Vec<(Planned, Option<Timestamp>)>);

impl Naive {
    fn insert(&mut self, new: Planned) {
        match self.0.iter().position(|(old, _)| old.id == new.id) {
            Some(at) if self.0[at].0.plan == new.plan => self.0[at].0.missed = new.missed,
            Some(at) => {
                self.0.remove(at);
                self.0.push((new, None));
            }
            None => self.0.push((new, None)),
        }
    }

    /// The id and the time of the next firing, which is done at once.
    fn fire(&mut self, now: Now) -> Option<(ScheduleId, Timestamp)> {
        loop {
            let late = |new: &Planned| {
                let now = now.on(Clock::of(&new.plan));
                now.as_micros().checked_sub(new.due.as_micros())
            };
            let at = (0..self.0.len())
                .filter(|at| late(&self.0[*at].0).is_some())
                .max_by_key(|at| (late(&self.0[*at].0), std::cmp::Reverse(*at)))?;
            let (new, limited_until) = &mut self.0[at];
            let clock = Clock::of(&new.plan);
            let limited = limited_until.is_some_and(|until| new.due <= until);
            let step = new.plan.step(new.due, now.on(clock), new.missed, limited);
            if !limited {
                *limited_until = Some(now.on(clock));
            }
            let fired = step.fire.map(|at| (new.id.clone(), now.to_wall(clock, at)));
            match step.next {
                Some(next) => new.due = next,
                None => drop(self.0.remove(at)),
            }
            if fired.is_some() {
                return fired;
            }
        }
    }
}

proptest! {
    #[test]
    fn firings_come_in_the_order_of_a_naive_list(todo in prop::collection::vec(any_do(), 1..60)) {
        let (mut table, mut naive, mut now) = (Timetable::default(), Naive::default(), start());
        for step in todo {
            match step {
                Do::Add(id, plan, missed) => {
                    let new = new(id, plan, missed, now);
                    table.insert(new.clone());
                    naive.insert(new);
                }
                Do::Remove(id) => {
                    let id = ScheduleId::new(id.to_string()).unwrap();
                    let there = naive.0.iter().any(|(new, _)| new.id == id);
                    prop_assert_eq!(table.remove(&id), there);
                    naive.0.retain(|(new, _)| new.id != id);
                }
                Do::Pass(time) => {
                    now.wall = micros(now.wall.as_micros() + time);
                    now.steady = micros(now.steady.as_micros() + time);
                }
                Do::Jump(s) => now.wall = now.wall.saturating_add(seconds(s)),
                Do::Fire(count) => for _ in 0..count {
                    let fired = table.take_due(now);
                    let seen = fired.as_ref().map(|firing| {
                        let at = firing.event.attribute("scheduledat").unwrap();
                        (firing.key.id.clone(), at.parse().unwrap())
                    });
                    prop_assert_eq!(seen, naive.fire(now));
                    if let Some(firing) = fired {
                        table.done(&firing.key);
                    }
                },
            }
            prop_assert_eq!(table.len(), naive.0.len());
            prop_assert_eq!(table.wall.len() + table.steady.len(), table.len());
            // Who sleeps as long as it says is never late by more than the recheck.
            let overdue = table.longest_due(now).is_some();
            prop_assert_eq!(table.wait(now) == Some(Duration::ZERO), overdue);
        }
    }
}

#[test]
fn a_schedule_does_nothing_else_while_it_fires() {
    let (mut table, mut now) = (Timetable::default(), start());
    table.insert(new(1, Plan::Every(seconds(10)), Missed::FireOnce, now));
    now.steady = now.steady.saturating_add(seconds(10));
    let firing = table.take_due(now).unwrap();
    now.steady = now.steady.saturating_add(seconds(35));
    assert!(table.take_due(now).is_none());
    assert_eq!(table.wait(now), None);
    table.done(&firing.key);
    // 20, 30 and 40 s passed: fired once, and the next one is at 50 s.
    let firing = table.take_due(now).unwrap();
    table.done(&firing.key);
    assert!(table.take_due(now).is_none());
    assert_eq!(table.wait(now), Some(seconds(5)));
}

#[test]
fn a_schedule_that_is_replaced_forgets_its_firing() {
    let (mut table, mut now) = (Timetable::default(), start());
    table.insert(new(1, Plan::After(seconds(1)), Missed::FireOnce, now));
    now.steady = now.steady.saturating_add(seconds(1));
    let firing = table.take_due(now).unwrap();
    assert_eq!(table.take_unwanted(), []);
    table.insert(new(1, Plan::After(seconds(5)), Missed::FireOnce, now));
    assert_eq!(table.take_unwanted(), std::slice::from_ref(&firing.key));
    table.done(&firing.key);
    assert_eq!(table.wait(now), Some(seconds(5)));
}

#[test]
fn a_wall_clock_that_was_far_ahead_is_forgotten() {
    let (mut table, mut now) = (Timetable::default(), start());
    now.wall = now.wall.saturating_add(seconds(4 * 365 * 24 * 3600));
    table.insert(new(1, plan(3, 1), Missed::FireOnce, now));
    table.insert(new(2, plan(1, 20), Missed::FireOnce, now));
    assert!(table.take_due(now).is_none());
    now.wall = start().wall;
    assert!(table.take_due(now).is_none());
    let next = table.get(&ScheduleId::new("1").unwrap(), now).unwrap().next;
    assert!(next.saturating_since(now.wall) <= seconds(60));
    assert_eq!(table.take_changes(now).len(), 1);
}

#[test]
fn after_a_small_step_back_no_time_comes_twice() {
    let (mut table, mut now) = (Timetable::default(), start());
    table.insert(new(1, plan(3, 1), Missed::FireOnce, now));
    let due = table.list(now)[0].next;
    now.wall = due;
    let firing = table.take_due(now).unwrap();
    table.done(&firing.key);
    now.wall = micros(due.as_micros() - 30_000_000);
    assert!(table.take_due(now).is_none());
    now.wall = due.saturating_add(seconds(59));
    assert!(table.take_due(now).is_none());
    now.wall = due.saturating_add(seconds(60));
    assert!(table.take_due(now).is_some());
}

#[test]
fn what_was_restored_waits_no_longer_than_its_plan() {
    let now = start();
    let restored = |plan: Plan, next| {
        let id = ScheduleId::new("1").unwrap();
        let event = Event::of("tick", ());
        let schedule = Schedule { id, plan, missed: Missed::FireOnce, event, next };
        Planned::restored(schedule, now).due
    };
    let ahead = |s| now.wall.saturating_add(seconds(s));
    assert_eq!(restored(Plan::Every(seconds(60)), ahead(20)), ahead(20));
    assert_eq!(restored(Plan::Every(seconds(60)), ahead(9_999)), ahead(60));
    assert_eq!(restored(Plan::At(ahead(9_999)), ahead(9_999)), ahead(9_999));
    let long_ago = micros(START - 9_999_000_000);
    assert_eq!(restored(Plan::Every(seconds(60)), long_ago), long_ago);
    // The clock was years ahead when this was stored.
    assert!(restored(plan(3, 1), ahead(4 * 365 * 24 * 3600)) <= ahead(60));
}
