use super::*;
use crate::target::{Addresses, Server, target};

fn settings() -> Settings {
    let listen = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    Settings {
        public_listen: listen(8080),
        internal_listen: listen(8081),
        stats_listen: listen(8404),
        connections_max: 4000,
        limit_credentials_per_10s: 300,
        limit_requests_per_10s: 100_000,
        program: None,
    }
}

fn at_start() -> Target {
    target(&crate::knowledge::Knowledge::default(), &Addresses::new(), None)
}

fn with_server() -> Target {
    let mut target = at_start();
    let server = Server { address: "127.0.0.1:9001".parse().expect("an address"), weight: 100 };
    target.backends.get_mut("users").expect("known from the start").servers.insert("users-1".into(), server);
    target
}

#[test]
fn every_word_of_the_template_is_filled_in() {
    let text = configuration(&settings(), &with_server());
    assert!(!text.contains("{{"), "a word was left over:\n{text}");
    assert!(text.contains("    server users-1 127.0.0.1:9001 weight 100\n"));
}

#[test]
fn a_new_server_is_no_new_structure() {
    assert_eq!(structure(&settings(), &at_start()), structure(&settings(), &with_server()));
}

#[test]
fn a_new_service_or_setting_is_a_new_structure() {
    let before = structure(&settings(), &at_start());
    let mut target = at_start();
    let backend = target.backends["users"].clone();
    target.backends.insert("rooms".into(), backend);
    assert_ne!(before, structure(&settings(), &target));
    let other = Settings { limit_credentials_per_10s: 1, ..settings() };
    assert_ne!(before, structure(&other, &at_start()));
}

#[test]
fn what_haproxy_answers_itself_is_json() {
    for line in errors().lines() {
        let body = line.split('\'').nth(1).expect("the body stands in quotes");
        let body: serde_json::Value = serde_json::from_str(body).expect("it is JSON");
        for member in ["type", "title", "status", "detail", "error"] {
            assert!(body.get(member).is_some(), "{member} is missing in {line}");
        }
    }
}
