//! Saved, damaged, restored.

use super::*;
use crate::state::MemoryState;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Memory {
    step: u32,
}

fn of(store: &MemoryState) -> Snapshots<Memory> {
    Snapshots::builder(store.clone(), "a").build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn restoring_goes_from_state_to_checkpoint_to_snapshots() {
    let store = MemoryState::new();
    let saves = of(&store);
    assert!(saves.restore().await.unwrap().is_none());
    saves.snapshot(&Memory { step: 1 }).await.unwrap();
    saves.snapshot(&Memory { step: 2 }).await.unwrap();
    saves.checkpoint(&Memory { step: 3 }).await.unwrap();
    saves.save(&Memory { step: 4 }).await.unwrap();
    let damage =
        ["{\"format\":1,", "[]", "{\"format\":2,\"number\":2,\"saved_at\":1,\"state\":{}}"];
    let keys = ["a:state", "a:checkpoint", "a:snapshot:2", "a:snapshot:1"];
    let found = [Found::State, Found::Checkpoint, Found::Snapshot(2), Found::Snapshot(1)];
    for (at, step) in [4, 3, 2, 1].into_iter().enumerate() {
        let restored = saves.restore().await.unwrap().unwrap();
        assert_eq!((restored.from, restored.value), (found[at], Memory { step }));
        assert_eq!(restored.skipped.len(), at, "{:?}", restored.skipped);
        assert!(restored.skipped.iter().all(|skipped| keys.contains(&&*skipped.key)));
        let damage = damage.get(at).copied().unwrap_or("");
        store.set(keys[at], damage.into(), None).await.unwrap();
    }
    let error = saves.restore().await.unwrap_err();
    assert!(matches!(&error, RestoreError::Unreadable { skipped } if skipped.len() == 4));
    saves.clear().await.unwrap();
    assert!(saves.restore().await.unwrap().is_none());
    assert_eq!(saves.snapshot(&Memory { step: 5 }).await.unwrap(), 3, "numbers go on");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_another_shape_is_skipped_and_a_hash_too() {
    let store = MemoryState::new();
    let saves = of(&store);
    saves.snapshot(&Memory { step: 1 }).await.unwrap();
    let other = Snapshots::<Vec<String>>::builder(store.clone(), "a").build().unwrap();
    other.snapshot(&vec!["x".to_owned()]).await.unwrap();
    store.hash_set("a:state", "f", "1".into()).await.unwrap();
    let restored = saves.restore().await.unwrap().unwrap();
    assert_eq!(restored.from, Found::Snapshot(1));
    assert_eq!(restored.skipped.len(), 2);
    assert_eq!(other.restore().await.unwrap().unwrap().value, ["x"]);
}

#[tokio::test(start_paused = true)]
async fn ten_snapshots_are_kept_for_a_day() {
    let store = MemoryState::new();
    let saves = of(&store);
    for step in 1..=25 {
        assert_eq!(saves.snapshot(&Memory { step }).await.unwrap(), u64::from(step));
    }
    let numbers = |list: Vec<SnapshotInfo>| list.iter().map(|i| i.number).collect::<Vec<_>>();
    let kept: Vec<u64> = (16..=25).rev().collect();
    assert_eq!(numbers(saves.list().await.unwrap()), kept);
    assert_eq!(saves.restore().await.unwrap().unwrap().value, Memory { step: 25 });
    // The counter is lost; the snapshots tell.
    store.delete("a:snapshots").await.unwrap();
    assert_eq!(saves.snapshot(&Memory { step: 26 }).await.unwrap(), 26);
    tokio::time::advance(Duration::from_secs(24 * 60 * 60)).await;
    assert!(saves.restore().await.unwrap().is_none());
    assert_eq!(store.list("a:", 100).await.unwrap(), ["a:snapshots"]);
}

#[tokio::test(start_paused = true)]
async fn many_may_take_snapshots_at_once() {
    let store = MemoryState::new();
    let takers: Vec<_> = (0..5)
        .map(|step| {
            let saves = of(&store);
            tokio::spawn(async move { saves.snapshot(&Memory { step }).await.unwrap() })
        })
        .collect();
    let mut numbers = Vec::new();
    for taker in takers {
        numbers.push(taker.await.unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert_eq!(of(&store).list().await.unwrap().len(), 5);
}

#[test]
fn settings_are_checked() {
    let build = |name: &str, ttl| {
        Snapshots::<Memory>::builder(MemoryState::new(), name).ttl(ttl).build().err()
    };
    assert!(matches!(build("", None), Some(StateError::Name(0))));
    assert!(matches!(build(&"n".repeat(500), None), Some(StateError::Name(500))));
    assert!(matches!(build("a", Some(Duration::ZERO)), Some(StateError::Ttl(_))));
    assert!(build("a", Some(Duration::from_secs(1))).is_none());
}
