//! The parameter `q`: the filters are parsed here, and the words in the form that PostgreSQL parses.
//!
//! Leaves the words to `websearch_to_tsquery`, which knows quoted phrases, `-word` and `or`, and never fails.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use flack_api::Problem;

/// The length of a day such as 2026-11-01.
const DAY_CHARACTERS: usize = 10;

/// A parsed `q`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// For `websearch_to_tsquery`; empty if there are only filters.
    pub words: String,
    /// The nickname of `from:`.
    pub author: Option<String>,
    /// The name of `in:`.
    pub channel: Option<String>,
    /// Messages before this time.
    pub before: Option<DateTime<Utc>>,
    /// Messages at this time and later: the end of the day of `after:`.
    pub since: Option<DateTime<Utc>>,
}

impl Query {
    /// Parses `q`. 400 for a filter without a valid value or one that is given twice, and for a quote without an end.
    pub fn parse(q: &str) -> Result<Self, Problem> {
        if q.contains('\0') {
            return Err(Problem::bad_request("`q` contains a NUL character (U+0000); remove it"));
        }
        let (mut query, mut rest) = (Self::default(), q.trim_start());
        while !rest.is_empty() {
            let minus = if rest.starts_with('-') { "-" } else { "" };
            rest = rest.trim_start_matches('-');
            let filter = rest.split_once(':').filter(|(name, _)| minus.is_empty() && Filter::named(name).is_some());
            let (term, is_quoted);
            (term, is_quoted, rest) = next_term(filter.map_or(rest, |(_, value)| value))?;
            match filter.and_then(|(name, _)| Filter::named(name)) {
                Some(filter) => query.set(filter, term)?,
                // A quotation mark within a word ends it.
                None if is_quoted || term.contains('"') => {
                    query.words.extend([minus, "\"", &term.replace('"', " "), "\" "]);
                }
                None => query.words.extend([minus, term, " "]),
            }
            rest = rest.trim_start();
        }
        Ok(query)
    }

    fn set(&mut self, filter: Filter, value: &str) -> Result<(), Problem> {
        let is_repeated = match filter {
            Filter::From => self.author.replace(filter.name_in(value, '@')?).is_some(),
            Filter::In => self.channel.replace(filter.name_in(value, '#')?).is_some(),
            Filter::Before => self.before.replace(filter.day_in(value, 0)?).is_some(),
            Filter::After => self.since.replace(filter.day_in(value, 1)?).is_some(),
        };
        if is_repeated {
            return Err(Problem::bad_request(format!("`q` has `{}` twice; it is allowed once", filter.prefix())));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Filter {
    From,
    In,
    Before,
    After,
}

impl Filter {
    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "from" => Some(Self::From),
            "in" => Some(Self::In),
            "before" => Some(Self::Before),
            "after" => Some(Self::After),
            _ => None,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::From => "from:",
            Self::In => "in:",
            Self::Before => "before:",
            Self::After => "after:",
        }
    }

    fn name_in(self, value: &str, mark: char) -> Result<String, Problem> {
        let name = value.strip_prefix(mark).unwrap_or(value);
        if name.is_empty() {
            let prefix = self.prefix();
            return Err(Problem::bad_request(format!("`q` has `{prefix}` without a name; write it after the colon")));
        }
        Ok(name.to_owned())
    }

    /// Returns the beginning of a day in UTC, or of one that is `days` later.
    fn day_in(self, value: &str, days: u64) -> Result<DateTime<Utc>, Problem> {
        // The parser would accept a sign before the year, and fewer digits.
        let is_day =
            |value: &&str| value.len() == DAY_CHARACTERS && value.starts_with(|first: char| first.is_ascii_digit());
        let day = Some(value).filter(is_day);
        let day = day.and_then(|value| NaiveDate::parse_from_str(value, "%Y-%m-%d").ok());
        let day = day.and_then(|day| day.checked_add_days(Days::new(days)));
        day.map(|day| day.and_time(NaiveTime::MIN).and_utc()).ok_or_else(|| {
            let prefix = self.prefix();
            Problem::bad_request(format!("`q` has `{prefix}{value}`, which is no day; write it as {prefix}2026-11-01"))
        })
    }
}

/// Returns the next term without its quotation marks, whether it has any, and the text behind it.
fn next_term(text: &str) -> Result<(&str, bool, &str), Problem> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (term, rest) = quoted.split_once('"').ok_or_else(|| {
            Problem::bad_request(format!("`q` has a quotation mark without an end, before `{quoted}`; add it"))
        })?;
        return Ok((term, true, rest));
    }
    let (term, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    Ok((term, false, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(q: &str) -> String {
        Query::parse(q).expect(q).words
    }

    fn detail(q: &str) -> String {
        Query::parse(q).expect_err(q).detail
    }

    #[test]
    fn words_phrases_and_exclusions_are_passed_on() {
        assert_eq!(words("  deploy  the-app "), "deploy the-app ");
        assert_eq!(words("\"roll back\" -\"roll out\" -users"), "\"roll back\" -\"roll out\" -users ");
        assert_eq!(words("--flag - x\"y"), "-flag - \"x y\" ");
        assert_eq!(words("http://a.example fromage:x -from:ada"), "http://a.example fromage:x -from:ada ");
    }

    #[test]
    fn filters_are_in_any_place_and_any_case() {
        let query = Query::parse("From:@Ada plan in:#general BEFORE:2026-11-01 after:2026-10-31").expect("a query");
        assert_eq!(query.words, "plan ");
        assert_eq!((query.author.as_deref(), query.channel.as_deref()), (Some("Ada"), Some("general")));
        assert_eq!(query.before.expect("a time").to_rfc3339(), "2026-11-01T00:00:00+00:00");
        assert_eq!(query.since, query.before, "after the end of 31 October");
        assert_eq!(Query::parse("from:\"ada lovelace\"").expect("a query").author.as_deref(), Some("ada lovelace"));
    }

    #[test]
    fn a_problem_names_what_is_wrong() {
        for (q, expected) in [
            ("from:", "`from:` without a name"),
            ("in:# x", "`in:` without a name"),
            ("before:2026-13-01", "`before:2026-13-01`, which is no day; write it as before:2026-11-01"),
            ("after:2026-1-01", "`after:2026-1-01`, which is no day"),
            ("after:yesterday", "`after:yesterday`"),
            ("before:-026-01-01", "which is no day"),
            ("before:", "`before:`"),
            ("in:a in:b", "`in:` twice"),
            ("say \"hello world", "before `hello world`"),
            ("nul\0", "NUL"),
        ] {
            assert!(detail(q).contains(expected), "{q}: {}", detail(q));
        }
    }
}
