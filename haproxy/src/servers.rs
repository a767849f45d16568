//! The names of backends and servers.
//!
//! An instance is a server of its service's backend. While a split is in effect, the instances of the split's version
//! are servers of the service's canary backend instead, and all other instances are also there, as backups: they answer
//! when no canary does.

/// A server of HAProxy, `<backend>/<server>`. Without a split it is `<service>/<instance>`, as in the registry.
///
/// Names in the registry contain neither a slash nor a dot.
pub type ServerName = String;

/// The server that answers 503 when no instance can. It is in the configuration of each service's backend, and not an
/// instance.
pub const UNAVAILABLE: &str = "unavailable.503";
const CANARY: &str = ".canary";
const BACKUP: &str = ".backup";

pub fn canary_backend(service: &str) -> String {
    format!("{service}{CANARY}")
}

/// Returns the server of an instance (`<service>/<instance>`) in the canary backend.
pub fn as_canary(instance: &str) -> ServerName {
    instance.replacen('/', &format!("{CANARY}/"), 1)
}

/// Returns the backup server of an instance in the canary backend.
pub fn as_backup(instance: &str) -> ServerName {
    format!("{}{BACKUP}", as_canary(instance))
}

pub fn backend_of(server: &str) -> &str {
    server.split_once('/').map_or(server, |(backend, _)| backend)
}

pub fn service_of(server: &str) -> &str {
    backend_of(server).trim_end_matches(CANARY)
}

/// Returns `<service>/<instance>`.
pub fn instance_of(server: &str) -> String {
    server.replacen(&format!("{CANARY}/"), "/", 1).trim_end_matches(BACKUP).to_owned()
}

pub fn is_canary(server: &str) -> bool {
    backend_of(server).ends_with(CANARY) && !is_backup(server)
}

pub fn is_backup(server: &str) -> bool {
    server.ends_with(BACKUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_of_an_instance_leads_back_to_the_instance() {
        let instance = "users/users-1";
        for (server, canary, backup) in [
            (instance.to_owned(), false, false),
            (as_canary(instance), true, false),
            (as_backup(instance), false, true),
        ] {
            assert_eq!((instance_of(&server).as_str(), service_of(&server)), (instance, "users"), "{server}");
            assert_eq!((is_canary(&server), is_backup(&server)), (canary, backup), "{server}");
        }
        assert_eq!(as_backup(instance), "users.canary/users-1.backup");
        assert_eq!(backend_of(&as_backup(instance)), canary_backend("users"));
    }
}
