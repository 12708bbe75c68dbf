//! [`Signs`]: what is seen of a system, and where its state heads by it.

use super::StateKind;

/// What a look at the system shows. Texts are reasons, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// It does not work: the state heads for [`StateKind::Failed`].
    pub fatal: Option<String>,
    /// Something is down, the rest works.
    pub down: Option<String>,
    /// Something that was down is being tried.
    pub trying: Option<String>,
    /// It is too early to judge: matters while initializing only.
    pub starting: bool,
    /// All of this has been the same for long enough to believe a recovery.
    pub settled: bool,
}

impl Signs {
    /// The next state of a system in `state`, and why; `None` to stay. One step:
    /// ask again after it.
    ///
    /// What is well again is recovering first, and healthy once that has
    /// settled. Maintenance is for people to end.
    ///
    /// ```
    /// use swarmbus_core::lifecycle::{Signs, StateKind};
    ///
    /// let signs = Signs { down: Some("the mailer is down".into()), ..Signs::default() };
    /// let (to, reason) = signs.heading(StateKind::Healthy).unwrap();
    /// assert_eq!((to, &*reason), (StateKind::Degraded, "the mailer is down"));
    /// assert_eq!(signs.heading(StateKind::Maintenance), None);
    /// ```
    #[must_use]
    pub fn heading(&self, state: StateKind) -> Option<(StateKind, String)> {
        let Self { fatal, down, trying, starting, settled } = self;
        let to = |kind, reason: &str| Some((kind, reason.to_owned()));
        match (state, fatal) {
            (StateKind::Maintenance, _) | (StateKind::Failed, Some(_)) => None,
            (_, Some(reason)) => to(StateKind::Failed, reason),
            (StateKind::Initializing, None) if *starting => None,
            (StateKind::Initializing | StateKind::Healthy, None) => {
                match (down.as_ref().or(trying.as_ref()), state) {
                    (Some(reason), _) => to(StateKind::Degraded, reason),
                    (None, StateKind::Initializing) => to(StateKind::Healthy, "all checks pass"),
                    (None, _) => None,
                }
            }
            (StateKind::Degraded, None) => match (down, trying) {
                (Some(_), _) => None,
                (None, Some(reason)) => to(StateKind::Recovering, reason),
                (None, None) => to(StateKind::Recovering, "nothing is down any more"),
            },
            (StateKind::Recovering, None) => match (down, trying) {
                (Some(reason), _) => to(StateKind::Degraded, reason),
                (None, None) if *settled => to(StateKind::Healthy, "recovered"),
                (None, _) => None,
            },
            (StateKind::Failed, None) => to(StateKind::Recovering, "nothing is fatal any more"),
        }
    }
}
