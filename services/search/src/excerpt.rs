//! The excerpt of a message, as segments: the marks of PostgreSQL become data, so that no client has to trust HTML. The
//! signs of Markdown are removed.

use flack_api::search::types::SearchSegment;

/// Around a word that was found. They are removed from the source before.
pub const MARK_START: char = '\u{2}';
pub const MARK_END: char = '\u{3}';

/// A message can consist of one very long word.
pub const EXCERPT_CHARACTERS_MAX: usize = 400;

/// Splits an excerpt with marks, and truncates it.
pub fn segments(marked: &str) -> Vec<SearchSegment> {
    let plain = without_signs(marked);
    let marked = plain.as_str();
    let mut segments: Vec<SearchSegment> = Vec::new();
    let mut is_marked = false;
    let characters = marked.chars().filter(|character| ![MARK_START, MARK_END].contains(character)).count();
    let mut left = EXCERPT_CHARACTERS_MAX;
    for character in marked.chars() {
        match character {
            MARK_START => is_marked = true,
            MARK_END => is_marked = false,
            _ if left == 0 => break,
            character => {
                left -= 1;
                // The last one says that there is more.
                let character = if left == 0 && characters > EXCERPT_CHARACTERS_MAX { '…' } else { character };
                match segments.last_mut() {
                    Some(last) if last.marked == is_marked => last.text.push(character),
                    _ => segments.push(SearchSegment { text: character.to_string(), marked: is_marked }),
                }
            }
        }
    }
    segments
}

/// Removes the signs of Markdown, each alone, because an excerpt can begin or end inside a pair. Marks stay.
fn without_signs(marked: &str) -> String {
    let is_mark = |character: char| [MARK_START, MARK_END].contains(&character);
    let last_link = marked.rfind("](");
    let mut plain = String::with_capacity(marked.len());
    let mut before: Option<char> = None;
    let mut begins_line = true;
    let mut is_address = false;
    for (index, character) in marked.char_indices() {
        if is_mark(character) {
            plain.push(character);
            continue;
        }
        let after = marked[index + character.len_utf8()..].chars().find(|next| !is_mark(*next));
        let are_both = |is: fn(char) -> bool| before.is_some_and(is) && after.is_some_and(is);
        let ends_text = character == ']' && after == Some('(');
        // An address ends at the parenthesis; without one, before a space.
        is_address &= !character.is_whitespace();
        let is_sign = is_address
            || match character {
                '`' => true,
                '~' => before == Some('~') || after == Some('~'),
                // Those of snake_case and of 2 * 3 are none.
                '*' | '_' => !are_both(char::is_alphanumeric) && !are_both(char::is_whitespace),
                '#' => begins_line && matches!(after, Some('#' | ' ')),
                '>' => begins_line,
                ' ' => begins_line && matches!(before, Some('#' | '>')),
                '[' => last_link.is_some_and(|link| index < link),
                _ => ends_text,
            };
        is_address = ends_text || (is_address && character != ')');
        begins_line = character == '\n' || (begins_line && is_sign);
        before = Some(character);
        if !is_sign {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(marked: &str) -> Vec<(String, bool)> {
        segments(marked).into_iter().map(|segment| (segment.text, segment.marked)).collect()
    }

    #[test]
    fn marks_become_segments() {
        let expected = [("a ", false), ("<b>", true), (" c ", false), ("d", true)];
        assert_eq!(of("a \u{2}<b>\u{3} c \u{2}d\u{3}"), expected.map(|(text, marked)| (text.to_owned(), marked)));
        assert_eq!(of("\u{2}\u{3}"), []);
    }

    #[test]
    fn signs_of_markdown_are_removed() {
        let expected = [("the ", false), ("term", true), (" of x_y, a link, 2 * 3", false)];
        assert_eq!(
            of("the **\u{2}term\u{3}** of `x_y`, [a link](https://a.example), 2 * 3"),
            expected.map(|(text, marked)| (text.to_owned(), marked))
        );
        for (source, expected) in [
            ("## Title\n> quoted\n#general, a > b", "Title\nquoted\n#general, a > b"),
            ("~~never~~ in ~5 min", "never in ~5 min"),
            ("***a*** and _b_", "a and b"),
            ("end** of a pair, and the *begin", "end of a pair, and the begin"),
            ("[text](https://a.example/without_end and more", "text and more"),
            ("list[0], [x] and (y)", "list[0], [x] and (y)"),
        ] {
            assert_eq!(of(source), [(expected.to_owned(), false)]);
        }
    }

    #[test]
    fn a_long_excerpt_is_truncated() {
        let long = "ü".repeat(EXCERPT_CHARACTERS_MAX);
        assert_eq!(of(&long), [(long.clone(), false)]);
        let truncated = format!("{}…", "ü".repeat(EXCERPT_CHARACTERS_MAX - 1));
        assert_eq!(of(&format!("\u{2}{long}ü\u{3}")), [(truncated, true)]);
    }
}
