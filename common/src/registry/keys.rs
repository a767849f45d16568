//! All keys of the registry. No other file builds key names.

/// The prefix of all of Flack's keys: an etcd may serve other applications too.
pub const ROOT: &str = "/flack/";
pub const SERVICES: &str = "/flack/services/";
pub const ROUTES: &str = "/flack/routes/";
pub const SPLITS: &str = "/flack/splits/";
pub use flack_handover::{
    protocol::{ACKNOWLEDGED, acknowledged_key as acknowledged},
    record::{PREFIX as AUTHORITY, key as authority},
};
pub const BALANCER: &str = "/flack/balancer/";
pub const JWKS: &str = "/flack/jwks/";
pub const REVOKED: &str = "/flack/revoked/";
pub const UPGRADES: &str = "/flack/upgrades/";

/// Returns the key of a service's definition: its paths and its exposure.
pub fn service(name: &str) -> String {
    format!("{SERVICES}{name}")
}

/// Returns the key of an instance's entry, which has a lease.
pub fn instance(service: &str, instance: &str) -> String {
    format!("{SERVICES}{service}/{instance}")
}

/// Returns the key of a route: the owner of a service's paths, and the owner's share of the users. A part with a record
/// needs none: its paths go to the owner that the record names.
pub fn route(name: &str) -> String {
    format!("{ROUTES}{name}")
}

/// Returns the key of a split: which requests of a service get another version.
pub fn split(service: &str) -> String {
    format!("{SPLITS}{service}")
}

/// Returns the key that exists while the balancer sends traffic to an instance. The agent writes it. With several
/// balancers each agent writes a key of its own below this one.
pub fn balancer(service: &str, instance: &str) -> String {
    format!("{BALANCER}{service}/{instance}")
}

/// Returns the key of a public key that verifies tokens.
pub fn jwk(key_id: &str) -> String {
    format!("{JWKS}{key_id}")
}

/// Returns the key of a revoked token, which has a lease until the token expires.
pub fn revoked(token_id: &str) -> String {
    format!("{REVOKED}{token_id}")
}

/// Returns the key of the last upgrade of a service. `mf` writes it, and the keys below it.
pub fn upgrade(service: &str) -> String {
    format!("{UPGRADES}{service}")
}

/// Returns the key of the terminal that drives the upgrade, which has a lease.
pub fn upgrade_operator(service: &str) -> String {
    format!("{UPGRADES}{service}/operator")
}

/// Returns the key with which another terminal promotes or aborts the upgrade.
pub fn upgrade_request(service: &str) -> String {
    format!("{UPGRADES}{service}/request")
}

/// Returns the prefix of the keys of finished upgrades.
pub fn upgrade_history(service: &str) -> String {
    format!("{UPGRADES}{service}/history/")
}

/// Splits the key after `prefix` at `/`: `/flack/services/users/users-1` after `SERVICES` is `["users", "users-1"]`.
pub fn segments<'key>(key: &'key str, prefix: &str) -> Vec<&'key str> {
    key.strip_prefix(prefix).map(|rest| rest.split('/').collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_the_key_after_the_prefix() {
        assert_eq!(segments(&instance("users", "users-1"), SERVICES), ["users", "users-1"]);
        assert_eq!(segments(&service("users"), SERVICES), ["users"]);
        assert!(segments(&route("users"), SERVICES).is_empty());
    }
}
