use flack_common::registry::Balance;

use super::*;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn target(servers: &[(&str, u16)]) -> Target {
    let servers = servers
        .iter()
        .map(|(name, port)| ((*name).to_owned(), Server { address: address(*port), weight: 100 }))
        .collect();
    let backend = Backend { balance: Balance::LeastConn, servers };
    Target { backends: [("users".to_owned(), backend)].into(), maps: Maps::new() }
}

fn is(port: u16) -> ActualServer {
    ActualServer {
        address: Some(address(port)),
        weight: 100,
        duty: Duty::Ready,
        healthy: true,
        checked: true,
        sessions: 0,
    }
}

fn actual(servers: &[(&str, ActualServer)]) -> Actual {
    let servers = servers.iter().map(|(name, server)| ((*name).to_owned(), server.clone())).collect();
    Actual { backends: [("users".to_owned(), servers)].into(), ..Actual::default() }
}

fn steps(target: &Target, actual: &Actual) -> Vec<Step> {
    plan(target, actual, &Draining::new())
}

fn remove(cut: bool) -> Step {
    Step::Remove { backend: "users".into(), server: "users-1".into(), cut }
}

#[test]
fn nothing_is_done_when_all_is_well() {
    assert!(steps(&target(&[("users-1", 1)]), &actual(&[("users-1", is(1))])).is_empty());
}

#[test]
fn a_missing_server_is_added() {
    let steps = steps(&target(&[("users-1", 1)]), &actual(&[]));
    let add =
        Step::Add { backend: "users".into(), server: "users-1".into(), address: address(1), weight: 100 };
    assert_eq!(steps, [add]);
}

#[test]
fn a_server_that_nobody_wants_is_drained_then_removed() {
    let nobody = target(&[]);
    let drain = Step::Drain { backend: "users".into(), server: "users-1".into() };
    let busy = ActualServer { sessions: 3, ..is(1) };
    for server in [busy.clone(), is(1)] {
        assert_eq!(steps(&nobody, &actual(&[("users-1", server)])), std::slice::from_ref(&drain));
    }
    let draining = ActualServer { duty: Duty::Draining, ..busy };
    assert!(steps(&nobody, &actual(&[("users-1", draining.clone())])).is_empty(), "requests may finish");
    let done = ActualServer { sessions: 0, ..draining };
    assert_eq!(steps(&nobody, &actual(&[("users-1", done)])), [remove(false)]);
}

#[test]
fn a_client_that_will_not_go_is_cut_off_in_the_end() {
    let draining = ActualServer { sessions: 1, duty: Duty::Draining, ..is(1) };
    let ages = [(("users".to_owned(), "users-1".to_owned()), DRAIN_MAX)].into();
    assert_eq!(plan(&target(&[]), &actual(&[("users-1", draining)]), &ages), [remove(true)]);
}

#[test]
fn a_crashed_server_that_nobody_wants_is_removed_at_once() {
    let down = ActualServer { healthy: false, ..is(1) };
    assert_eq!(steps(&target(&[]), &actual(&[("users-1", down)])), [remove(false)]);
}

#[test]
fn a_server_that_moved_is_made_anew() {
    let steps = steps(&target(&[("users-1", 2)]), &actual(&[("users-1", is(1))]));
    assert_eq!(steps[0], remove(true));
    assert!(matches!(&steps[1], Step::Add { address: there, .. } if *there == address(2)));
}

#[test]
fn what_somebody_did_by_hand_is_undone() {
    let drained = ActualServer { duty: Duty::Draining, ..is(1) };
    let unchecked = ActualServer { checked: false, ..is(1) };
    let light = ActualServer { weight: 1, ..is(1) };
    let wanted = target(&[("users-1", 1)]);
    let ready = Step::Ready { backend: "users".into(), server: "users-1".into() };
    assert_eq!(steps(&wanted, &actual(&[("users-1", drained)])), std::slice::from_ref(&ready));
    assert_eq!(steps(&wanted, &actual(&[("users-1", unchecked)])), [ready]);
    assert!(matches!(steps(&wanted, &actual(&[("users-1", light)]))[..], [Step::Weigh { weight: 100, .. }]));
}

#[test]
fn a_map_that_differs_is_replaced_after_servers_came_and_before_they_go() {
    let mut wanted = target(&[("users-2", 2)]);
    wanted.maps.insert("prefix.map", [("/api/users/".to_owned(), "users".to_owned())].into());
    let steps = steps(&wanted, &actual(&[("users-1", is(1))]));
    assert!(matches!(
        steps[..],
        [Step::Add { .. }, Step::Map { file: "prefix.map", .. }, Step::Drain { .. }]
    ));
}

#[test]
fn only_websockets_are_cut_when_their_server_goes_down() {
    let add = |backend: &str| Step::Add {
        backend: backend.into(),
        server: "x".into(),
        address: address(1),
        weight: 1,
    };
    let command = |backend| add(backend).command().expect("it is a command").0;
    assert!(command(WEBSOCKET).contains("shutdown-sessions"));
    assert!(!command("users").contains("shutdown-sessions"));
}
