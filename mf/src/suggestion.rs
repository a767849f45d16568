//! Suggestions for mistyped names.

use crate::logs::service_of;

/// clap's limit for its own suggestions; names below it have little in common.
const SIMILARITY_MIN: f64 = 0.7;

/// Returns the end of a message about an unknown name: the most similar name, and all that exist. The service of an
/// instance (`users` of `users-1`) is similar, too.
pub fn among<'a>(wanted: &str, kind: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let all =
        if known.is_empty() { format!("there are no {kind}") } else { format!("{kind} are {}", known.join(", ")) };
    let similarity = |name: &str| strsim::jaro_winkler(wanted, name);
    let candidates = known.iter().flat_map(|name| [*name, service_of(name)]);
    let similar = candidates.max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    match similar.filter(|name| similarity(name) > SIMILARITY_MIN) {
        Some(similar) => format!("did you mean `{similar}`? {}{}", all[..1].to_uppercase(), &all[1..]),
        None => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_gets_the_most_similar_one() {
        let known = ["monolith", "users", "tokens"];
        assert_eq!(among("usres", "services", known), "did you mean `users`? Services are monolith, users, tokens",);
        assert!(among("usres", "logs", ["users-1"]).starts_with("did you mean `users`?"));
        assert_eq!(among("x", "services", known), "services are monolith, users, tokens");
        assert_eq!(among("x", "logs", []), "there are no logs");
    }
}
