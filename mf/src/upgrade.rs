//! Upgrades: instances of a service are replaced by instances of another version, judged by what users see.
//!
//! Owns the record of an upgrade in etcd, the comparison of the new version with the old one, and the order of the
//! steps. Leaves to others: the builds of versions (`builds`), the start of processes (`launch`, the supervisor), and
//! the share of the users that a canary gets (the balancer's agent).
//!
//! Reading order: the pure parts (`options`, `order`, `record`, `counters`, `verdict`), `store` (etcd), `plan` (the
//! start), `observation`, then what drives an upgrade: `driver`, `rolling`, `revert`, `canary`.

pub mod options;
pub mod order;
pub mod record;
pub mod counters;
pub mod verdict;
pub mod store;
pub mod plan;
pub mod observation;
pub mod driver;
mod rolling;
mod revert;
mod canary;
