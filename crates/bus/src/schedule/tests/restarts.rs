//! Whatever happens to the process and its store: every time fires.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    /// The process dies; what the store has not is lost.
    Crash,
    Restart,
    StoreBreaks,
    StoreWorks,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..200_000).prop_map(Step::Pass),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
        1 => Just(Step::StoreBreaks),
        1 => Just(Step::StoreWorks),
    ]
}

/// Names and times of what fired in a minute that follows these steps, and
/// before; with how many seconds that were.
async fn live(steps: Vec<Step>) -> (HashSet<(String, String)>, u64) {
    let (wall, store, seen, start) = (Wall::new(), Fragile::new(), Seen::default(), Instant::now());
    let (mut bus, _) = restored(&wall, &store, &seen).await;
    let all = Missed::FireAll { limit: 1_000 };
    let new = |name: &str| bus.schedule(tick()).named(name).missed(all);
    new("every").every(seconds(7)).await.unwrap();
    new("cron").cron("*/10 * * * * *").await.unwrap();
    new("after").after(seconds(55)).await.unwrap();
    new("at").at(wall.now().saturating_add(seconds(33))).await.unwrap();
    for step in steps {
        match step {
            Step::Pass(millis) => pass(Duration::from_millis(millis)).await,
            Step::Crash => {
                store.breaks_now();
                drop(bus);
                pass(seconds(1)).await;
                store.works();
                bus = restored(&wall, &store, &seen).await.0;
            }
            Step::Restart => {
                store.works();
                assert!(bus.shutdown(seconds(1)).await.is_clean());
                bus = restored(&wall, &store, &seen).await.0;
            }
            Step::StoreBreaks => store.breaks_now(),
            Step::StoreWorks => store.works(),
        }
    }
    pass(seconds(60)).await;
    let firing = |(event, _): &(Event, Instant)| {
        let attribute = |name| event.attribute(name).unwrap().to_owned();
        (attribute("schedule"), attribute("scheduledat"))
    };
    let fired = seen.0.lock().iter().map(firing).collect();
    (fired, start.elapsed().as_secs())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_time_fires(steps in prop::collection::vec(step(), 0..30)) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        let (fired, seconds) = runtime.block_on(live(steps));
        let count = |name: &str| fired.iter().filter(|(its, _)| its == name).count() as u64;
        prop_assert_eq!(count("every"), seconds / 7);
        // It begins at a whole minute, but not at a whole millisecond.
        prop_assert!(count("cron").abs_diff(seconds / 10) <= 1);
        prop_assert_eq!((count("after"), count("at")), (1, 1));
    }
}
