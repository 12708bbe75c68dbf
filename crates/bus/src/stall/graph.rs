//! The commands of a bus that are being answered: who calls whom, and who waits
//! for whose turn. Pure.
//!
//! # When a wait is certain to have no end
//!
//! A turn is held by one command until it is answered. A command that waits for
//! a turn can only go on when its holder is done. The holder is stuck for
//! certain if all it has called is one command, and that one is stuck: because
//! it waits for a turn whose holder is stuck in the same way, and so on. If that
//! leads back to a command which itself waits for the new one, nobody on the
//! ring will ever go on, unless somebody gives up.
//!
//! A command that has called several others at once may wait for all of them, or
//! for the first: then a ring is a suspicion.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use ahash::RandomState;
use swarmbus_core::EventType;

use crate::ledger::Books;

pub(crate) type NodeId = u64;

/// The name of a call, found out when it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Command(EventType),
    Handler(Arc<str>),
    /// The handler that a runner has.
    Runner(usize),
}

impl Name {
    pub(super) fn text(&self, books: &Books) -> String {
        match self {
            Self::Command(ty) => format!("command {ty}"),
            Self::Handler(name) => name.to_string(),
            Self::Runner(cell) => books.handler_in(*cell).unwrap_or_else(|| "handler".to_owned()),
        }
    }
}

#[derive(Default)]
pub(super) struct Graph {
    nodes: HashMap<NodeId, Node, RandomState>,
    holders: HashMap<usize, NodeId, RandomState>,
    last: NodeId,
}

pub(super) struct Node {
    name: Name,
    /// The runners of the handlers between its caller and this, innermost first.
    cells: Vec<usize>,
    caller: Option<NodeId>,
    calls: Vec<NodeId>,
    waits_for: Option<usize>,
    pub(super) since: Instant,
}

/// What a wait for a turn comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// It may come.
    Fine,
    /// It comes only if a command on the ring goes on without all it has called.
    Suspected,
    /// It can never come.
    Never,
}

impl Graph {
    pub(super) fn begin(
        &mut self,
        name: Name,
        cells: Vec<usize>,
        caller: Option<NodeId>,
    ) -> NodeId {
        self.last += 1;
        // One that has ended calls nobody.
        let caller = caller.filter(|caller| match self.nodes.get_mut(caller) {
            Some(node) => {
                node.calls.push(self.last);
                true
            }
            None => false,
        });
        let (calls, since) = (Vec::new(), Instant::now());
        let node = Node { name, cells, caller, calls, waits_for: None, since };
        self.nodes.insert(self.last, node);
        self.last
    }

    pub(super) fn end(&mut self, id: NodeId) -> Option<Node> {
        let node = self.nodes.remove(&id)?;
        if let Some(caller) = node.caller.and_then(|caller| self.nodes.get_mut(&caller)) {
            caller.calls.retain(|call| *call != id);
        }
        Some(node)
    }

    pub(super) fn hold(&mut self, turn: usize, id: NodeId) {
        self.holders.insert(turn, id);
    }

    pub(super) fn release(&mut self, turn: usize) {
        self.holders.remove(&turn);
    }

    /// Notes that a command waits for a turn, unless it would wait for ever.
    pub(super) fn wait(&mut self, id: NodeId, turn: usize) -> Wait {
        let found = self.look(id, turn);
        if found != Wait::Never
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.waits_for = Some(turn);
        }
        found
    }

    pub(super) fn stop_waiting(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.waits_for = None;
        }
    }

    /// Follows a turn to its holder, to what that one waits for, and so on.
    fn look(&self, id: NodeId, turn: usize) -> Wait {
        // Whoever waits for `id`, and whether for `id` alone.
        let mut above: HashMap<NodeId, bool, RandomState> = HashMap::default();
        let (mut alone, mut next) = (true, self.caller(id));
        while let Some((caller, node)) = next {
            alone &= node.calls.len() == 1;
            above.insert(caller, alone);
            next = self.caller(caller);
        }
        let mut seen: HashSet<NodeId, RandomState> = HashSet::default();
        let mut found = Wait::Fine;
        let mut turns = vec![(turn, true)];
        while let Some((turn, certain)) = turns.pop() {
            let Some(holder) = self.holders.get(&turn) else { continue };
            let mut below = vec![(*holder, certain)];
            while let Some((at, certain)) = below.pop() {
                if let Some(alone) = above.get(&at) {
                    if certain && *alone {
                        return Wait::Never;
                    }
                    found = Wait::Suspected;
                    continue;
                }
                let Some(node) = self.nodes.get(&at).filter(|_| seen.insert(at)) else { continue };
                turns.extend(node.waits_for.map(|turn| (turn, certain)));
                let certain = certain && node.calls.len() == 1;
                below.extend(node.calls.iter().map(|call| (*call, certain)));
            }
        }
        found
    }

    fn caller(&self, id: NodeId) -> Option<(NodeId, &Node)> {
        let caller = self.nodes.get(&id)?.caller?;
        Some((caller, self.nodes.get(&caller)?))
    }

    /// Everybody that waits for a command, outermost first, and itself.
    pub(super) fn chain(&self, id: NodeId) -> Vec<Name> {
        let mut chain = Vec::new();
        let mut next = Some(id);
        while let Some(node) = next.and_then(|id| self.nodes.get(&id)) {
            chain.push(node.name.clone());
            chain.extend(node.cells.iter().map(|cell| Name::Runner(*cell)));
            next = node.caller;
        }
        chain.reverse();
        chain
    }

    /// What a command waits for: the first that it has called, and so on.
    pub(super) fn chain_below(&self, id: NodeId) -> Vec<Name> {
        let mut chain = Vec::new();
        let mut next = self.nodes.get(&id);
        while let Some(node) = next {
            next = node.calls.first().and_then(|call| self.nodes.get(call));
            if let Some(below) = next {
                chain.extend(below.cells.iter().rev().map(|cell| Name::Runner(*cell)));
                chain.push(below.name.clone());
            }
        }
        chain
    }

    /// The commands that were begun at `then` or before.
    pub(super) fn older_than(&self, then: Instant) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().filter(move |(_, node)| node.since <= then).map(|(id, node)| (*id, node))
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    pub(super) fn caller_of(&self, id: NodeId) -> Option<NodeId> {
        self.caller(id).map(|(caller, _)| caller)
    }

    /// What the handler in a runner waits for: a command, and what that one
    /// waits for.
    pub(super) fn chain_from(&self, cell: usize) -> Vec<Name> {
        let called = self.nodes.iter().find(|(_, node)| node.cells.first() == Some(&cell));
        let Some((id, node)) = called else { return Vec::new() };
        let mut chain = vec![node.name.clone()];
        chain.extend(self.chain_below(*id));
        chain
    }
}

impl Node {
    /// The turn that it waits for.
    pub(super) fn waits_for(&self) -> Option<usize> {
        self.waits_for
    }

    /// The runners of the handlers between its caller and this.
    pub(super) fn cells(&self) -> &[usize] {
        &self.cells
    }
}

#[cfg(test)]
mod tests;
