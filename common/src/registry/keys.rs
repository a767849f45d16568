//! Every key of the registry, in one place: nobody else puts these names together.

/// All that is ours in an etcd that may serve others too.
pub const ROOT: &str = "/flack/";
pub const SERVICES: &str = "/flack/services/";
pub const ROUTES: &str = "/flack/routes/";
pub const AUTHORITY: &str = "/flack/authority/";
pub const BALANCER: &str = "/flack/balancer/";
pub const JWKS: &str = "/flack/jwks/";
pub const REVOKED: &str = "/flack/revoked/";

/// What a service is: its locations, its door.
pub fn service(name: &str) -> String {
    format!("{SERVICES}{name}")
}

/// Where one instance of it listens; under a lease.
pub fn instance(service: &str, instance: &str) -> String {
    format!("{SERVICES}{service}/{instance}")
}

/// Who gets the locations of a service, and how much of them.
pub fn route(name: &str) -> String {
    format!("{ROUTES}{name}")
}

/// Who owns a resource (users, tokens, messages).
pub fn authority(resource: &str) -> String {
    format!("{AUTHORITY}{resource}")
}

/// There while the balancer sends traffic to an instance; written by its agent.
pub fn balancer(service: &str, instance: &str) -> String {
    format!("{BALANCER}{service}/{instance}")
}

/// A public key that verifies tokens.
pub fn jwk(key_id: &str) -> String {
    format!("{JWKS}{key_id}")
}

/// A token that is refused from now on; under a lease of its remaining life.
pub fn revoked(token_id: &str) -> String {
    format!("{REVOKED}{token_id}")
}

/// What follows `prefix` in a key, split at `/`: `services/users/users-1` is `["users", "users-1"]`.
pub fn parts<'key>(key: &'key str, prefix: &str) -> Vec<&'key str> {
    key.strip_prefix(prefix).map(|rest| rest.split('/').collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_follows_the_prefix() {
        assert_eq!(parts(&instance("users", "users-1"), SERVICES), ["users", "users-1"]);
        assert_eq!(parts(&service("users"), SERVICES), ["users"]);
        assert!(parts(&route("users"), SERVICES).is_empty());
    }
}
