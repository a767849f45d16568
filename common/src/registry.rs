//! The registry (etcd): which instance runs where, which paths a service gets, who owns which part.
//!
//! Owns the connection to etcd, the keys and the JSON values. Leaves the decisions to others: the balancer's agent
//! decides which instance gets traffic, `mf` writes routes, splits and authorities.
//!
//! Reading order: `keys` (all key names), `model` (the values), `client` (one request with a timeout), `mirror` (a
//! current copy of a prefix), `registration` (an instance's entry and its lease).

pub mod keys;

mod model;
pub use model::{
    Balance, BalancerState, Exposure, InstanceEntry, Match, MatchText, MatchTextError, PathPattern, PathPatternError,
    Route, ServiceDefinition, Split, WEIGHT_DEFAULT, WEIGHT_MAX,
};

mod client;
pub use client::{Registry, RegistryError};

mod mirror;
pub use mirror::{Entries, Mirror};

mod registration;
pub use registration::{Deregistration, LEASE_SECONDS, Registration};
