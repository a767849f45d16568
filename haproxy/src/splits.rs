//! Splits: which requests of a service go to its canary backend. The maps have the percentages, users and values; the
//! rules that read them are in `haproxy.cfg`, and below for headers and cookies, whose names HAProxy cannot look up.

use std::collections::{BTreeMap, BTreeSet};

use flack_common::registry::{Match, ServiceDefinition, Split};

use crate::maps::{CANARY, CANARY_PERCENT, Maps, PERCENT_MAX};

/// The rules for these names are always in the configuration, so that a split by one of them needs no reload.
const HEADERS: [&str; 2] = ["x-canary", "x-dev"];
const COOKIES: [&str; 1] = ["canary"];

/// The names of headers (in lower case) and cookies that requests are matched by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchNames {
    headers: BTreeSet<String>,
    cookies: BTreeSet<String>,
}

impl Default for MatchNames {
    fn default() -> Self {
        Self { headers: HEADERS.map(str::to_owned).into(), cookies: COOKIES.map(str::to_owned).into() }
    }
}

impl MatchNames {
    pub fn new(splits: &BTreeMap<String, Split>) -> Self {
        let mut names = Self::default();
        for split in splits.values() {
            names.headers.extend(split.header.as_ref().map(header_name));
            names.cookies.extend(split.cookie.as_ref().map(|cookie| cookie.name.to_string()));
        }
        names
    }

    /// Returns the lines of the configuration that send matching requests to the canary backend.
    pub fn rules(&self) -> String {
        let headers = self.headers.iter().map(|name| rule("header", "req.fhdr", name));
        headers.chain(self.cookies.iter().map(|name| rule("cookie", "req.cook", name))).collect::<Vec<_>>().join("\n")
    }
}

fn rule(kind: &str, fetch: &str, name: &str) -> String {
    let value = format!("    http-request set-var(txn.split_value) {fetch}({name})");
    let key = format!("var(txn.service),concat(/{kind}/{name}/,txn.split_value)");
    let canary = "    http-request set-var(txn.canary) var(txn.service),concat(.canary)";
    let has_split = "{ var(txn.split) -m found }";
    let has_name = format!("{{ {fetch}({name}) -m found }}");
    format!("{value} if {has_split}\n{canary} if {has_split} {has_name} {{ {key},map_str({CANARY}) -m found }}")
}

fn header_name(header: &Match) -> String {
    header.name.to_string().to_ascii_lowercase()
}

/// Adds the splits of known services to the maps.
pub fn add_to_maps(
    maps: &mut Maps,
    splits: &BTreeMap<String, Split>,
    definitions: &BTreeMap<String, ServiceDefinition>,
) {
    for (service, split) in splits.iter().filter(|(service, _)| definitions.contains_key(*service)) {
        let percentage = split.percentage.min(PERCENT_MAX).to_string();
        maps.entry(CANARY_PERCENT).or_default().insert(service.clone(), percentage);
        let users = split.users.iter().map(|user| format!("{service}/user/{user}"));
        let header = split.header.as_ref().map(|header| (("header", header_name(header)), &header.value));
        let cookie = split.cookie.as_ref().map(|cookie| (("cookie", cookie.name.to_string()), &cookie.value));
        let matches = header.into_iter().chain(cookie);
        let matches = matches.map(|((kind, name), value)| format!("{service}/{kind}/{name}/{value}"));
        maps.entry(CANARY).or_default().extend(users.chain(matches).map(|key| (key, "1".to_owned())));
    }
}
