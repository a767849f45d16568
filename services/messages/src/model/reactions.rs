//! Reactions to a message: which emoji there are, limits, and problems.

use std::sync::LazyLock;

use flack_api::{Problem, events::ReactionModel};
use regress::Regex;

/// Different emoji on one message. Every client receives all of them with each change of the message.
pub const REACTIONS_PER_MESSAGE_MAX: usize = 20;

/// Users with the same reaction to one message.
pub const USERS_PER_REACTION_MAX: usize = 100;

/// One emoji: a flag, a keycap, or pictures that are joined to one, each with a skin tone, a variation selector or the
/// tags of a regional flag (Unicode TR 51, section 1.4.9). Its length is limited by the API document.
static EMOJI: LazyLock<Regex> = LazyLock::new(|| {
    let picture = r"\p{Extended_Pictographic}(?:\p{Emoji_Modifier}|\u{fe0f}|[\u{e0020}-\u{e007e}]+\u{e007f})?";
    let flag = r"\p{Regional_Indicator}{2}";
    let pattern = format!(r"^(?:{flag}|[#*0-9]\u{{fe0f}}?\u{{20e3}}|{picture}(?:\u{{200d}}{picture})*)$");
    Regex::with_flags(&pattern, "u").expect("a valid pattern")
});

/// 400 for a text that is not one emoji.
pub fn check_emoji(text: &str) -> Result<(), Problem> {
    if EMOJI.find(text).is_some() {
        Ok(())
    } else {
        Err(Problem::bad_request("`emoji` has to be one emoji, percent-encoded, such as `%F0%9F%91%8D`"))
    }
}

/// Adds the reaction of a user. Returns whether it is new; 409 when there are too many.
pub fn add(reactions: &mut Vec<ReactionModel>, user_id: i64, emoji: &str) -> Result<bool, Problem> {
    let Some(same) = reactions.iter_mut().find(|reaction| reaction.emoji == emoji) else {
        if reactions.len() >= REACTIONS_PER_MESSAGE_MAX {
            return Err(too_many(&format!("{REACTIONS_PER_MESSAGE_MAX} different reactions")));
        }
        reactions.push(ReactionModel { emoji: emoji.to_owned(), user_ids: vec![user_id] });
        return Ok(true);
    };
    if same.user_ids.contains(&user_id) {
        return Ok(false);
    }
    if same.user_ids.len() >= USERS_PER_REACTION_MAX {
        return Err(too_many(&format!("this reaction of {USERS_PER_REACTION_MAX} users")));
    }
    same.user_ids.push(user_id);
    Ok(true)
}

/// Removes the reaction of a user. Returns whether there was one.
pub fn remove(reactions: &mut Vec<ReactionModel>, user_id: i64, emoji: &str) -> bool {
    let Some(same) = reactions.iter_mut().find(|reaction| reaction.emoji == emoji) else { return false };
    let before = same.user_ids.len();
    same.user_ids.retain(|id| *id != user_id);
    let is_removed = same.user_ids.len() < before;
    reactions.retain(|reaction| !reaction.user_ids.is_empty());
    is_removed
}

fn too_many(what: &str) -> Problem {
    Problem::conflict("too-many-reactions", format!("the message has {what}, which is the limit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_emoji_is_a_reaction_and_text_is_not() {
        for emoji in ["👍", "❤️", "❤", "👍🏽", "🇩🇪", "1️⃣", "👩‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "👩🏽‍❤️‍💋‍👩🏽", "🏳️‍🌈", "🫠"]
        {
            assert!(check_emoji(emoji).is_ok(), "{emoji}");
            assert!(emoji.chars().count() <= 10, "{emoji} is longer than the API document allows");
        }
        for text in
            ["", "a", "1", "#", "👍👍", "👍a", " 👍", ":+1:", "é", "\u{200d}", "🏽", "🇩", "🇩🇪🇫🇷", "<b>", "{emoji}"]
        {
            assert!(check_emoji(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_reaction_counts_once_for_each_user() {
        let mut reactions = Vec::new();
        assert_eq!(add(&mut reactions, 1, "👍"), Ok(true));
        assert_eq!(add(&mut reactions, 1, "👍"), Ok(false));
        assert_eq!(add(&mut reactions, 2, "👍"), Ok(true));
        assert_eq!(add(&mut reactions, 2, "🎉"), Ok(true));
        assert!(remove(&mut reactions, 1, "👍"));
        assert!(
            !remove(&mut reactions, 1, "👍") && !remove(&mut reactions, 1, "🎉") && !remove(&mut reactions, 1, "🐛")
        );
        let expected = [("👍", 2), ("🎉", 2)];
        assert_eq!(reactions, expected.map(|(emoji, id)| ReactionModel { emoji: emoji.into(), user_ids: vec![id] }));
        assert!(remove(&mut reactions, 2, "👍") && remove(&mut reactions, 2, "🎉"));
        assert!(reactions.is_empty());
    }

    #[test]
    fn emoji_and_users_are_limited() {
        let mut reactions = Vec::new();
        for user_id in 0..100 {
            assert_eq!(add(&mut reactions, user_id, "👍"), Ok(true));
        }
        assert_eq!(add(&mut reactions, 100, "👍").map_err(|problem| problem.status), Err(409));
        for character in ('🍇'..).take(REACTIONS_PER_MESSAGE_MAX - 1) {
            assert_eq!(add(&mut reactions, 1, &character.to_string()), Ok(true));
        }
        assert_eq!(add(&mut reactions, 1, "🎉").map_err(|problem| problem.status), Err(409));
        assert_eq!(add(&mut reactions, 1, "👍"), Ok(false));
    }
}
