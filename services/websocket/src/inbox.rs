//! The inbox: a table of the events that clients receive, kept longer than the ring. A client with a cursor older than the
//! ring receives what it missed from here (`resume`).
//!
//! One instance at a time writes it, beside the hot path (`writer`); all instances read it. The SQL is in `store`.

pub mod store;
pub mod writer;
