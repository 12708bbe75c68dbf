//! Real files, a real watcher, and what editors and Kubernetes do to files.

use std::fs;

use tempfile::TempDir;
use tokio::sync::Mutex;

use super::*;

/// Longer than anything here takes; only a test that fails waits for it.
const LONG: Duration = Duration::from_secs(60);

/// The same by a clock that runs ahead whenever nothing happens.
const PAUSED: Duration = Duration::from_secs(100_000);

/// One after the other: they look at the threads of the process.
static ALONE: Mutex<()> = Mutex::const_new(());

const ONE: &str = r#"{"routing": {"a": ["x"]}}"#;
const TWO: &str = r#"{"routing": {"a": ["x"], "b": ["x"]}}"#;
const THREE: &str = r#"{"routing": {"a": ["x"], "b": ["x"], "c": ["x"]}}"#;

struct Place {
    dir: TempDir,
    bus: Bus,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), bus: Bus::builder().build().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    async fn watch(&self) -> RulesWatch {
        self.bus.watch_rules(self.at("rules.json")).await.unwrap()
    }
}

async fn until(watch: &RulesWatch, is: impl FnMut(&RulesState) -> bool) -> RulesState {
    until_in(LONG, watch, is).await
}

async fn until_in(
    limit: Duration,
    watch: &RulesWatch,
    is: impl FnMut(&RulesState) -> bool,
) -> RulesState {
    let mut changes = watch.changes();
    let state = timeout(limit, changes.wait_for(is)).await.unwrap().unwrap();
    state.clone()
}

#[tokio::test]
async fn rules_follow_their_file_however_it_changes() {
    let _alone = ALONE.lock().await;
    let place = Place::new();
    place.write("rules.json", ONE);
    let watch = place.watch().await;
    assert_eq!((watch.rules().len(), watch.state().loaded), (1, 1));

    place.write("rules.json", TWO);
    until(&watch, |state| state.loaded == 2).await;
    assert_eq!(watch.rules().len(), 2);

    // As editors do.
    place.write("rules.json.new", THREE);
    fs::rename(place.at("rules.json.new"), place.at("rules.json")).unwrap();
    until(&watch, |state| state.loaded == 3).await;
    assert_eq!(watch.rules().len(), 3);

    // The same content again is no change, nor is a file beside it; what
    // comes after them is.
    place.write("rules.json", THREE);
    place.write("other.json", ONE);
    place.write("rules.json", ONE);
    until(&watch, |state| state.loaded == 4).await;
    assert_eq!(watch.rules().len(), 1);
    assert!(watch.last_error().is_none());
}

#[tokio::test]
async fn a_bad_or_missing_file_leaves_the_rules_and_says_so() {
    let _alone = ALONE.lock().await;
    let place = Place::new();
    assert!(place.bus.watch_rules(place.at("rules.json")).await.is_err());
    place.write("rules.json", TWO);
    let watch = place.watch().await;

    place.write("rules.json", r#"{"routing": {"a": ["x"}}"#);
    let state = until(&watch, |state| state.last_error.is_some()).await;
    let error = state.last_error.unwrap().to_string();
    assert!(error.contains("rules.json:1:23: "), "{error}");
    assert_eq!((watch.rules().len(), state.loaded), (2, 1));

    fs::remove_file(place.at("rules.json")).unwrap();
    let missing = |state: &RulesState| {
        let error = state.last_error.as_deref();
        matches!(error, Some(WatchRulesError::Rules(RulesError::Read { .. })))
    };
    until(&watch, missing).await;
    assert_eq!(watch.rules().len(), 2);

    place.write("rules.json", ONE);
    until(&watch, |state| state.loaded == 2 && state.last_error.is_none()).await;
    assert_eq!(watch.rules().len(), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn links_may_be_turned_round() {
    use std::os::unix::fs::symlink;

    let _alone = ALONE.lock().await;
    let place = Place::new();
    // As Kubernetes does: rules.json -> ..data/rules.json, ..data -> ..1
    for (folder, text) in [("..1", ONE), ("..2", TWO)] {
        fs::create_dir(place.at(folder)).unwrap();
        place.write(&format!("{folder}/rules.json"), text);
    }
    symlink("..1", place.at("..data")).unwrap();
    symlink("..data/rules.json", place.at("rules.json")).unwrap();
    let watch = place.watch().await;
    assert_eq!(watch.rules().len(), 1);

    symlink("..2", place.at("..data_tmp")).unwrap();
    fs::rename(place.at("..data_tmp"), place.at("..data")).unwrap();
    until(&watch, |state| state.loaded == 2).await;
    assert_eq!(watch.rules().len(), 2);

    // The file that the link leads to now is watched as well.
    place.write("..2/rules.json", THREE);
    until(&watch, |state| state.loaded == 3).await;
    assert_eq!(watch.rules().len(), 3);
}

#[cfg(unix)]
#[tokio::test]
async fn the_folder_behind_a_link_may_be_made_anew() {
    use std::os::unix::fs::symlink;

    let _alone = ALONE.lock().await;
    let place = Place::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let folder = elsewhere.path().join("rules");
    let file = folder.join("rules.json");
    fs::create_dir(&folder).unwrap();
    fs::write(&file, ONE).unwrap();
    symlink(&file, place.at("rules.json")).unwrap();
    let watch = place.watch().await;

    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(&file, TWO).unwrap();
    until(&watch, |state| state.loaded == 2).await;
    // That was seen by the way; this is told of by the new folder.
    fs::write(&file, THREE).unwrap();
    until(&watch, |state| state.loaded == 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_fails_is_restarted_thrice_and_comes_back() {
    let _alone = ALONE.lock().await;
    let place = Place::new();
    fs::create_dir(place.at("sub")).unwrap();
    place.write("sub/rules.json", TWO);
    let watch = place.bus.watch_rules(place.at("sub/rules.json")).await.unwrap();
    let mut changes = watch.changes();

    fs::remove_dir_all(place.at("sub")).unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|(state, _)| *state != WatcherState::Polling) {
        timeout(PAUSED, changes.changed()).await.unwrap().unwrap();
        let state = changes.borrow_and_update().watcher;
        if seen.last().is_none_or(|(last, _)| *last != state) {
            seen.push((state, Instant::now()));
        }
    }
    let states: Vec<_> = seen.iter().map(|(state, _)| *state).collect();
    let restarting = |attempt| WatcherState::Restarting { attempt };
    let tries = [restarting(1), restarting(2), restarting(3), WatcherState::Polling];
    assert!(states.ends_with(&tries), "{states:?}");
    let times = &seen[seen.len() - 4..];
    let waited = times.windows(2).map(|pair| (pair[1].1 - pair[0].1).as_millis());
    for (waited, wanted) in waited.zip([1_000, 2_000, 4_000]) {
        assert!((wanted..wanted + 100).contains(&waited), "{waited} for {wanted}");
    }
    assert_eq!(watch.rules().len(), 2, "the rules stay");

    fs::create_dir(place.at("sub")).unwrap();
    place.write("sub/rules.json", ONE);
    let well = |state: &RulesState| {
        state.loaded == 2 && state.last_error.is_none() && state.watcher == WatcherState::Watching
    };
    until_in(PAUSED, &watch, well).await;
    assert_eq!(watch.rules().len(), 1);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn nothing_stays_behind() {
    fn watchers() -> usize {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with("notify-rs")).count()
    }

    let _alone = ALONE.lock().await;
    let gone = async {
        while watchers() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, gone).await.unwrap();
    let place = Place::new();
    place.write("rules.json", ONE);
    let watch = place.watch().await;
    assert_eq!(watchers(), 1);
    let routing = Arc::downgrade(&watch.routing);
    drop(watch);
    assert!(routing.upgrade().is_none(), "the rules end at once");
    let gone = async {
        while watchers() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, gone).await.unwrap();
}

#[tokio::test]
async fn a_bus_that_takes_no_more_handlers_keeps_its_rules() {
    let _alone = ALONE.lock().await;
    let place = Place {
        bus: Bus::builder().max_handlers(2).build().unwrap(),
        dir: tempfile::tempdir().unwrap(),
    };
    place.write("rules.json", TWO);
    let watch = place.watch().await;
    place.write("rules.json", THREE);
    let state = until(&watch, |state| state.last_error.is_some()).await;
    assert!(matches!(&*state.last_error.unwrap(), WatchRulesError::Subscribe(_)));
    assert_eq!(watch.rules().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn rules_that_found_no_room_are_put_to_work_when_there_is_some() {
    let _alone = ALONE.lock().await;
    let place = Place {
        bus: Bus::builder().max_handlers(3).build().unwrap(),
        dir: tempfile::tempdir().unwrap(),
    };
    let other = place.bus.subscribe("other").handle(|_: &swarmbus_core::Event| ()).unwrap();
    place.write("rules.json", TWO);
    let watch = place.watch().await;
    place.write("rules.json", THREE);
    until_in(PAUSED, &watch, |state| state.last_error.is_some()).await;
    drop(other);
    until_in(PAUSED, &watch, |state| state.loaded == 2 && state.last_error.is_none()).await;
    assert_eq!(watch.rules().len(), 3);
}
