//! The inbox: a table of the events that clients receive. It holds more history than the ring buffer. `resume` reads it
//! for a client whose cursor is older than the ring buffer.
//!
//! One instance at a time writes it (`writer`), independently of the feed. All instances read it. The SQL is in
//! `store`.

pub mod store;
pub mod writer;
