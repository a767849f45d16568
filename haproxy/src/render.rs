//! The files that HAProxy starts from: the configuration with the current servers, and the maps.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::{
    config::Config,
    desired::{CHECK, Desired, Server, on_marked_down},
    errors::http_errors,
    service_of,
};

const TEMPLATE: &str = include_str!("../haproxy.cfg");
/// The services refuse bodies above 64 KiB. The balancer refuses what would be expensive to pass on.
const BODY_BYTES_MAX: u32 = 1_048_576;
pub const CONFIGURATION: &str = "haproxy.cfg";

/// Texts by file name.
pub type Files = BTreeMap<&'static str, String>;

/// Returns all files for the desired state.
pub fn files(config: &Config, desired: &Desired) -> Files {
    let line = |(key, value): (&String, &String)| format!("{key} {value}\n");
    let map = |entries: &BTreeMap<String, String>| entries.iter().map(line).collect();
    let mut files: Files = desired.maps.iter().map(|(file, entries)| (*file, map(entries))).collect();
    files.insert(CONFIGURATION, fill(config, desired, &structure(config, desired), true));
    files
}

/// Returns a hash of everything that the Runtime API cannot change. Configurations with the same structure differ in
/// their servers only; another structure needs a reload.
pub fn structure(config: &Config, desired: &Desired) -> String {
    let mut hasher = DefaultHasher::new();
    fill(config, desired, "", false).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn fill(config: &Config, desired: &Desired, structure: &str, with_servers: bool) -> String {
    let words = [
        ("{{structure}}", structure.to_owned()),
        ("{{connections_max}}", config.connections_max().to_string()),
        ("{{check}}", CHECK.to_owned()),
        ("{{errors}}", http_errors()),
        ("{{public_listen}}", config.public_listen.to_string()),
        ("{{internal_listen}}", config.internal_listen.to_string()),
        ("{{stats_listen}}", config.stats_listen.to_string()),
        ("{{body_bytes_max}}", BODY_BYTES_MAX.to_string()),
        ("{{limit_requests}}", config.limit_requests_per_10s.to_string()),
        ("{{limit_credentials}}", config.limit_credentials_per_10s.to_string()),
        ("{{backends}}", backends(desired, with_servers)),
    ];
    words.iter().fold(TEMPLATE.to_owned(), |text, (word, value)| text.replace(word, value))
}

fn backends(desired: &Desired, with_servers: bool) -> String {
    let backend = |(name, balance): (&String, _)| {
        let option = on_marked_down(name).map(|option| format!("    default-server {option}\n"));
        let servers = desired.servers.iter().filter(|(server, _)| with_servers && service_of(server) == name);
        let line = |(server, is): (&String, &Server)| {
            format!("    server {} {} weight {}\n", &server[name.len() + 1..], is.address, is.weight)
        };
        let servers: String = servers.map(line).collect();
        format!("backend {name} from base\n    balance {balance}\n{}{servers}\n", option.unwrap_or_default())
    };
    desired.backends.iter().map(backend).collect()
}

#[cfg(test)]
mod tests;
