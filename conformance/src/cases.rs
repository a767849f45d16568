//! The cases of every version, one file for each part of the contract.

pub mod users;
pub mod tokens;
pub mod messages;
pub mod messages_pages;
pub mod channels;
pub mod annotations;
pub mod files;
pub mod profiles;
pub mod ui;
pub mod search;
pub mod topics;
pub mod websocket;
pub mod bad_input;

use crate::suite::Case;

/// Every case for the stack of a name.
pub fn all(stack: &str) -> Vec<Case> {
    // A stack of the monolith has no service beside it.
    let extras = if stack == "services" { vec![search::cases(), topics::cases()] } else { Vec::new() };
    [
        users::cases(),
        tokens::cases(),
        messages::cases(),
        messages_pages::cases(),
        channels::cases(),
        annotations::cases(),
        files::cases(),
        profiles::cases(),
        ui::cases(),
        websocket::cases(),
        bad_input::cases(),
    ]
    .into_iter()
    .chain(extras)
    .flatten()
    .collect()
}
