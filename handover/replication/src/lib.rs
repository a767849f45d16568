//! Replication of a part between the monolith and its service, while the part moves.
//!
//! The owner records which rows change (`migrations/shared/0007_change_log.sql`) and answers the operations of
//! `flack_handover::protocol`. The replica's follower copies the tables, then fetches the changed rows and applies them
//! (docs/decisions/0028). Both sides run the same code: after a change of the owner, the former one follows.
//!
//! Reading order: `tables` (what a part's tables are, from the catalog), `rows` (rows as text, and their digests),
//! `change_log` (which rows have changed), `foreign_keys`, `operations` (the routes), `peer` (their client), `replica`
//! (the state of a replica), `apply` (one transaction), `throttle`, `follower` (the task that leads), `verification`.
//!
//! Leaves to others: who owns a part (the record, `flack_common::authority`), and the steps (`mf migrate`).

mod tables;
mod rows;
mod change_log;
mod foreign_keys;
mod operations;
mod peer;
mod replica;
mod apply;
mod throttle;
mod follower;
mod verification;

use axum::Router;
use flack_catalogue::MONOLITH;
use flack_common::{authority::Authority, config::HandoverKeys, process::Background};
use flack_handover::Part;
use sqlx::PgPool;

use crate::{change_log::Wakeups, follower::Follower, operations::Operations, peer::Peer};

/// Starts to follow the other side of each part of the service whenever this side is its replica, and returns the
/// routes of the operations. A part without a key has neither. `internal_url` is the balancer's internal listener;
/// without it, this side answers, but follows nobody.
pub fn start(
    service: &'static str,
    pool: &PgPool,
    authority: &Authority,
    internal_url: Option<&str>,
    keys: &HandoverKeys,
    background: &Background,
) -> Router {
    let own = Part::ALL.into_iter().filter(|part| [part.service().name, MONOLITH].contains(&service));
    let parts: Vec<_> = own.filter_map(|part| Some((part, keys.of(part)?))).collect();
    let mut router = Router::new();
    if parts.is_empty() {
        return router;
    }
    let wakeups = Wakeups::new(pool, background);
    for (part, key) in parts {
        let peer = internal_url.map(|url| Peer::new(url, authority.side().other(), part, key.clone()));
        if let Some(peer) = &peer {
            let follower = Follower::new(part, pool.clone(), peer.clone(), authority.clone());
            let stopping = background.stopping();
            background.spawn(format!("handover of {part}"), follower.run(stopping));
        }
        let operations =
            Operations::new(service, part, pool.clone(), key.clone(), peer, wakeups.clone(), background.clone());
        router = router.merge(operations.router());
    }
    router
}
