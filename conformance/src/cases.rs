//! The cases of every version, one file for each part of the contract.

pub mod users;
pub mod tokens;
pub mod messages;
pub mod messages_pages;
pub mod channels;
pub mod annotations;
pub mod ui;
pub mod websocket;
pub mod bad_input;

use crate::suite::Case;

/// Every case.
pub fn all() -> Vec<Case> {
    [
        users::cases(),
        tokens::cases(),
        messages::cases(),
        messages_pages::cases(),
        channels::cases(),
        annotations::cases(),
        ui::cases(),
        websocket::cases(),
        bad_input::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
