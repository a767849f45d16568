//! Fuzz targets: functions that take any bytes, and panic when Flack's code does something wrong with them.
//!
//! The example gives them inputs of libFuzzer, which changes an input and keeps the change when the input reaches new
//! code. The test gives them the stored inputs of `corpus/`. Leaves wrong behaviour for valid input to other tests.

mod requests;
mod frames;
mod messages;
mod pages;

pub type Target = fn(&[u8]);

/// The targets, by the name of their folder in `corpus/`.
pub const TARGETS: [(&str, Target); 4] =
    [("requests", requests::check), ("frames", frames::check), ("messages", messages::check), ("pages", pages::check)];
