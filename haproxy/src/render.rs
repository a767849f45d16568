//! The files that HAProxy starts from: the configuration with the current servers, and the maps.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use flack_common::registry::Balance;

use crate::{
    config::Config,
    desired::{Desired, SERVER_OPTIONS, Server, on_marked_down},
    errors::{headers_too_large, http_errors, misdirected, refuse},
    hosts::{self, PublicHosts},
    servers::{UNAVAILABLE, backend_of, canary_backend, is_backup},
};

const TEMPLATE: &str = include_str!("../haproxy.cfg");
/// The services refuse bodies above 64 KiB, and files above 1 MiB. Up to this size they read what is too large before
/// they answer (`flack_common::process::body`): a client that still sends often does not see the balancer's answer.
const BODY_BYTES_MAX: u32 = 16 * 1_048_576;
/// The balancer adds three or four to those of the client. The services accept 100.
const HEADERS_MAX: u32 = 96;
/// For a connection, in the kernel. A client on a line of 100 ms then gets 1 to 2 MB/s.
const SOCKET_BUFFER_BYTES: u32 = 131_072;
/// The window of all rates, in seconds.
const WINDOW: Option<u8> = Some(10);
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
    let (requests, writes) = (config.limit_requests_per_10s, config.limit_writes_per_10s);
    let (credentials, connections) = (config.credentials_per_10s(), config.connections_per_address());
    let public_hosts = config.public_hosts.clone().unwrap_or_else(PublicHosts::of_this_machine);
    let words = [
        ("{{structure}}", structure.to_owned()),
        ("{{connections_max}}", config.connections_max().to_string()),
        ("{{server_options}}", SERVER_OPTIONS.to_owned()),
        ("{{errors}}", http_errors()),
        ("{{public_listen}}", config.public_listen.to_string()),
        ("{{internal_listen}}", config.internal_listen.to_string()),
        ("{{stats_listen}}", config.stats_listen.to_string()),
        ("{{body_bytes_max}}", BODY_BYTES_MAX.to_string()),
        ("{{headers_max}}", HEADERS_MAX.to_string()),
        ("{{socket_buffer_bytes}}", SOCKET_BUFFER_BYTES.to_string()),
        ("{{known_hosts}}", public_hosts.known()),
        ("{{short_hosts}}", hosts::short()),
        ("{{misdirected}}", misdirected()),
        ("{{headers_too_large}}", headers_too_large()),
        ("{{limit_requests}}", requests.to_string()),
        ("{{limit_writes}}", writes.to_string()),
        ("{{limit_credentials}}", credentials.to_string()),
        ("{{limit_connections}}", connections.to_string()),
        // A quarter more, so that clients get an answer before they are cut off.
        ("{{connections_refused}}", (connections + connections.div_ceil(4)).to_string()),
        ("{{refuse_requests}}", refuse("requests", requests.into(), WINDOW)),
        ("{{refuse_writes}}", refuse("writes", writes.into(), WINDOW)),
        ("{{refuse_credentials}}", refuse("credentials", credentials.into(), WINDOW)),
        ("{{refuse_connections}}", refuse("connections", connections, None)),
        ("{{canary_matches}}", desired.match_names.rules()),
        ("{{backends}}", backends(desired, with_servers)),
    ];
    words.iter().fold(TEMPLATE.to_owned(), |text, (word, value)| text.replace(word, value))
}

fn backends(desired: &Desired, with_servers: bool) -> String {
    let backend = |(service, balance): (&String, &Balance)| {
        let mark_down = on_marked_down(service).map(|option| format!("    default-server {option}\n"));
        let options = format!("    balance {balance}\n{}", mark_down.unwrap_or_default());
        let servers = |backend: &str| servers(desired, backend, with_servers);
        let canary = canary_backend(service);
        format!(
            "backend {service} from base\n{options}{}    \
             server {UNAVAILABLE} unix@unavailable.sock backup no-check\n    \
             http-response deny deny_status 503 if {{ srv_name -m str {UNAVAILABLE} }}\n\n\
             backend {canary} from base\n    option allbackups\n{options}{}\n",
            servers(service),
            servers(&canary)
        )
    };
    desired.backends.iter().map(backend).collect()
}

fn servers(desired: &Desired, backend: &str, with_servers: bool) -> String {
    let servers = desired.servers.iter().filter(|(name, _)| with_servers && backend_of(name) == backend);
    let line = |(name, server): (&String, &Server)| {
        let backup = if is_backup(name) { " backup" } else { "" };
        format!("    server {} {}{backup} weight {}\n", &name[backend.len() + 1..], server.address, server.weight)
    };
    servers.map(line).collect()
}

#[cfg(test)]
mod tests;
