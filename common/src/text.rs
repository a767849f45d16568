//! Characters of names that people write: which ones nobody sees.

use icu_properties::{CodePointSetData, props::DefaultIgnorableCodePoint};

/// Characters that fonts draw as an empty space, although Unicode calls them symbols: the empty Braille pattern, the
/// null note head, and the replacement of an embedded object.
pub const BLANK_SYMBOLS: [char; 3] = ['\u{2800}', '\u{1d159}', '\u{fffc}'];

/// Parts of emoji and of some scripts: not seen alone, but they change what is beside them.
const JOINERS: [char; 4] = ['\u{200c}', '\u{200d}', '\u{fe0e}', '\u{fe0f}'];

/// Whether the character is not seen, changes the direction of a text, or ends a line.
pub fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}')
        || BLANK_SYMBOLS.contains(&character)
        || (CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character) && !JOINERS.contains(&character))
}

/// Removes what is not seen at both ends of a text: white space and joiners.
pub fn trim(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_whitespace() || JOINERS[..2].contains(&character))
        .trim_start_matches(JOINERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_are_not_seen_are_found() {
        for character in "\0\n\u{ad}\u{61c}\u{115f}\u{180e}\u{200b}\u{200f}\u{2028}\u{202e}\u{2066}\u{2800}\u{3164}\
                          \u{feff}\u{ffa0}\u{e0001}"
            .chars()
        {
            assert!(is_invisible(character), "U+{:04X}", u32::from(character));
        }
        for character in "aé語 \u{3000}\u{301}👍".chars() {
            assert!(!is_invisible(character), "U+{:04X}", u32::from(character));
        }
    }

    #[test]
    fn joiners_stay_only_inside_of_a_text() {
        assert_eq!(trim(" \u{200d}👩\u{200d}🚀 \u{fe0f}\u{200d}"), "👩\u{200d}🚀 \u{fe0f}");
        assert_eq!(trim("❤\u{fe0f}"), "❤\u{fe0f}");
        assert_eq!(trim("\u{200d} \u{fe0f}"), "");
    }
}
