//! Messages: their HTML is bounded, and clean.

use std::collections::BTreeMap;

use flack_messages::render::{self, HTML_BYTES_MAX, PREVIEWS_PER_MESSAGE_MAX};

/// The router refuses longer messages.
const SOURCE_CHARACTERS_MAX: usize = 8192;

pub fn check(input: &[u8]) {
    let Ok(source) = std::str::from_utf8(input) else { return };
    if source.chars().count() > SOURCE_CHARACTERS_MAX {
        return;
    }
    let users = BTreeMap::from([(7, "ada".to_owned())]);
    let Ok(message) = render::message(source, users) else { return };
    assert!(message.html.len() <= HTML_BYTES_MAX, "{} bytes of HTML", message.html.len());
    assert_eq!(render::clean(&message.html), message.html);
    assert!(message.links.len() <= PREVIEWS_PER_MESSAGE_MAX);
}
