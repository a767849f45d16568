//! Nicknames: which ones a user can take, and which ones are confusable.
//!
//! Leaves to others: what the API document checks already (length, white space, colon, C0 controls), and who holds a
//! nickname (`store.rs`). Users who registered before these rules keep their nicknames.

use std::collections::BTreeSet;

use flack_api::{Problem, users::types};
use flack_common::text::BLANK_SYMBOLS;
use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, Emoji, GeneralCategory, GeneralCategoryGroup},
};
use unicase::UniCase;
use unicode_bidi::{BidiInfo, Level};
use unicode_normalization::UnicodeNormalization;

/// As `maxLength` in the API document. Checked again, because a few characters become two in NFC.
const NICKNAME_CHARS_MAX: usize = 32;

/// Marks above or below one letter. The limit of Unicode TR 39, section 5.4: more are used only to cover other lines.
const MARKS_IN_A_ROW_MAX: usize = 4;

/// A longer key is cut off, because PostgreSQL indexes at most 2,704 bytes. Only compatibility characters that stand
/// for whole phrases have such keys.
const KEY_BYTES_MAX: usize = 1024;

/// Each round maps letters to simpler ones; every code point is stable after three.
const KEY_ROUNDS_MAX: usize = 8;

/// Variation selectors that choose between the text and the emoji form of the character before them.
const EMOJI_SELECTORS: [char; 2] = ['\u{fe0e}', '\u{fe0f}'];

/// A nickname that a user can take, if no other user holds one of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nickname(String);

impl Nickname {
    /// Returns the nickname in NFC, as it is stored and shown; 400 when people could not see what it consists of.
    pub fn parse(given: &types::Nickname) -> Result<Self, Problem> {
        let text: String = without_emoji_selectors(given).nfc().collect();
        match refusal(&text) {
            None => Ok(Self(text)),
            Some(reason) => Err(Problem::bad_request(format!(
                "`nickname` {reason}; use 1 to {NICKNAME_CHARS_MAX} visible characters: letters and digits of any \
                 language, punctuation, symbols, single emoji"
            ))),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn keys(&self) -> Vec<String> {
        keys(&self.0)
    }
}

/// Drops the selectors that a phone's keyboard appends to an emoji. Anywhere else they are refused as invisible.
fn without_emoji_selectors(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for character in text.chars() {
        let after_emoji = || {
            kept.chars()
                .next_back()
                .is_some_and(|last| !last.is_ascii() && CodePointSetData::new::<Emoji>().contains(last))
        };
        if !(EMOJI_SELECTORS.contains(&character) && after_emoji()) {
            kept.push(character);
        }
    }
    kept
}

/// Returns what is wrong with a nickname.
fn refusal(nickname: &str) -> Option<String> {
    let categories = CodePointMapData::<GeneralCategory>::new();
    for character in nickname.chars() {
        let invisible = CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
            || BLANK_SYMBOLS.contains(&character);
        let kind = match categories.get(character) {
            GeneralCategory::Control => "a control character",
            GeneralCategory::SpaceSeparator | GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator => {
                "white space"
            }
            _ if invisible => "an invisible character",
            GeneralCategory::Format => "an invisible format character",
            GeneralCategory::PrivateUse => "a private use character",
            GeneralCategory::Unassigned | GeneralCategory::Surrogate => "an unassigned code point",
            _ => continue,
        };
        return Some(format!("contains {kind}, U+{:04X}", u32::from(character)));
    }
    let is_mark = |&character: &char| GeneralCategoryGroup::Mark.contains(categories.get(character));
    if nickname.chars().next().as_ref().is_some_and(is_mark) {
        return Some("begins with a combining mark".to_owned());
    }
    let mut marks = 0;
    let mut before = None;
    for character in nickname.nfd() {
        let category = categories.get(character);
        let above_or_below = matches!(category, GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark);
        marks = if above_or_below { marks + 1 } else { 0 };
        if marks > MARKS_IN_A_ROW_MAX {
            return Some(format!("has more than {MARKS_IN_A_ROW_MAX} combining marks on one character"));
        }
        if above_or_below && before == Some(character) {
            return Some("has the same combining mark twice on one character".to_owned());
        }
        before = Some(character);
    }
    let characters = nickname.chars().count();
    (characters > NICKNAME_CHARS_MAX).then(|| format!("has {characters} characters after normalization (NFC)"))
}

/// Returns the keys of a nickname. Two nicknames that share a key are confusable: they look alike.
///
/// A key is the skeleton of Unicode TR 39, in lower case, of the characters in the order in which they are displayed.
/// There are two keys when upper-case letters are confusable with others than lower-case ones: `Ivan` looks like `lvan`
/// with a small L, and is another spelling of `ivan`, but `lvan` and `ivan` look different.
pub fn keys(nickname: &str) -> Vec<String> {
    let displayed = displayed(&nickname.nfkc().collect::<String>());
    // Sorted, so that two requests for the same keys insert them in the same order.
    BTreeSet::from([key(&displayed), key(&fold_case(&displayed))]).into_iter().collect()
}

/// Returns the spelling that sign-in compares (`NFKC_Casefold` of Unicode): case, width, composition and
/// invisible characters make no difference. Confusable characters of other scripts do.
pub fn normal_form(nickname: &str) -> String {
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let visible: String = nickname.chars().filter(|&character| !ignorable.contains(character)).nfkc().collect();
    fold_case(&visible).nfkc().collect()
}

/// Returns the characters in the order in which a line from left to right displays them.
fn displayed(text: &str) -> String {
    let info = BidiInfo::new(text, Some(Level::ltr()));
    info.paragraphs.iter().map(|paragraph| info.reorder_line(paragraph, paragraph.range.clone())).collect()
}

/// Repeats, because a small letter that folding makes can have a skeleton of its own.
fn key(displayed: &str) -> String {
    let mut key = displayed.to_owned();
    for _ in 0..KEY_ROUNDS_MAX {
        let next = fold_case(&unicode_security::skeleton(&key).collect::<String>());
        if next == key {
            break;
        }
        key = next;
    }
    key.truncate(key.floor_char_boundary(KEY_BYTES_MAX));
    key
}

fn fold_case(text: &str) -> String {
    UniCase::new(text).to_folded_case()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_character() -> impl Iterator<Item = char> {
        (0..=u32::from(char::MAX)).filter_map(char::from_u32)
    }

    /// All characters but those of the large scripts in which no character has a mapping, which would take a minute.
    fn mapped_characters() -> impl Iterator<Item = char> {
        every_character().filter(|&character| {
            let large = matches!(character,
                '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{17000}'..='\u{18dff}'
                | '\u{20000}'..='\u{2f7ff}' | '\u{30000}'..='\u{3ffff}');
            let category = CodePointMapData::<GeneralCategory>::new().get(character);
            !large && !matches!(category, GeneralCategory::Unassigned | GeneralCategory::PrivateUse)
        })
    }

    #[test]
    fn no_control_format_private_unassigned_or_invisible_character_is_accepted() {
        for character in every_character() {
            let category = CodePointMapData::<GeneralCategory>::new().get(character);
            let deceptive = matches!(
                category,
                GeneralCategory::Control
                    | GeneralCategory::Format
                    | GeneralCategory::PrivateUse
                    | GeneralCategory::Unassigned
                    | GeneralCategory::SpaceSeparator
                    | GeneralCategory::LineSeparator
                    | GeneralCategory::ParagraphSeparator
            ) || character.is_control()
                || character.is_whitespace()
                || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character);
            if deceptive {
                // As the first character, and where the selector of an emoji is dropped.
                let after_letter = without_emoji_selectors(&format!("語{character}"));
                for nickname in [character.to_string(), after_letter] {
                    assert!(refusal(&nickname).is_some(), "U+{:04X}", u32::from(character));
                }
            }
        }
    }

    #[test]
    fn every_letter_digit_punctuation_mark_and_symbol_is_accepted() {
        let honest = GeneralCategoryGroup::Letter
            .union(GeneralCategoryGroup::Number)
            .union(GeneralCategoryGroup::Symbol)
            .union(GeneralCategoryGroup::Punctuation);
        let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
        for character in every_character() {
            let excepted = BLANK_SYMBOLS.contains(&character) || ignorable.contains(character);
            if honest.contains(CodePointMapData::<GeneralCategory>::new().get(character)) && !excepted {
                assert_eq!(refusal(&character.to_string()), None, "U+{:04X}", u32::from(character));
            }
        }
    }

    #[test]
    fn a_key_has_a_limited_size_and_is_the_key_of_itself() {
        for character in mapped_characters() {
            let displayed: String = format!("A{character}1").nfkc().collect();
            let first = key(&displayed);
            assert_eq!(key(&first), first, "U+{:04X}", u32::from(character));
            if displayed.chars().count() > 5 {
                let longest = key(&displayed.repeat(NICKNAME_CHARS_MAX));
                assert!(longest.len() <= KEY_BYTES_MAX, "U+{:04X}: {}", u32::from(character), longest.len());
            }
        }
    }

    #[test]
    fn case_width_and_composition_make_no_difference_to_keys_and_normal_forms() {
        for character in mapped_characters() {
            let nickname = format!("x{character}");
            let (form, all_keys) = (normal_form(&nickname), keys(&nickname));
            let decomposed: String = nickname.nfd().collect();
            let simple: String = nickname.nfkc().collect();
            for variant in [decomposed, simple, fold_case(&nickname)] {
                if variant != nickname {
                    assert_eq!(normal_form(&variant), form, "U+{:04X}", u32::from(character));
                    let keys = keys(&variant);
                    let shared = keys.iter().any(|key| all_keys.contains(key));
                    assert!(shared, "U+{:04X}: {keys:?} {all_keys:?}", u32::from(character));
                }
            }
        }
    }

    #[test]
    fn generated_nicknames_do_not_collide() {
        // As load and conformance tests make them: hexadecimal digits and decimal numbers after a stem.
        let nicknames = (0..2_000_u32)
            .flat_map(|number| [format!("poster-{number}"), format!("ada-{:08x}", number.wrapping_mul(2_654_435_761))]);
        let mut seen = BTreeSet::new();
        for nickname in nicknames {
            for key in keys(&nickname) {
                assert!(seen.insert(key), "{nickname}");
            }
        }
    }

    #[test]
    fn confusable_nicknames_share_a_key_and_different_ones_do_not() {
        let confusable = |one: &str, other: &str| keys(one).iter().any(|key| keys(other).contains(key));
        for (one, other) in [("Ivan", "lvan"), ("ivan", "\u{406}van"), ("Elia", "ELIA"), ("user1", "userl")] {
            assert!(confusable(one, other), "{one} and {other}");
        }
        for (one, other) in [("Elia", "Ella"), ("Lia", "Ila"), ("Unal", "Ünal"), ("useri", "userl"), ("ivan", "lvan")]
        {
            assert!(!confusable(one, other), "{one} and {other}");
        }
        assert_eq!(keys("\u{202e}lapyap"), keys("paypal"), "as it is displayed");
    }
}
