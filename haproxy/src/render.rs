//! The files that HAProxy starts from: the configuration with the servers of the moment, and the maps.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::{
    config::Settings,
    plan::{CHECK, CHECK_WEBSOCKET},
    target::{Target, WEBSOCKET},
};

const TEMPLATE: &str = include_str!("../haproxy.cfg");
const CORRELATION: &str = include_str!("../snippets/correlation.cfg");
const ROUTING: &str = include_str!("../snippets/routing.cfg");
/// The services refuse what is larger than 64 KiB themselves; this is for what is absurd.
const BODY_BYTES_MAX: u32 = 1_048_576;
const PROBLEMS_PAGE: &str = "/api/docs/problems";

/// What HAProxy answers itself. Status, heading in docs/problems.md, title, detail, seconds of Retry-After.
/// `%[be_name]` is the service that was meant.
const ANSWERS: [(u16, &str, &str, &str, Option<u8>); 10] = [
    (400, "bad-request", "Bad request", "this is no well-formed HTTP request", None),
    (404, "not-found", "Not found", "there is nothing at this path", None),
    (408, "request-timeout", "Request timeout", "the request did not arrive in time; send it again", None),
    (413, "too-large", "Too large", "the body is larger than 1048576 bytes", None),
    (
        429,
        "too-many-requests",
        "Too many requests",
        "too many requests from your address; wait 10 s",
        Some(10),
    ),
    (500, "internal", "Internal error", "something went wrong in the balancer; its log says what", None),
    (501, "bad-request", "Not implemented", "the balancer does not know this kind of request", None),
    (502, "unavailable", "Bad gateway", UNAVAILABLE, Some(1)),
    (503, "unavailable", "Service unavailable", UNAVAILABLE, Some(1)),
    (504, "unavailable", "Gateway timeout", UNAVAILABLE, Some(1)),
];
const UNAVAILABLE: &str = "%[be_name] is unavailable at the moment; try again in 1 s";

/// File name to text.
pub type Files = BTreeMap<&'static str, String>;
pub const CONFIGURATION: &str = "haproxy.cfg";

/// All files for this target.
pub fn files(settings: &Settings, target: &Target) -> Files {
    let mut files: Files = target.maps.iter().map(|(file, entries)| (*file, map(entries))).collect();
    files.insert(CONFIGURATION, configuration(settings, target));
    files
}

fn map(entries: &BTreeMap<String, String>) -> String {
    entries.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{key} {value}");
        text
    })
}

fn configuration(settings: &Settings, target: &Target) -> String {
    fill(settings, target, &structure(settings, target), true)
}

/// Names all that the Runtime API cannot change: two configurations of one structure differ in their servers
/// only. A new structure needs a reload.
pub fn structure(settings: &Settings, target: &Target) -> String {
    let mut hasher = DefaultHasher::new();
    fill(settings, target, "", false).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn fill(settings: &Settings, target: &Target, structure: &str, with_servers: bool) -> String {
    let words = [
        ("{{structure}}", structure.to_owned()),
        ("{{connections_max}}", settings.connections_max.to_string()),
        ("{{check}}", CHECK.to_owned()),
        ("{{errors}}", errors()),
        ("{{correlation}}", CORRELATION.trim_end().to_owned()),
        ("{{routing}}", ROUTING.trim_end().to_owned()),
        ("{{public_listen}}", settings.public_listen.to_string()),
        ("{{internal_listen}}", settings.internal_listen.to_string()),
        ("{{stats_listen}}", settings.stats_listen.to_string()),
        ("{{body_bytes_max}}", BODY_BYTES_MAX.to_string()),
        ("{{limit_requests}}", settings.limit_requests_per_10s.to_string()),
        ("{{limit_credentials}}", settings.limit_credentials_per_10s.to_string()),
        ("{{backends}}", backends(target, with_servers)),
    ];
    words.iter().fold(TEMPLATE.to_owned(), |text, (word, value)| text.replace(word, value))
}

fn errors() -> String {
    let line = |(status, kind, title, detail, retry): &(u16, &str, &str, &str, Option<u8>)| {
        let body = format!(
            r#"{{"type":"{PROBLEMS_PAGE}#{kind}","title":"{title}","status":{status},"detail":"{detail}","error":"{detail}"}}"#
        );
        let retry = retry.map(|seconds| format!(" hdr Retry-After {seconds}")).unwrap_or_default();
        format!(
            "    http-error status {status} content-type application/problem+json lf-string '{body}'{retry}"
        )
    };
    ANSWERS.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn backends(target: &Target, with_servers: bool) -> String {
    let mut text = String::new();
    for (name, backend) in &target.backends {
        let _ = writeln!(text, "backend {name}\n    balance {}", backend.balance);
        if name == WEBSOCKET {
            let _ = writeln!(text, "    default-server {CHECK_WEBSOCKET}");
        }
        for (server, is) in backend.servers.iter().filter(|_| with_servers) {
            let _ = writeln!(text, "    server {server} {} weight {}", is.address, is.weight);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
