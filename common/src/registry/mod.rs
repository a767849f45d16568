//! The registry: who runs where, which route goes where, who owns which data.
//!
//! Owns the connection to etcd and the shape of everything that is kept there. What follows from an entry is
//! decided elsewhere: the balancer's agent decides who gets traffic, `mf` writes routes and authorities.
//!
//! Reading order: `keys` (every name there is), `model` (what the values look like), `client` (one request,
//! bounded), `mirror` (an always-current copy), `registration` (how an instance stays known).

pub mod keys;

mod model;
pub use model::{
    Authority, Balance, BalancerState, Door, InstanceEntry, Location, LocationError, Owner, Route,
    ServiceDefinition,
};

mod client;
pub use client::{Credentials, Registry, RegistryError};

mod mirror;
pub use mirror::{Entries, Mirror};

mod registration;
pub use registration::{LEASE_SECONDS, Left, Registration};
