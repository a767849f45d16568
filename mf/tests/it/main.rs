//! `mf` from outside, with real processes. One program, so that what the tests share is built and linked once.

mod support;

mod stores;
mod supervisor;
mod usage;
