//! Pages that a message links: the texts of their previews are bounded.

use flack_messages::page;
use url::Url;

pub fn check(input: &[u8]) {
    let url = Url::parse("https://page.example/").expect("an address");
    let Some(preview) = page::preview(&url, input) else { return };
    for (text, characters_max) in [
        (Some(&preview.title), page::TITLE_CHARACTERS_MAX),
        (preview.description.as_ref(), page::DESCRIPTION_CHARACTERS_MAX),
    ] {
        let Some(text) = text else { continue };
        assert!(text.chars().count() <= characters_max, "{} characters", text.chars().count());
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}
