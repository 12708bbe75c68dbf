//! Who is who: roles, teams, names and types.

use serde::Serialize;
use swarmbus::{EventType, core::event::EventTypeError};

/// One of each role.
pub(super) const MIN_AGENTS: usize = 3;

/// How many agents have which role.
///
/// Agents work in teams of about ten: a coordinator gives tasks to the workers
/// of its team, and all validators of the team vote on each result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Swarm {
    pub(super) coordinators: usize,
    pub(super) workers: usize,
    pub(super) validators: usize,
    pub(super) teams: usize,
}

impl Swarm {
    /// `agents` is at least [`MIN_AGENTS`].
    pub(super) fn of(agents: usize) -> Self {
        let few = (agents / 5).max(1);
        Self {
            coordinators: few,
            workers: agents.saturating_sub(2 * few).max(1),
            validators: few,
            teams: few.div_ceil(2),
        }
    }

    /// The team of the agent with this number in its role.
    pub(super) fn team_of(&self, number: usize) -> usize {
        number % self.teams
    }

    /// The members of a team among `of` agents of one role.
    pub(super) fn members(&self, team: usize, of: usize) -> impl Iterator<Item = usize> + use<> {
        (team..of).step_by(self.teams)
    }

    /// Events that one task publishes: itself, its result and the votes.
    pub(super) fn events_per_task(&self) -> f64 {
        2.0 + self.validators as f64 / self.teams as f64
    }
}

/// The type of tasks for one worker: each agent has types of its own, as a
/// type that all use would be looked up, counted and judged for all together.
pub(super) fn task_type(
    worker: usize,
    replayed: Option<&str>,
) -> Result<EventType, EventTypeError> {
    match replayed {
        None => EventType::new(format!("worker.{worker}.task")),
        Some(ty) => EventType::new(format!("worker.{worker}.task.{ty}")),
    }
}

/// What a worker subscribes to.
pub(super) fn task_pattern(worker: usize, replay: bool) -> String {
    format!("worker.{worker}.task{}", if replay { ".>" } else { "" })
}

/// The type of a worker's results.
pub(super) fn result_type(team: usize, worker: usize) -> Result<EventType, EventTypeError> {
    EventType::new(format!("team.{team}.result.{worker}"))
}

/// What a validator subscribes to.
pub(super) fn result_pattern(team: usize) -> String {
    format!("team.{team}.result.*")
}

/// The type of votes for one coordinator, which is also what it subscribes to.
pub(super) fn vote_type(coordinator: usize) -> Result<EventType, EventTypeError> {
    EventType::new(format!("coordinator.{coordinator}.vote"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_agents_are_ten_teams() {
        let swarm = Swarm { coordinators: 20, workers: 60, validators: 20, teams: 10 };
        assert_eq!(Swarm::of(100), swarm);
        assert_eq!(swarm.events_per_task(), 4.0);
        assert_eq!(swarm.members(3, 60).collect::<Vec<_>>(), [3, 13, 23, 33, 43, 53]);
    }

    #[test]
    fn every_team_has_every_role() {
        for agents in MIN_AGENTS..=1_000 {
            let swarm = Swarm::of(agents);
            assert_eq!(swarm.coordinators + swarm.workers + swarm.validators, agents);
            for team in 0..swarm.teams {
                for role in [swarm.coordinators, swarm.workers, swarm.validators] {
                    assert!(swarm.members(team, role).next().is_some(), "{agents} agents");
                }
            }
        }
    }
}
