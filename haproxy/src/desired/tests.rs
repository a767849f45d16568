use super::*;
use crate::{
    actual::ActualServer,
    last_known::MARKER_KEY,
    maps::{CANARY, CANARY_PERCENT, EXACT, EXPOSURE, OWNER, PERCENT, PREFIX, READ_PERCENT, REPLICA},
};

const ENTRY: (&str, &str) = (
    "/flack/services/users/users-1",
    r#"{"address":"127.0.0.1:9001","version":"1","weight":100,"started":"2026-01-01T00:00:00Z"}"#,
);
const MONOLITH_ENTRY: (&str, &str) = (
    "/flack/services/monolith/monolith-1",
    r#"{"address":"127.0.0.1:9001","version":"1","started":"2026-01-01T00:00:00Z"}"#,
);
const DRAINING: (&str, &str) = (
    "/flack/services/users/users-1",
    r#"{"address":"127.0.0.1:9001","version":"1","started":"2026-01-01T00:00:00Z","draining":true}"#,
);

fn desired(entries: &[(&str, &str)], actual: Option<&Actual>) -> Desired {
    let mut last_known = LastKnown::default();
    let mut copy: BTreeMap<String, String> =
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    copy.insert(MARKER_KEY.to_owned(), "{}".to_owned());
    last_known.update(&copy);
    Desired::new(&last_known, &[("127.0.0.1:9001".to_owned(), address())].into(), actual)
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9001))
}

fn with_server(name: &str, healthy: bool) -> Actual {
    let address = Some(address());
    let admin_state = AdminState::Ready;
    let server = ActualServer { address, weight: 100, admin_state, healthy, checked: true, sessions: 0 };
    Actual { servers: [(name.to_owned(), server)].into(), ..Actual::default() }
}

#[test]
fn a_registered_instance_is_a_server() {
    assert_eq!(desired(&[ENTRY], None).servers["users/users-1"].address, address());
}

#[test]
fn a_draining_instance_is_no_server_though_its_checks_pass() {
    assert!(desired(&[DRAINING], Some(&with_server("users/users-1", true))).servers.is_empty());
}

#[test]
fn when_all_instances_vanish_the_healthy_ones_are_kept() {
    assert!(desired(&[], Some(&with_server("users/users-1", true))).servers.contains_key("users/users-1"));
}

#[test]
fn when_all_instances_vanish_the_unhealthy_ones_are_removed() {
    assert!(desired(&[], Some(&with_server("users/users-1", false))).servers.is_empty());
}

#[test]
fn when_one_of_two_instances_vanishes_it_is_removed_though_it_is_healthy() {
    let desired = desired(&[ENTRY], Some(&with_server("users/users-2", true)));
    assert_eq!(desired.servers.keys().collect::<Vec<_>>(), ["users/users-1"]);
}

#[test]
fn a_route_puts_the_locations_of_its_service_into_the_maps() {
    let routes = [
        ("/flack/routes/ui", r#"{"owner":"ui","percentage":25}"#),
        ("/flack/routes/users", r#"{"owner":"monolith","percentage":100}"#),
    ];
    let maps = desired(&routes, None).maps;
    assert_eq!(maps[EXACT]["/"], "ui");
    assert_eq!(maps[PREFIX]["/static/"], "ui");
    assert_eq!(maps[PERCENT]["ui"], "25");
    assert!(!maps[PREFIX].contains_key("/api/users/"), "the monolith is the default backend");
}

#[test]
fn without_a_route_a_service_gets_no_traffic() {
    let maps = desired(&[ENTRY], None).maps;
    assert!(maps[PREFIX].is_empty() && maps[EXACT].is_empty());
}

#[test]
fn a_service_that_is_not_in_the_catalogue_gets_a_backend_and_its_locations() {
    let definition = r#"{"location":["/api/rooms"],"balance":"roundrobin","exposure":"internal"}"#;
    let desired = desired(
        &[("/flack/services/rooms", definition), ("/flack/routes/rooms", r#"{"owner":"rooms","percentage":100}"#)],
        None,
    );
    assert_eq!(desired.backends["rooms"], Balance::RoundRobin);
    assert_eq!(desired.maps[PREFIX]["/api/rooms/"], "rooms");
    assert_eq!(desired.maps[EXPOSURE]["rooms"], "internal");
}

const NEW: (&str, &str) = (
    "/flack/services/users/users-2",
    r#"{"address":"127.0.0.1:9001","version":"2","weight":100,"started":"2026-01-01T00:00:00Z"}"#,
);
const SPLIT: (&str, &str) = ("/flack/splits/users", r#"{"version":"2","percentage":20}"#);

fn servers(desired: &Desired) -> Vec<&str> {
    desired.servers.keys().map(String::as_str).collect()
}

#[test]
fn a_split_moves_the_instances_of_its_version_and_keeps_the_others_as_backups() {
    assert_eq!(servers(&desired(&[ENTRY, NEW], None)), ["users/users-1", "users/users-2"]);
    let desired = desired(&[ENTRY, NEW, SPLIT], None);
    assert_eq!(servers(&desired), ["users.canary/users-1.backup", "users.canary/users-2", "users/users-1"]);
    assert_eq!(desired.maps[CANARY_PERCENT]["users"], "20");
}

#[test]
fn a_split_without_instances_on_both_sides_moves_no_instance() {
    assert_eq!(servers(&desired(&[ENTRY, SPLIT], None)), ["users/users-1"]);
    assert_eq!(servers(&desired(&[NEW, SPLIT], None)), ["users/users-2"]);
    assert_eq!(servers(&desired(&[DRAINING, NEW, SPLIT], None)), ["users/users-2"], "the old version is leaving");
}

#[test]
fn when_all_instances_vanish_each_one_stays_on_its_side_of_a_split() {
    let mut actual = with_server("users/users-1", true);
    for server in ["users.canary/users-1.backup", "users.canary/users-2"] {
        actual.servers.extend(with_server(server, true).servers);
    }
    let split = desired(&[SPLIT], Some(&actual));
    assert_eq!(servers(&split), ["users.canary/users-1.backup", "users.canary/users-2", "users/users-1"]);
    assert_eq!(servers(&desired(&[], Some(&actual))), ["users/users-1", "users/users-2"], "without the split");
    actual.servers.remove("users/users-1");
    assert_eq!(servers(&desired(&[SPLIT], Some(&actual))), ["users/users-2"], "no other instance is healthy");
}

#[test]
fn the_matches_of_a_split_are_in_the_map_and_a_split_of_an_unknown_service_is_not() {
    let split = r#"{"version":"2","percentage":200,"users":["7","8"],
        "header":{"name":"X-Test","value":"1"},"cookie":{"name":"Canary","value":"a"}}"#;
    let desired = desired(&[("/flack/splits/users", split), ("/flack/splits/rooms", split)], None);
    let keys: Vec<&str> = desired.maps[CANARY].keys().map(String::as_str).collect();
    assert_eq!(keys, ["users/cookie/Canary/a", "users/header/x-test/1", "users/user/7", "users/user/8"]);
    assert_eq!(desired.maps[CANARY_PERCENT].iter().collect::<Vec<_>>(), [(&"users".to_owned(), &"100".to_owned())]);
}

#[test]
fn only_websocket_sessions_are_closed_when_their_server_goes_down() {
    assert!(on_marked_down("websocket").is_some());
    assert_eq!([on_marked_down("users"), on_marked_down("monolith"), on_marked_down("rooms")], [None; 3]);
}

#[test]
fn the_record_of_a_part_decides_where_its_paths_go_and_who_reads_at_its_replica() {
    let route = ("/flack/routes/users", r#"{"owner":"monolith","percentage":100}"#);
    let owned = ("/flack/authority/users", r#"{"owner":"users","epoch":3,"stage":"cut_over","read_percent":20}"#);
    let with = |record| desired(&[ENTRY, MONOLITH_ENTRY, route, record], None);
    let maps = with(owned).maps;
    assert_eq!((maps[PREFIX]["/api/users/"].as_str(), maps[OWNER]["users"].as_str()), ("users", "users"));
    assert_eq!((maps[REPLICA]["users"].as_str(), maps[READ_PERCENT]["users"].as_str()), ("monolith", "20"));
    let shifting = r#"{"owner":"monolith","epoch":2,"stage":"shifting","read_percent":5}"#;
    let shifted = with(("/flack/authority/users", shifting));
    assert!(!shifted.maps[OWNER].contains_key("users") && shifted.maps[PREFIX]["/api/users/"] == "users");
    assert_eq!(shifted.maps[REPLICA]["users"], "users");
    assert_eq!(shifted.acknowledged.values().collect::<Vec<_>>(), ["2 Shifting 5 0"]);
    let without_users = desired(&[MONOLITH_ENTRY, ("/flack/authority/users", shifting)], None);
    assert!(without_users.maps[REPLICA].is_empty(), "the replica has no instance");
}
