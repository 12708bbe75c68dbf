//! The graph against a model that asks, again and again, who can still be done.

use proptest::prelude::*;
use swarmbus_core::EventType;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// A command is executed: by that one, or by nobody.
    Begin(Option<usize>),
    /// A command wants a turn.
    Take(usize, usize),
    /// A command that waits for a turn which is free gets it.
    Grant(usize),
    /// A command that waits for nothing is answered.
    End(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::option::weighted(0.7, any::<prop::sample::Index>())
            .prop_map(|caller| Step::Begin(caller.map(|at| at.index(1 << 20)))),
        4 => (0_usize..1 << 20, 0_usize..5).prop_map(|(at, turn)| Step::Take(at, turn)),
        1 => (0_usize..1 << 20).prop_map(Step::Grant),
        1 => (0_usize..1 << 20).prop_map(Step::End),
    ]
}

#[derive(Default)]
struct Model {
    graph: Graph,
    living: Vec<NodeId>,
    held: HashMap<NodeId, usize>,
}

impl Model {
    fn pick(&self, at: usize, fits: impl Fn(&Self, NodeId) -> bool) -> Option<NodeId> {
        let fitting: Vec<_> = self.living.iter().copied().filter(|id| fits(self, *id)).collect();
        (!fitting.is_empty()).then(|| fitting[at % fitting.len()])
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.graph.nodes[&id]
    }

    fn holder(&self, turn: usize) -> Option<NodeId> {
        self.held.iter().find(|(_, held)| **held == turn).map(|(id, _)| *id)
    }

    /// Who can be answered at some time, if nobody gives up. `all`: whether a
    /// command goes on when all that it has called are answered, or one.
    fn can_end(&self, all: bool) -> HashSet<NodeId> {
        let mut can: HashSet<NodeId> = HashSet::new();
        loop {
            let more: Vec<_> = self
                .living
                .iter()
                .copied()
                .filter(|id| !can.contains(id))
                .filter(|id| {
                    let node = self.node(*id);
                    let turn_comes = node.waits_for.is_none_or(|turn| {
                        self.holder(turn).is_none_or(|holder| can.contains(&holder))
                    });
                    let mut calls = node.calls.iter().map(|call| can.contains(call));
                    turn_comes
                        && (node.calls.is_empty()
                            || if all { calls.all(|ends| ends) } else { calls.any(|ends| ends) })
                })
                .collect();
            if more.is_empty() {
                return can;
            }
            can.extend(more);
        }
    }

    fn idle(&self, id: NodeId) -> bool {
        self.node(id).calls.is_empty() && self.node(id).waits_for.is_none()
    }

    /// `false` after the first wait that may have no end.
    fn step(&mut self, step: &Step) -> Result<bool, TestCaseError> {
        match *step {
            Step::Begin(caller) => {
                let caller = caller
                    .and_then(|at| self.pick(at, |model, id| model.node(id).waits_for.is_none()));
                let name = Name::Command(EventType::from_static("x"));
                self.living.push(self.graph.begin(name, Vec::new(), caller));
            }
            Step::Take(at, turn) => {
                let new = |model: &Self, id| model.idle(id) && !model.held.contains_key(&id);
                let Some(id) = self.pick(at, new) else { return Ok(true) };
                if self.holder(turn).is_none() {
                    self.held.insert(id, turn);
                    self.graph.hold(turn, id);
                    return Ok(true);
                }
                let waited = self.graph.wait(id, turn);
                if let Some(node) = self.graph.nodes.get_mut(&id) {
                    node.waits_for = Some(turn);
                }
                let ends_if_all = self.can_end(true).contains(&id);
                prop_assert_eq!(waited == Wait::Fine, ends_if_all);
                if waited == Wait::Never {
                    prop_assert!(!self.can_end(false).contains(&id), "cut without need");
                }
                return Ok(waited == Wait::Fine);
            }
            Step::Grant(at) => {
                let granted = |model: &Self, id| {
                    model.node(id).waits_for.is_some_and(|turn| model.holder(turn).is_none())
                };
                let Some(id) = self.pick(at, granted) else { return Ok(true) };
                let turn = self.node(id).waits_for.unwrap();
                self.graph.stop_waiting(id);
                self.graph.hold(turn, id);
                self.held.insert(id, turn);
            }
            Step::End(at) => {
                let Some(id) = self.pick(at, Self::idle) else { return Ok(true) };
                if let Some(turn) = self.held.remove(&id) {
                    self.graph.release(turn);
                }
                self.graph.end(id);
                self.living.retain(|living| *living != id);
            }
        }
        Ok(true)
    }
}

proptest! {
    /// A wait is fine exactly if everybody can still be done; and none that
    /// could end by itself is refused.
    #[test]
    fn waits_are_judged_as_by_trying(steps in prop::collection::vec(step(), 1..80)) {
        let mut model = Model::default();
        for step in &steps {
            if !model.step(step)? {
                break;
            }
        }
    }
}

#[test]
fn nothing_is_left_of_what_ended() {
    let mut graph = Graph::default();
    let name = || Name::Command(EventType::from_static("x"));
    let outer = graph.begin(name(), Vec::new(), None);
    let inner = graph.begin(name(), vec![3], Some(outer));
    assert_eq!(graph.chain(inner), [name(), Name::Runner(3), name()]);
    assert_eq!(graph.chain_below(outer), [Name::Runner(3), name()]);
    assert_eq!(graph.chain_from(3), [name()]);
    graph.end(inner);
    assert!(graph.nodes[&outer].calls.is_empty());
    graph.end(outer);
    assert!(graph.nodes.is_empty());
    let orphan = graph.begin(name(), Vec::new(), Some(outer));
    assert_eq!(graph.caller_of(orphan), None);
}
