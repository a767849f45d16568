//! The host names under which clients reach the listeners, as regular expressions for the header `Host`.
//!
//! A page at a name that its owner lets resolve to this machine (DNS rebinding) is of the same origin as the chat. So
//! the balancer answers only requests for names that are known to belong to it.

use std::{net::IpAddr, str::FromStr};

/// Names that resolve to this machine and cannot be registered.
const LOOPBACK: [&str; 3] = [r"([a-z0-9_-]+\.)*localhost", r"127(\.[0-9]{1,3}){3}", r"\[::1\]"];
/// Addresses, and names without a dot, as in a network of containers. Nobody can register those either.
const SHORT: [&str; 3] = ["[a-z0-9_-]+", "[0-9.]+", r"\[[0-9a-f:.]+\]"];
/// HAProxy refuses lines above 2,048 bytes.
const PATTERNS_BYTES_MAX: usize = 1_000;

/// The names of the public listener besides the loopback names: patterns, one for each name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicHosts(Vec<String>);

impl PublicHosts {
    /// Returns the name of this machine, or none if it is not a host name.
    pub fn of_this_machine() -> Self {
        let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        name.and_then(|name| name.parse().ok()).unwrap_or_default()
    }

    /// Returns the expression for the public listener, as a word of HAProxy's configuration.
    pub fn known(&self) -> String {
        expression(LOOPBACK.into_iter().chain(self.0.iter().map(String::as_str)))
    }
}

/// Returns the expression for what the other listeners accept in addition.
pub fn short() -> String {
    expression(SHORT)
}

fn expression<'a>(patterns: impl IntoIterator<Item = &'a str>) -> String {
    format!(r"'^({})\.?(:[0-9]*)?$'", patterns.into_iter().collect::<Vec<_>>().join("|"))
}

impl FromStr for PublicHosts {
    type Err = String;

    /// Parses names and addresses, separated by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let patterns: Vec<String> = names.map(pattern).collect::<Result<_, _>>()?;
        if patterns.iter().map(String::len).sum::<usize>() > PATTERNS_BYTES_MAX {
            return Err(format!("the names have more than {PATTERNS_BYTES_MAX} characters; use *.example.org"));
        }
        Ok(Self(patterns))
    }
}

fn pattern(name: &str) -> Result<String, String> {
    match name.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(address)) => return Ok(address.to_string().replace('.', r"\.")),
        Ok(IpAddr::V6(address)) => return Ok(format!(r"\[{address}\]")),
        Err(_) => {}
    }
    let lower = name.to_ascii_lowercase();
    let (any, rest) = lower.strip_prefix("*.").map_or(("", lower.as_str()), |rest| (r"([a-z0-9_-]+\.)+", rest));
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    let rest = rest.strip_suffix('.').unwrap_or(rest);
    if !rest.split('.').all(is_label) {
        return Err(format!(
            "`{name}` is not a host name; write chat.example.org, *.example.org or an address, without scheme and port"
        ));
    }
    Ok(format!("{any}{}", rest.replace('.', r"\.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_become_patterns_that_match_nothing_else() {
        let hosts: PublicHosts = " Chat.example.org, *.example.net.,192.0.2.7, [2001:db8::7], ".parse().expect("names");
        assert_eq!(
            hosts.0,
            [r"chat\.example\.org", r"([a-z0-9_-]+\.)+example\.net", r"192\.0\.2\.7", r"\[2001:db8::7\]"]
        );
        assert!(hosts.known().starts_with(r"'^(([a-z0-9_-]+\.)*localhost|"));
        assert!(hosts.known().ends_with(r"|\[2001:db8::7\])\.?(:[0-9]*)?$'"));
    }

    #[test]
    fn what_is_not_a_host_name_is_an_error() {
        for text in ["http://a.b", "a.b:80", "a..b", "*", "*.", "a b", "a'b", "a.*.b", "a|b", ".", "ä.org"] {
            assert!(text.parse::<PublicHosts>().is_err_and(|error| error.contains(text)), "{text}");
        }
        assert!(vec!["example.org"; 200].join(",").parse::<PublicHosts>().is_err());
        assert_eq!("".parse::<PublicHosts>(), Ok(PublicHosts::default()));
    }
}
