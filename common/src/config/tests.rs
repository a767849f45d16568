use secrecy::ExposeSecret;

use super::*;

#[derive(Conf, Debug)]
struct Config {
    #[conf(flatten)]
    process: ProcessConfig,
    #[conf(flatten)]
    database: DatabaseConfig,
    #[conf(flatten)]
    registry: Option<RegistryConfig>,
    #[conf(flatten)]
    events: Option<EventsConfig>,
    #[conf(flatten)]
    internal_listener: Option<InternalListenerConfig>,
}

fn read(environment: &[(&str, &str)]) -> Result<Config, String> {
    Config::try_parse_from(["flack"], environment.iter().copied()).map_err(|problems| problems.to_string())
}

#[test]
fn a_process_without_registry_and_nats_needs_only_a_database() {
    let config = read(&[("DATABASE_URL", "postgres://localhost/flack")]).unwrap();
    assert_eq!(config.database.url.expose_secret(), "postgres://localhost/flack");
    assert_eq!(config.database.connections_max, 8);
    assert_eq!(config.process.listen.to_string(), "127.0.0.1:0");
    assert!(config.registry.is_none() && config.events.is_none() && config.internal_listener.is_none());
}

#[test]
fn a_service_reads_the_addresses_of_registry_nats_and_internal_listener() {
    let config = read(&[
        ("DATABASE_URL", "postgres://localhost/users"),
        ("ETCD_URL", "http://127.0.0.1:2379/"),
        ("ETCD_USER", "users"),
        ("ETCD_PASSWORD", "hush"),
        ("NATS_URL", "nats://127.0.0.1:4222"),
        ("INTERNAL_URL", "http://127.0.0.1:8081"),
    ])
    .unwrap();
    let registry = config.registry.unwrap();
    assert_eq!(registry.url, "http://127.0.0.1:2379");
    assert_eq!(registry.password.unwrap().expose_secret(), "hush");
    assert_eq!(config.events.unwrap().url, "nats://127.0.0.1:4222");
    assert_eq!(config.internal_listener.unwrap().url, "http://127.0.0.1:8081");
}

#[test]
fn all_problems_are_reported_at_once() {
    let problems = read(&[
        ("FLACK_INSTANCE", "Users 1"),
        ("FLACK_LISTEN", "somewhere"),
        ("DATABASE_CONNECTIONS_MAX", "0"),
        ("ETCD_URL", "2379"),
        ("NATS_USER", "users"),
    ])
    .unwrap_err();
    let names = ["FLACK_INSTANCE", "FLACK_LISTEN", "DATABASE_CONNECTIONS_MAX", "DATABASE_URL", "ETCD_URL", "NATS_URL"];
    for name in names {
        assert!(problems.contains(name), "{name} is not mentioned in:\n{problems}");
    }
}

#[test]
fn a_user_without_a_password_is_reported() {
    let problems = read(&[
        ("DATABASE_URL", "postgres://localhost/users"),
        ("ETCD_URL", "http://127.0.0.1:2379"),
        ("ETCD_USER", "users"),
    ])
    .unwrap_err();
    assert!(problems.contains("ETCD_USER and ETCD_PASSWORD"), "{problems}");
}

#[test]
fn a_registry_with_certificates_needs_https_a_ca_and_both_files() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    let registry = |variables: &[(&'static str, &str)]| {
        let database = [("DATABASE_URL", "postgres://localhost/users")];
        read(&[&database[..], variables].concat()).map(|config| config.registry.unwrap())
    };
    let (http, https) = (("ETCD_URL", "http://127.0.0.1:2379"), ("ETCD_URL", "https://127.0.0.1:2379"));
    let (ca, cert, key) = (("ETCD_CA_FILE", file), ("ETCD_CERT_FILE", file), ("ETCD_KEY_FILE", file));
    assert!(registry(&[https, ca, cert, key]).unwrap().ca_file.is_some());
    registry(&[https, ca]).unwrap();
    for (variables, problem) in [
        (vec![https], "set ETCD_CA_FILE"),
        (vec![https, ca, cert], "set both ETCD_CERT_FILE and ETCD_KEY_FILE"),
        (vec![http, ca], "use https in ETCD_URL"),
        (vec![http, cert, key], "use https in ETCD_URL"),
        (vec![https, ("ETCD_CA_FILE", "/nowhere/ca.pem")], "/nowhere/ca.pem cannot be read"),
    ] {
        let problems = registry(&variables).unwrap_err();
        assert!(problems.contains(problem), "{variables:?}: {problems}");
    }
}

#[test]
fn credentials_in_a_url_that_is_logged_are_refused() {
    let problems =
        read(&[("DATABASE_URL", "postgres://localhost/users"), ("NATS_URL", "nats://users:hush@127.0.0.1:4222")])
            .unwrap_err();
    assert!(problems.contains("their own variables"), "{problems}");
}

#[test]
fn secrets_are_neither_in_problems_nor_in_debug_output() {
    let problems = read(&[
        ("DATABASE_URL", "postgres://users:hush@localhost/users"),
        ("ETCD_PASSWORD", "hush"),
        ("FLACK_LISTEN", "somewhere"),
    ])
    .unwrap_err();
    assert!(!problems.contains("hush"), "{problems}");
    let config = read(&[("DATABASE_URL", "postgres://users:hush@localhost/users")]).unwrap();
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn a_process_has_the_version_of_the_package_unless_it_is_configured() {
    let config = read(&[("DATABASE_URL", "postgres://localhost/users")]).unwrap().process;
    assert_eq!((config.version(), config.commit.as_deref(), config.weight), (VERSION, None, 100));
    let config = read(&[
        ("DATABASE_URL", "postgres://localhost/users"),
        ("FLACK_VERSION", "2-bad"),
        ("FLACK_COMMIT", "4e57a53-dirty"),
        ("FLACK_WEIGHT", "0"),
        ("FLACK_FAULTS", "errors=10%,not-ready"),
    ])
    .unwrap()
    .process;
    assert_eq!((config.version(), config.commit.as_deref(), config.weight), ("2-bad", Some("4e57a53-dirty"), 0));
    assert_eq!(config.faults.unwrap().to_string(), "errors=10%,not-ready");
}

#[test]
fn a_version_that_is_no_plain_name_is_refused() {
    for version in ["", ".", "..", "../2", "a/b", "-2", "2 3", "V2", "2\n", &"1".repeat(33)] {
        assert!(parse_version(version).is_err(), "{version:?} was accepted");
    }
    for version in ["2", "0.1.0", "1.4.0-rc.1", "2-bad", "a_b", &"1".repeat(32)] {
        parse_version(version).unwrap();
    }
}

#[test]
fn problems_with_version_weight_and_faults_name_the_variable() {
    for (name, value, why) in [
        ("FLACK_VERSION", "../2", "a version is 1 to 32 of"),
        ("FLACK_COMMIT", "4e57 a53", "a commit is 1 to 64 of"),
        ("FLACK_WEIGHT", "257", "from 0 to 256"),
        ("FLACK_WEIGHT", "-1", "from 0 to 256"),
        ("FLACK_FAULTS", "slow=50", "is not a time"),
    ] {
        let problems = read(&[("DATABASE_URL", "postgres://localhost/users"), (name, value)]).unwrap_err();
        assert!(problems.contains(name) && problems.contains(why), "{problems}");
    }
}

#[test]
fn an_instance_without_a_configured_name_gets_a_unique_one() {
    let config = read(&[("DATABASE_URL", "postgres://localhost/users")]).unwrap();
    let (one, other) = (config.process.instance_name("users"), config.process.instance_name("users"));
    assert!(one.starts_with("users-") && one.len() == "users-".len() + 8, "{one}");
    assert_ne!(one, other);
}

#[test]
fn a_secret_may_be_in_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "hush\n").unwrap();
    let path = |path: &Path| BTreeMap::from([("NATS_PASSWORD_FILE".into(), path.as_os_str().to_owned())]);
    let environment = with_secrets_of_files(path(file.path())).unwrap();
    assert_eq!(environment, BTreeMap::from([("NATS_PASSWORD".into(), "hush".into())]));

    let problem = with_secrets_of_files(path(Path::new("/nowhere/password"))).unwrap_err();
    assert!(problem.contains("NATS_PASSWORD_FILE: /nowhere/password cannot be read"), "{problem}");
    let mut both = path(file.path());
    both.insert("NATS_PASSWORD".into(), "hush".into());
    let problem = with_secrets_of_files(both).unwrap_err();
    assert!(problem.contains("not both") && !problem.contains("hush"), "{problem}");
}

#[test]
fn a_process_that_listens_on_all_addresses_advertises_a_name_that_others_can_resolve() {
    let host = |listen, advertise: &[(&'static str, &'static str)]| {
        let variables = [("DATABASE_URL", "postgres://localhost/users"), ("FLACK_LISTEN", listen)];
        read(&[&variables[..], advertise].concat()).unwrap().process.advertised_host().unwrap()
    };
    let machine = nix::unistd::gethostname().unwrap().into_string().unwrap();
    assert_eq!(host("0.0.0.0:8000", &[]).as_deref(), Some(machine.as_str()));
    assert_eq!(host("0.0.0.0:8000", &[("FLACK_ADVERTISE", "10.0.0.7")]).as_deref(), Some("10.0.0.7"));
    assert_eq!(host("127.0.0.1:8000", &[]), None);
}
