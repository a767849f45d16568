use super::*;
use crate::{actual::ActualServer, knowledge::MARK_KEY};

fn knowledge(entries: &[(&str, &str)]) -> Knowledge {
    let mut knowledge = Knowledge::default();
    let mut copy: BTreeMap<String, String> =
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    copy.insert(MARK_KEY.to_owned(), "{}".to_owned());
    knowledge.learn(&copy);
    knowledge
}

fn addresses() -> Addresses {
    [("127.0.0.1:9001".to_owned(), address(9001))].into()
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

const ENTRY: &str =
    r#"{"address":"127.0.0.1:9001","version":"1","weight":100,"started":"2026-01-01T00:00:00Z"}"#;
const DRAINING: &str = r#"{"address":"127.0.0.1:9001","version":"1","weight":100,"started":"2026-01-01T00:00:00Z","draining":true}"#;

fn with_server(service: &str, instance: &str, healthy: bool) -> Actual {
    let server = ActualServer {
        address: Some(address(9001)),
        weight: 100,
        duty: Duty::Ready,
        healthy,
        checked: true,
        sessions: 0,
    };
    let servers = [(instance.to_owned(), server)].into();
    Actual { backends: [(service.to_owned(), servers)].into(), ..Actual::default() }
}

#[test]
fn a_registered_instance_is_a_server() {
    let target = target(&knowledge(&[("/flack/services/users/users-1", ENTRY)]), &addresses(), None);
    assert_eq!(target.backends["users"].servers["users-1"].address, address(9001));
}

#[test]
fn an_instance_that_says_farewell_is_no_server_even_if_it_is_well() {
    let knowledge = knowledge(&[("/flack/services/users/users-1", DRAINING)]);
    let target = target(&knowledge, &addresses(), Some(&with_server("users", "users-1", true)));
    assert!(target.backends["users"].servers.is_empty());
}

#[test]
fn when_all_instances_are_gone_at_once_those_that_are_well_stay() {
    let actual = with_server("users", "users-1", true);
    let target = target(&knowledge(&[]), &addresses(), Some(&actual));
    assert!(target.backends["users"].servers.contains_key("users-1"));
}

#[test]
fn when_all_instances_are_gone_those_whose_checks_fail_go() {
    let actual = with_server("users", "users-1", false);
    let target = target(&knowledge(&[]), &addresses(), Some(&actual));
    assert!(target.backends["users"].servers.is_empty());
}

#[test]
fn one_of_two_that_is_gone_goes_though_it_is_well() {
    let actual = with_server("users", "users-2", true);
    let target = target(&knowledge(&[("/flack/services/users/users-1", ENTRY)]), &addresses(), Some(&actual));
    assert_eq!(target.backends["users"].servers.keys().collect::<Vec<_>>(), ["users-1"]);
}

#[test]
fn a_route_puts_the_locations_of_its_service_into_the_maps() {
    let knowledge = knowledge(&[
        ("/flack/routes/ui", r#"{"owner":"ui","percentage":25}"#),
        ("/flack/routes/users", r#"{"owner":"monolith","percentage":100}"#),
    ]);
    let maps = target(&knowledge, &addresses(), None).maps;
    assert_eq!(maps[EXACT]["/"], "ui");
    assert_eq!(maps[PREFIX]["/static/"], "ui");
    assert_eq!(maps[PERCENT]["ui"], "25");
    assert!(!maps[PREFIX].contains_key("/api/users/"), "what the monolith owns is the default");
}

#[test]
fn without_a_route_a_service_gets_no_traffic() {
    let maps = target(&knowledge(&[("/flack/services/users/users-1", ENTRY)]), &addresses(), None).maps;
    assert!(maps[PREFIX].is_empty() && maps[EXACT].is_empty());
}

#[test]
fn a_service_with_a_new_name_gets_a_backend_and_its_own_locations() {
    let definition = r#"{"location":["/api/rooms"],"balance":"roundrobin","exposure":"internal"}"#;
    let knowledge = knowledge(&[
        ("/flack/services/rooms", definition),
        ("/flack/routes/rooms", r#"{"owner":"rooms","percentage":100}"#),
    ]);
    let target = target(&knowledge, &addresses(), None);
    assert_eq!(target.backends["rooms"].balance, Balance::RoundRobin);
    assert_eq!(target.maps[PREFIX]["/api/rooms/"], "rooms");
    assert_eq!(target.maps[DOORS]["rooms"], "internal");
}
