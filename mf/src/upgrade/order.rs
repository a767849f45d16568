//! The order in which `roll all` upgrades services.

use flack_catalogue::{MONOLITH, SERVICES, Service};

/// Returns all services: a service after those whose events it reads, because a consumer of a new field is upgraded
/// last. Services that hold connections are the very last: their clients reconnect to instances that stay.
pub fn order() -> Vec<&'static Service> {
    let mut services: Vec<&Service> = SERVICES.iter().collect();
    // The sort is stable: the order of the catalogue decides between equals.
    services.sort_by_key(|service| (service.holds_connections, depth(service)));
    services
}

/// Returns the length of the longest chain of services whose events this one reads. The monolith does not count: it
/// reads events of services, and they read its events.
fn depth(service: &Service) -> usize {
    let sources = service.reads_events_of.iter().filter(|source| **source != MONOLITH && **source != service.name);
    sources.filter_map(|source| Service::find(source)).map(|source| depth(source) + 1).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_of_events_follow_their_sources_and_websocket_is_last() {
        let order = order();
        let position = |name: &str| order.iter().position(|service| service.name == name).expect("every service");
        for service in &order {
            for source in service.reads_events_of.iter().filter(|source| **source != MONOLITH) {
                if *source != service.name {
                    assert!(position(source) < position(service.name), "{service} is before {source}");
                }
            }
        }
        assert_eq!(order.last().map(|service| service.name), Some("websocket"));
        assert_eq!(order.len(), SERVICES.len());
    }
}
