//! Who gets another version of a service: the options of commands that write a split, and the ids of users.
//!
//! The balancer's agent moves the instances of the version. It needs no reload for a change of a split, unless the
//! split matches an unusual header or cookie (`haproxy/README.md`).

use std::fmt;

use flack_catalogue::Service;
use flack_common::registry::{Match, MatchText, Split};
use flack_handover::Entry;
use sqlx::Row;

use crate::failure::Result;
use crate::infra::postgres;
use crate::registry::Snapshot;
use crate::stack::Stack;

/// The users of one split. More of them are better chosen by a percentage or by a cookie.
const USERS_MAX: usize = 100;
const PERCENT_MAX: i64 = 100;

/// Which requests get the version.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// This share of the users; each user always gets the same version. 0: none
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=PERCENT_MAX))]
    pub percent: Option<u8>,
    /// Requests with this header
    #[arg(long, value_name = "NAME: VALUE", value_parser = parse_header)]
    pub header: Option<Match>,
    /// Requests with this cookie; in a browser's console: document.cookie = "canary=1"
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_cookie)]
    pub cookie: Option<Match>,
    /// The user with this nickname; can be repeated
    #[arg(long = "user", value_name = "NICKNAME")]
    pub users: Vec<String>,
}

impl Options {
    pub fn are_empty(&self) -> bool {
        self.percent.is_none() && self.header.is_none() && self.cookie.is_none() && self.users.is_empty()
    }

    /// Returns the split of these options.
    pub async fn split(&self, stack: &Stack, snapshot: &Snapshot, version: &str) -> Result<Split> {
        Ok(Split {
            version: version.to_owned(),
            percentage: self.percent.unwrap_or(0),
            header: self.header.clone(),
            cookie: self.cookie.clone(),
            users: user_ids(stack, snapshot, &self.users).await?,
        })
    }
}

fn parse_header(text: &str) -> std::result::Result<Match, String> {
    parse_match(text, ':').ok_or_else(|| "write it like 'X-Canary: 1'".to_owned())?
}

fn parse_cookie(text: &str) -> std::result::Result<Match, String> {
    parse_match(text, '=').ok_or_else(|| "write it like 'canary=1'".to_owned())?
}

/// Returns none if the text has no separator.
fn parse_match(text: &str, separator: char) -> Option<std::result::Result<Match, String>> {
    let (name, value) = text.split_once(separator)?;
    let parse = |text: &str| MatchText::try_from(text.trim().to_owned()).map_err(|error| error.to_string());
    Some(parse(name).and_then(|name| Ok(Match { name, value: parse(value)? })))
}

/// Returns the ids of nicknames, from the database of the owner of users: their API has no search, and needs a token.
pub async fn user_ids(stack: &Stack, snapshot: &Snapshot, nicknames: &[String]) -> Result<Vec<MatchText>> {
    if nicknames.is_empty() {
        return Ok(Vec::new());
    }
    if nicknames.len() > USERS_MAX {
        return Err(failure!(
            Usage,
            "a split has at most {USERS_MAX} users, not {}; choose a percentage or a cookie",
            nicknames.len()
        ));
    }
    let owner = snapshot.authority.get("users").map_or("users", Entry::owner);
    let owner = Service::find(owner)
        .ok_or_else(|| failure!(Internal, "the owner of users is `{owner}`, which is not in the catalogue"))?;
    let failed = |error: sqlx::Error| {
        failure!(
            Unavailable,
            "the nicknames cannot be read from the database of {owner}: {error}. mfps shows what runs"
        )
    };
    let mut connection = postgres::connect_to(&stack.ports, &stack.secrets, owner.database).await.map_err(failed)?;
    // Nicknames are stored in normalization form C, and are unique without regard to case.
    let rows = sqlx::query(
        "select wanted.nickname, users.id from unnest($1::text[]) wanted (nickname)
         left join users on lower(users.nickname) = lower(normalize(wanted.nickname, NFC))",
    )
    .bind(nicknames)
    .fetch_all(&mut connection)
    .await
    .map_err(failed)?;
    let mut ids = Vec::new();
    for row in rows {
        let (nickname, id): (String, Option<i64>) = (row.get("nickname"), row.get("id"));
        let id = id.ok_or_else(|| failure!(Usage, "there is no user `{nickname}`"))?;
        ids.push(MatchText::try_from(id.to_string()).expect("a number has plain characters"));
    }
    Ok(ids)
}

/// Who gets the version of a split, in words.
#[derive(Debug)]
pub struct Audience<'a>(pub &'a Split);

impl fmt::Display for Audience<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Split { percentage, header, cookie, users, .. } = self.0;
        let ids: Vec<String> = users.iter().map(ToString::to_string).collect();
        let parts: Vec<String> = [
            (*percentage > 0).then(|| format!("{percentage} % of the users")),
            header.as_ref().map(|header| format!("requests with {}: {}", header.name, header.value)),
            cookie.as_ref().map(|cookie| format!("requests with the cookie {}={}", cookie.name, cookie.value)),
            (!ids.is_empty()).then(|| format!("the users with id {}", ids.join(", "))),
        ]
        .into_iter()
        .flatten()
        .collect();
        f.write_str(&if parts.is_empty() { "nobody".to_owned() } else { parts.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_and_a_cookie_are_parsed_with_and_without_spaces() {
        for header in ["X-Canary: 1", "X-Canary:1", " X-Canary : 1 "] {
            let header = parse_header(header).expect("a header");
            assert_eq!((header.name.to_string(), header.value.to_string()), ("X-Canary".to_owned(), "1".to_owned()));
        }
        let cookie = parse_cookie("canary=blue").expect("a cookie");
        assert_eq!((cookie.name.to_string(), cookie.value.to_string()), ("canary".to_owned(), "blue".to_owned()));
    }

    #[test]
    fn a_match_that_would_break_the_configuration_is_an_error_that_names_it() {
        for text in
            ["X-Canary", "X-Canary:", ": 1", "X Canary: 1", "X-Canary: a b", "X-Canary: 1\nacl", "X(: 1", "X: é"]
        {
            assert!(parse_header(text).is_err(), "{text:?} was accepted");
        }
        assert!(parse_header("X-Canary: a b").expect_err("a space").contains("\"a b\" is not"));
        assert!(parse_cookie("canary").expect_err("no value").contains("canary=1"));
    }

    #[test]
    fn the_audience_of_a_split_is_described_in_words() {
        let text = |text: &str| MatchText::try_from(text.to_owned()).expect("a plain text");
        let nobody = Split { version: "2".to_owned(), percentage: 0, header: None, cookie: None, users: Vec::new() };
        assert_eq!(Audience(&nobody).to_string(), "nobody");
        let header = Some(Match { name: text("X-Canary"), value: text("1") });
        let some = Split { percentage: 20, header, users: vec![text("7"), text("9")], ..nobody };
        assert_eq!(Audience(&some).to_string(), "20 % of the users, requests with X-Canary: 1, the users with id 7, 9");
    }
}
