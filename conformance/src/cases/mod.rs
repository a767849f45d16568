//! The cases, one file per part of the contract, in the order in which a newcomer meets them.

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
