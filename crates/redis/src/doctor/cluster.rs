//! What a cluster says about itself.

use std::sync::Arc;

use redis::cmd;

use super::{Finding, unreached};
use crate::{
    cluster::{
        Cluster,
        slots::{SLOTS, Topology},
    },
    dialer::Dialer,
    error::ConnectionError,
    server::{lines, text},
    wire::Connection,
};

/// Looks at the whole of a cluster, and at each of its masters.
pub(super) async fn look(
    dialer: &Dialer,
    connection: &Connection,
    cluster: &Cluster,
) -> Result<Vec<Finding>, ConnectionError> {
    let topology = cluster.topology().await?;
    let info = dialer.ask(connection, cmd("CLUSTER").arg("INFO")).await?;
    let info = lines(&text(&info).unwrap_or_default());
    let state = info.get("cluster_state").map_or("unknown", String::as_str);
    Ok(vec![whole(&topology, state), replicas(&topology), nodes(dialer, &topology).await])
}

fn whole(topology: &Topology, state: &str) -> Finding {
    let (masters, covered) = (topology.masters().len(), topology.covered());
    if state == "ok" && covered == usize::from(SLOTS) {
        return Finding::ok("cluster", format!("{masters} masters serve all slots"));
    }
    let found =
        format!("its state is {state}, and {masters} masters have {covered} of {SLOTS} slots");
    Finding::problem("cluster", found, "redis-cli --cluster check HOST:PORT, then --cluster fix")
}

fn replicas(topology: &Topology) -> Finding {
    let masters = topology.masters();
    let alone: Vec<_> = masters.iter().filter(|(.., replicas)| *replicas == 0).collect();
    let Some(((host, port), ..)) = alone.first() else {
        return Finding::ok("replicas", "each master has at least one");
    };
    let found = format!(
        "{} of {} masters have none, {host}:{port} for example: nobody takes over from them",
        alone.len(),
        masters.len()
    );
    let advice = "redis-cli --cluster add-node HOST:PORT HOST:PORT --cluster-slave";
    Finding::warning("replicas", found, advice)
}

/// Whether each master lets us in, and is new enough.
async fn nodes(dialer: &Dialer, topology: &Topology) -> Finding {
    let masters = topology.masters();
    for ((host, port), slot, _) in &masters {
        let Some(there) = dialer.for_slot(*slot) else { continue };
        if let Err(error) = there.dial("doctor", false, Arc::new(|_| {})).await {
            let Finding { found, advice, .. } = unreached(&error);
            let found = format!("{host}:{port}: {found}");
            return Finding { check: "nodes", found, advice, ..Finding::problem("", "", "") };
        }
    }
    Finding::ok("nodes", format!("{} masters answer", masters.len()))
}
