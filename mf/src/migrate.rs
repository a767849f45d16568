//! The hand-over of a part on a running stack: `mf` drives the machine of `flack_handover::operator`.
//!
//! Reading order: `records` (the record in etcd), `sides` (the internal operations of both sides), `observation` (what
//! the guards need), `driver` (executes the machine's effects), `next` (what comes next on the way to a side), `plan`
//! (the effects of a step, before it is executed).
//!
//! Leaves to others: every decision about the owner (the machine), and the data (the two sides exchange it).

pub mod records;
pub mod sides;
pub mod observation;
pub mod driver;
pub mod next;
pub mod plan;
