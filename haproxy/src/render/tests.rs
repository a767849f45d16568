use std::path::PathBuf;

use flack_common::{config::RegistryConfig, registry::Balance};

use super::*;
use crate::{desired::Server, last_known::LastKnown};

fn config() -> Config {
    let listen = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    Config {
        registry: RegistryConfig::without_credentials(""),
        name: None,
        dir: PathBuf::new(),
        public_listen: listen(8080),
        internal_listen: listen(8081),
        stats_listen: listen(8404),
        files_max: Some(20_000),
        public_hosts: None,
        limit_credentials_per_10s: None,
        limit_writes_per_10s: 1_000,
        limit_requests_per_10s: 100_000,
        limit_connections_per_address: None,
        program: None,
    }
}

fn at_start() -> Desired {
    Desired::new(&LastKnown::default(), &BTreeMap::new(), None)
}

fn with_server() -> Desired {
    let server = Server { address: "127.0.0.1:9001".parse().expect("an address"), weight: 100 };
    Desired { servers: [("users/users-1".to_owned(), server)].into(), ..at_start() }
}

#[test]
fn every_word_of_the_template_is_filled_in() {
    let text = fill(&config(), &with_server(), "", true);
    assert!(!text.contains("{{"), "a word is left:\n{text}");
    assert!(text.contains("    server users-1 127.0.0.1:9001 weight 100\n"));
}

#[test]
fn a_new_server_does_not_change_the_structure() {
    assert_eq!(structure(&config(), &at_start()), structure(&config(), &with_server()));
}

#[test]
fn a_new_service_or_setting_changes_the_structure() {
    let before = structure(&config(), &at_start());
    let mut desired = at_start();
    desired.backends.insert("rooms".into(), Balance::default());
    assert_ne!(before, structure(&config(), &desired));
    let other = Config { limit_credentials_per_10s: Some(1), ..config() };
    assert_ne!(before, structure(&other, &at_start()));
    let other = Config { public_hosts: Some("chat.example.org".parse().expect("a name")), ..config() };
    assert_ne!(before, structure(&other, &at_start()));
}

fn split_by_header(name: &str) -> Desired {
    let mut last_known = LastKnown::default();
    let split = format!(r#"{{"version":"2","header":{{"name":"{name}","value":"1"}}}}"#);
    last_known.update(&[("/flack/splits/users".to_owned(), split)].into());
    Desired::new(&last_known, &BTreeMap::new(), None)
}

#[test]
fn a_split_by_a_usual_header_does_not_change_the_structure_and_one_by_another_header_does() {
    let before = structure(&config(), &at_start());
    assert_eq!(before, structure(&config(), &split_by_header("X-Canary")));
    assert_ne!(before, structure(&config(), &split_by_header("X-Test")));
    assert!(fill(&config(), &split_by_header("X-Test"), "", true).contains("req.fhdr(x-test)"));
}

#[test]
fn a_backup_is_marked_as_one_in_the_canary_backend() {
    let mut desired = with_server();
    let server = desired.servers["users/users-1"].clone();
    desired.servers.insert("users.canary/users-1.backup".to_owned(), server);
    let text = fill(&config(), &desired, "", true);
    let canary = text.split("backend users.canary from base\n").nth(1).expect("the canary backend");
    assert!(canary.contains("    server users-1.backup 127.0.0.1:9001 backup weight 100\n"), "{canary}");
}

#[test]
fn one_address_gets_a_quarter_of_the_connections_and_a_share_of_the_cores() {
    let text = fill(&config(), &at_start(), "", true);
    assert!(text.contains("if { sc0_conn_cur gt 1000 }") && text.contains("if { sc0_conn_cur gt 1250 }"), "{text}");
    let credentials = config().credentials_per_10s();
    assert!(credentials >= 250 && credentials.is_multiple_of(250), "{credentials}");
}
