//! The cases of version 1, one file for each part of the contract.

pub mod users;
pub mod tokens;
pub mod messages;
pub mod ui;
pub mod websocket;
pub mod bad_input;

use crate::suite::Case;

/// Every case of version 1.
pub fn all() -> Vec<Case> {
    [users::cases(), tokens::cases(), messages::cases(), ui::cases(), websocket::cases(), bad_input::cases()]
        .into_iter()
        .flatten()
        .collect()
}
