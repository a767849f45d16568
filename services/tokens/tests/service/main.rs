//! The tokens part over a real PostgreSQL and, for revocations, a real etcd. A mock server generated from the API
//! document replaces users.

mod support;
mod issuing;
mod revocations;
mod rotation;
mod passwords;
mod events;
mod ownership;
