//! The tokens service over a real PostgreSQL and, where it matters, a real etcd. Users is played by the mock server that is
//! made from its document.

mod support;
mod issuing;
mod revocations;
mod passwords;
mod told;
