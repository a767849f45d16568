//! The inbox: a table of the events that clients receive. It holds more history than the ring buffer. `resume` reads it
//! for clients with an older cursor.
//!
//! One instance at a time writes it, beside the hot path (`writer`). All instances read it. The SQL is in `store`.

pub mod store;
pub mod writer;
