//! The machine against its table, and snapshots that never were.

use proptest::prelude::*;

use super::*;

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

/// The table once more, as a picture: a row is where from, a column where to,
/// in the order of `StateKind::ALL`.
const TABLE: [&str; 6] = [
    // i h d r f m
    "- x x - x x", // initializing
    "- - x - x x", // healthy
    "- - - x x x", // degraded
    "- x x - x x", // recovering
    "- - - x - x", // failed
    "x - - - - -", // maintenance
];

fn listed(from: StateKind, to: StateKind) -> bool {
    let place = |kind| StateKind::ALL.iter().position(|other| *other == kind).unwrap();
    TABLE[place(from)].split(' ').nth(place(to)) == Some("x")
}

fn kind() -> impl Strategy<Value = StateKind> {
    prop::sample::select(&StateKind::ALL[..])
}

fn saved(system: &Lifecycle) -> serde_json::Value {
    serde_json::to_value(system).unwrap()
}

fn read(value: serde_json::Value) -> Result<Lifecycle, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[test]
fn every_state_can_be_left_and_reached() {
    for kind in StateKind::ALL {
        assert!(!kind.successors().is_empty());
        assert!(StateKind::ALL.iter().any(|from| from.successors().contains(&kind)));
    }
}

#[test]
fn a_new_process_knows_only_of_maintenance() {
    let mut system = Lifecycle::new(at(1));
    assert_eq!(system.restart(at(2)).unwrap().to, StateKind::Initializing);
    system.transition(StateKind::Failed, "disk", at(3)).unwrap();
    assert_eq!(system.restart(at(4)).unwrap().from, StateKind::Failed);
    assert_eq!(system.state(), &State::Initializing { since: at(4) });
    system.transition(StateKind::Maintenance, "move", at(5)).unwrap();
    assert_eq!(system.restart(at(6)), None);
    let kept = State::Maintenance { since: at(5), reason: "move".into() };
    assert_eq!(system.state(), &kept);
    assert_eq!(read(saved(&system)), Ok(system));
}

#[test]
fn reasons_are_cut_at_a_character() {
    let mut system = Lifecycle::new(at(1));
    let long = "é".repeat(MAX_REASON_LEN);
    let reason = system.transition(StateKind::Failed, format!("x{long}"), at(2)).unwrap().reason;
    assert_eq!(reason.len(), MAX_REASON_LEN - 1);
    assert_eq!(read(saved(&system)), Ok(system));
}

#[test]
fn what_cannot_have_been_written_is_not_read() {
    let mut system = Lifecycle::new(at(1));
    system.transition(StateKind::Healthy, "well", at(2)).unwrap();
    system.transition(StateKind::Degraded, "ill", at(3)).unwrap();
    let good = saved(&system);
    assert_eq!(read(good.clone()).unwrap(), system);
    let broken = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut bad = good.clone();
        change(&mut bad);
        assert_ne!(bad, good);
        read(bad).unwrap_err()
    };
    let state = Impossible::State.to_string();
    assert_eq!(broken(&|bad| bad["state"]["reason"] = "other".into()), state);
    assert_eq!(broken(&|bad| bad["history"] = serde_json::json!([])), state);
    assert_eq!(broken(&|bad| bad["state"]["since"] = "2026-01-01T00:00:00Z".into()), state);
    let recovering = "healthy never becomes recovering";
    assert_eq!(broken(&|bad| bad["history"][1]["to"] = "recovering".into()), recovering);
    let gap = Impossible::Gap(1).to_string();
    assert_eq!(broken(&|bad| bad["history"][1]["from"] = "recovering".into()), gap);
    assert_eq!(broken(&|bad| bad["history"][0]["at"] = "2026-01-01T00:00:00Z".into()), gap);
    let long = "x".repeat(MAX_REASON_LEN + 1);
    let too_long = Impossible::Reason(MAX_REASON_LEN + 1).to_string();
    assert_eq!(broken(&|bad| bad["history"][0]["reason"] = long.clone().into()), too_long);
    let entry = good["history"][0].clone();
    let many: Vec<_> = std::iter::repeat_n(entry, HISTORY + 1).collect();
    let too_many = Impossible::History(HISTORY + 1).to_string();
    assert_eq!(broken(&|bad| bad["history"] = many.clone().into()), too_many);
    assert!(broken(&|bad| bad["state"]["kind"] = "splendid".into()).contains("splendid"));
    assert!(broken(&|bad| bad["mood"] = 1.into()).contains("mood"));
}

proptest! {
    /// Signs never head where the table does not lead, and signs that stay lead
    /// to the state that they mean within three steps.
    #[test]
    fn signs_head_for_the_state_they_mean(
        seen in prop::array::uniform5(any::<bool>()),
        from in kind(),
    ) {
        let [fatal, down, trying, starting, settled] = seen;
        let text = |is: bool, text: &str| is.then(|| text.to_owned());
        let signs = Signs {
            fatal: text(fatal, "fatal"),
            down: text(down, "down"),
            trying: text(trying, "trying"),
            starting,
            settled,
        };
        let mut state = from;
        for _ in 0..3 {
            if let Some((to, reason)) = signs.heading(state) {
                prop_assert!(listed(state, to), "{} to {}", state, to);
                prop_assert!(!reason.is_empty());
                state = to;
            }
        }
        use StateKind::*;
        let meant = match from {
            Maintenance => Maintenance,
            _ if fatal => Failed,
            Initializing if starting => Initializing,
            _ if down => Degraded,
            _ if trying => Recovering,
            Initializing | Healthy => Healthy,
            _ if settled => Healthy,
            _ => Recovering,
        };
        prop_assert_eq!(state, meant);
        prop_assert_eq!(signs.heading(state), None);
    }

    #[test]
    fn only_what_the_table_lists_happens(
        steps in prop::collection::vec((kind(), 1_u64..1_000, any::<bool>()), 0..250),
    ) {
        let mut system = Lifecycle::new(at(500));
        let mut model = Vec::new();
        let mut kind = StateKind::Initializing;
        let mut since = at(500);
        for (number, (to, now, restart)) in steps.into_iter().enumerate() {
            let now = at(now);
            let before = system.clone();
            let reason = format!("step {number}");
            let (done, allowed) = if restart && number % 7 == 0 {
                let done = system.restart(now);
                (done.clone().ok_or(()), kind != StateKind::Maintenance)
            } else {
                let done = system.transition(to, reason, now);
                if let Err(refused) = &done {
                    prop_assert_eq!((refused.from, refused.to), (kind, to));
                    let already = refused.why == Why::Already;
                    prop_assert_eq!(already, kind == to);
                }
                (done.map_err(drop), listed(kind, to))
            };
            prop_assert_eq!(done.is_ok(), allowed);
            match done {
                Ok(done) => {
                    since = since.max(now);
                    prop_assert_eq!((done.from, done.at), (kind, since));
                    kind = done.to;
                    model.push(done);
                }
                Err(()) => prop_assert_eq!(&system, &before, "a refusal changes nothing"),
            }
            prop_assert_eq!((system.state().kind(), system.state().since()), (kind, since));
        }
        let kept = model.len().min(HISTORY);
        let newest: Vec<_> = model[model.len() - kept..].iter().collect();
        prop_assert_eq!(system.history().collect::<Vec<_>>(), newest);
        prop_assert_eq!(read(saved(&system)), Ok(system));
    }
}
