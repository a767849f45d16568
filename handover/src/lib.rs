//! The hand-over: moving a part from the monolith to its service and back, on a live system.
//!
//! Everything here is pure: no clock, no network, no database. Each machine is a function
//! `decide(state, input) -> (state, effects)`; the caller executes the effects and passes their results on as inputs.
//! So the same functions can run in `mf`, in the services, and in the model checker (`handover/model`), which tries
//! every order of inputs, with crashes, delays, duplicates and losses between any two of them.
//!
//! Effects are idempotent: the caller may repeat one when it does not know whether it happened.
//!
//! Leaves to others: the effects. The SQL of the fence is in `migrations/shared/`; a test in the monolith compares it
//! with `fence::decide`.

pub mod record;
pub mod fence;
pub mod replica;
pub mod request;
pub mod guards;
pub mod operator;
pub mod steps;
pub mod protocol;

pub use record::{Entry, Part, Record, Side, Stage};
