//! Mentions: `@nickname` and `@channel` in the text of a message.
//!
//! Leaves to others: where a mention can be (`markdown`), and who can see the channel (`store`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Mentions of users in one message. Later ones are text.
pub const MENTIONS_MAX: usize = 50;

/// Names that are looked up for one message. A nickname may contain punctuation, so `@ada's` may be two of them.
pub const CANDIDATES_MAX: usize = 200;

/// The longest nickname.
const NICKNAME_CHARS_MAX: usize = 32;

/// Mentions all members of the channel, also if a user has this nickname.
const EVERYONE: &str = "channel";

/// Whom a message mentions: the column `mentions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mentions {
    /// Users by id, with the nickname that they had then.
    pub users: BTreeMap<i64, String>,
    /// All members of the channel.
    pub everyone: bool,
}

impl Mentions {
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && !self.everyone
    }
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Span<'a> {
    Text(&'a str),
    User(i64, &'a str),
    Everyone(&'a str),
}

/// Splits a text at the mentions of known users and of everyone. A user is found by the longest name that is known.
pub fn spans<'a>(text: &'a str, known: &BTreeMap<i64, String>) -> Vec<Span<'a>> {
    let known: BTreeMap<String, i64> = known.iter().map(|(id, nickname)| (nickname.to_lowercase(), *id)).collect();
    let (mut spans, mut done) = (Vec::new(), 0);
    for at in starts(text) {
        // Inside of a name that was found, such as the second `@` of `@a@b`.
        if at < done {
            continue;
        }
        for end in ends(text, at) {
            let name = text[at + 1..end].to_lowercase();
            let shown = &text[at..end];
            let span = if name == EVERYONE {
                Span::Everyone(shown)
            } else if let Some(id) = known.get(&name) {
                Span::User(*id, shown)
            } else {
                continue;
            };
            if done < at {
                spans.push(Span::Text(&text[done..at]));
            }
            spans.push(span);
            done = end;
            break;
        }
    }
    if done < text.len() {
        spans.push(Span::Text(&text[done..]));
    }
    spans
}

/// Adds the names in a text that may be nicknames, in lower case.
pub fn add_candidates(text: &str, candidates: &mut BTreeSet<String>) {
    for at in starts(text) {
        for end in ends(text, at) {
            if candidates.len() < CANDIDATES_MAX {
                candidates.insert(text[at + 1..end].to_lowercase());
            }
        }
    }
}

/// Returns where an `@` is that is not inside of a word: `ada@example.org` mentions nobody.
fn starts(text: &str) -> impl Iterator<Item = usize> {
    let is_inside =
        move |at: usize| text[..at].chars().next_back().is_some_and(|before| is_word(before) || before == '@');
    text.match_indices('@').map(|(at, _)| at).filter(move |at| !is_inside(*at))
}

/// Returns where the name after the `@` may end, the longest one first: before white space, a colon, or anything that
/// is no letter and no digit.
fn ends(text: &str, at: usize) -> Vec<usize> {
    let name = &text[at + 1..];
    let mut ends = Vec::new();
    let mut before = None;
    for (index, character) in name.char_indices().take(NICKNAME_CHARS_MAX + 1) {
        if before.is_some_and(|before| !(is_word(before) && is_word(character))) {
            ends.push(at + 1 + index);
        }
        if character.is_whitespace() || character == ':' {
            return ends.into_iter().rev().collect();
        }
        before = Some(character);
    }
    if before.is_some() && name.chars().nth(NICKNAME_CHARS_MAX).is_none() {
        ends.push(text.len());
    }
    ends.reverse();
    ends
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> BTreeMap<i64, String> {
        [(1, "ada"), (2, "ada-b"), (3, "Zoë"), (4, "channel"), (5, "x@y"), (6, "🦀")]
            .map(|(id, nickname)| (id, nickname.to_owned()))
            .into()
    }

    #[test]
    fn the_longest_known_name_is_mentioned() {
        let known = known();
        for (text, expected) in [
            ("@ada", vec![Span::User(1, "@ada")]),
            ("Hi @ADA, hi", vec![Span::Text("Hi "), Span::User(1, "@ADA"), Span::Text(", hi")]),
            ("@ada's", vec![Span::User(1, "@ada"), Span::Text("'s")]),
            ("@ada-b.", vec![Span::User(2, "@ada-b"), Span::Text(".")]),
            ("@ada-bc", vec![Span::User(1, "@ada"), Span::Text("-bc")]),
            ("(@zoë)", vec![Span::Text("("), Span::User(3, "@zoë"), Span::Text(")")]),
            ("@channel!", vec![Span::Everyone("@channel"), Span::Text("!")]),
            ("@x@y@ada", vec![Span::User(5, "@x@y"), Span::Text("@ada")]),
            ("@🦀: yes", vec![Span::User(6, "@🦀"), Span::Text(": yes")]),
        ] {
            assert_eq!(spans(text, &known), expected, "{text}");
        }
    }

    #[test]
    fn other_text_mentions_nobody() {
        let known = known();
        let long = format!("@{}", "a".repeat(9000));
        for text in ["ada", "@ ada", "@", "@@", "me@ada", "@adam", "@channels", "@ad a", "@:ada", &long, "é@ada"] {
            assert_eq!(spans(text, &known), [Span::Text(text)], "{text}");
        }
        assert!(spans("", &known).is_empty());
    }

    #[test]
    fn candidates_are_limited() {
        let mut candidates = BTreeSet::new();
        add_candidates("@Ada's and me@example.org", &mut candidates);
        assert_eq!(candidates, BTreeSet::from(["ada", "ada'", "ada's"].map(str::to_owned)));
        add_candidates(&"@a.b.c.d.e ".repeat(9).replace(' ', "x @"), &mut candidates);
        add_candidates(&(0..500).map(|number| format!("@{number} ")).collect::<Vec<_>>().concat(), &mut candidates);
        assert_eq!(candidates.len(), CANDIDATES_MAX);
    }
}
