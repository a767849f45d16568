use super::*;

const NAME: &str = "users/users-1";

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn desired(servers: &[(&str, u16)]) -> Desired {
    let server = |port| Server { address: address(port), weight: 100 };
    let servers = servers.iter().map(|(name, port)| ((*name).to_owned(), server(*port))).collect();
    Desired { servers, ..Desired::default() }
}

fn server(port: u16) -> ActualServer {
    let (address, admin_state) = (Some(address(port)), AdminState::Ready);
    ActualServer { address, weight: 100, admin_state, healthy: true, checked: true, sessions: 0 }
}

/// The steps when HAProxy has this server only.
fn steps(desired: &Desired, server: ActualServer) -> Vec<Step> {
    let servers = [(NAME.to_owned(), server)].into();
    plan(desired, &Actual { servers, ..Actual::default() }, &DrainTimes::new())
}

fn remove(close_sessions: bool) -> Step {
    Step::Remove { server: NAME.to_owned(), close_sessions }
}

#[test]
fn without_differences_there_are_no_steps() {
    assert!(steps(&desired(&[(NAME, 1)]), server(1)).is_empty());
}

#[test]
fn a_missing_server_is_added() {
    let steps = plan(&desired(&[(NAME, 1)]), &Actual::default(), &DrainTimes::new());
    assert_eq!(steps, [Step::Add { server: NAME.to_owned(), address: address(1), weight: 100 }]);
}

#[test]
fn an_unwanted_server_is_drained_and_then_removed() {
    let busy = ActualServer { sessions: 3, ..server(1) };
    for server in [busy.clone(), server(1)] {
        assert_eq!(steps(&desired(&[]), server), [Step::Drain { server: NAME.to_owned() }]);
    }
    let draining = ActualServer { admin_state: AdminState::Drain, ..busy };
    assert!(steps(&desired(&[]), draining.clone()).is_empty(), "current requests may finish");
    assert_eq!(steps(&desired(&[]), ActualServer { sessions: 0, ..draining }), [remove(false)]);
}

#[test]
fn the_sessions_of_a_server_that_drains_too_long_are_closed() {
    let draining = ActualServer { sessions: 1, admin_state: AdminState::Drain, ..server(1) };
    let actual = Actual { servers: [(NAME.to_owned(), draining)].into(), ..Actual::default() };
    assert_eq!(plan(&desired(&[]), &actual, &[(NAME.to_owned(), DRAIN_MAX)].into()), [remove(true)]);
}

#[test]
fn an_unwanted_server_that_has_crashed_is_removed_at_once() {
    assert_eq!(steps(&desired(&[]), ActualServer { healthy: false, ..server(1) }), [remove(false)]);
}

#[test]
fn a_server_with_a_new_address_is_removed_and_added() {
    let steps = steps(&desired(&[(NAME, 2)]), server(1));
    let add = Step::Add { server: NAME.to_owned(), address: address(2), weight: 100 };
    assert_eq!(steps, [remove(true), add]);
}

#[test]
fn manual_changes_are_undone() {
    let ready = Step::SetReady { server: NAME.to_owned() };
    let weight = Step::SetWeight { server: NAME.to_owned(), weight: 100 };
    let drained = ActualServer { admin_state: AdminState::Drain, ..server(1) };
    let unchecked = ActualServer { checked: false, ..server(1) };
    let light = ActualServer { weight: 1, ..server(1) };
    for (changed, step) in [(drained, ready.clone()), (unchecked, ready), (light, weight)] {
        assert_eq!(steps(&desired(&[(NAME, 1)]), changed), [step]);
    }
}

#[test]
fn a_changed_map_is_replaced_after_servers_are_added_and_before_servers_are_drained() {
    let mut desired = desired(&[("users/users-2", 2)]);
    desired.maps.insert("prefix.map", [("/api/users/".to_owned(), "users".to_owned())].into());
    assert!(matches!(
        steps(&desired, server(1))[..],
        [Step::Add { .. }, Step::ReplaceMap { file: "prefix.map", .. }, Step::Drain { .. }]
    ));
}
