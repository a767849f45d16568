//! `docker-compose.yml` and the `Dockerfile` compared with the catalogue, and what every container must have.

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use flack_catalogue::{MONOLITH, SERVICES};
use serde_yaml_ng::Value;

use crate::files::{compose_file, containers, keys, read, root, succeed, texts, tools};

/// Containers that end when their step of the start is done.
const STEPS: [&str; 2] = ["secrets", "accounts"];
/// Containers without a health check: steps, and one that no other container needs.
const WITHOUT_HEALTH_CHECK: [&str; 3] = ["secrets", "accounts", "streams"];
/// Containers besides instances and databases.
const OTHERS: [&str; 7] = ["secrets", "accounts", "haproxy", "agent", "etcd", "nats", "streams"];
/// An instance stops within 20 s (`mf/src/stack.rs`).
const STOP_SECONDS_MAX: u64 = 20;
const FILE: &str = "docker-compose.yml";
/// Files that change it.
const OVERRIDES: [&str; 2] = [HIGHLY_AVAILABLE, "docker-compose.upstream.yml"];
const HIGHLY_AVAILABLE: &str = "docker-compose.ha.yml";
/// What only the databases are: there is one of each.
const DATABASES: &str = "postgres-";

#[test]
fn every_service_of_the_catalogue_has_a_container_and_a_database_that_only_it_reaches() {
    let file = compose_file(FILE);
    let mut expected: BTreeSet<String> = OTHERS.iter().map(ToString::to_string).collect();
    for service in &SERVICES {
        let (name, postgres) = (service.name, format!("postgres-{}", service.database));
        let network = format!("database-{}", service.database);
        let (instance, database) = (&file["services"][name], &file["services"][postgres.as_str()]);
        let profile: &[&str] = match service {
            service if service.name == MONOLITH => &[],
            service if service.has_authority => &["services"],
            _ => &["extras"],
        };
        assert_eq!(texts(&instance["command"]), [service.program()], "{name}");
        assert_eq!(instance["environment"]["NATS_USER"], name, "{name}");
        assert_eq!(texts(&instance["volumes"]), [format!("{name}:/var/lib/flack:ro")], "{name}");
        assert_eq!(instance["depends_on"][postgres.as_str()]["condition"], "service_healthy", "{name}");
        assert_eq!(texts(&instance["profiles"]), profile, "{name}");

        assert_eq!(texts(&database["command"]), ["mf", "container", "postgres", name], "{postgres}");
        assert_eq!(texts(&database["volumes"]), [format!("{postgres}:/var/lib/flack")], "{postgres}");
        assert_eq!(texts(&database["networks"]), [network.as_str()], "{postgres}");
        assert_eq!(texts(&database["profiles"]), profile, "{postgres}");
        assert_eq!(file["networks"][network.as_str()]["internal"], true, "{network}");
        let all = containers(&file).into_iter();
        let users = all.filter(|(_, container)| texts(&container["networks"]).contains(&network));
        let users: BTreeSet<_> = users.map(|(name, _)| name).collect();
        assert_eq!(users, BTreeSet::from([name.to_owned(), postgres.clone()]), "who reaches {postgres}");
        expected.extend([name.to_owned(), postgres]);
    }
    let names: BTreeSet<String> = containers(&file).into_keys().collect();
    assert_eq!(names, expected, "containers that belong to no service of the catalogue, or are missing");
}

#[test]
fn every_volume_gets_its_secrets_and_its_owner() {
    let file = compose_file(FILE);
    let highly_available = compose_file(HIGHLY_AVAILABLE);
    let mut volumes: BTreeSet<String> = keys(&file["volumes"]).into_iter().filter(|name| name != "secrets").collect();
    volumes.extend(keys(&highly_available["volumes"]));
    let mut expected: BTreeSet<String> = volumes.iter().map(|name| format!("{name}:/volumes/{name}")).collect();
    expected.insert("secrets:/var/lib/flack".to_owned());
    let mounts = |file: &Value| texts(&file["services"]["secrets"]["volumes"]);
    let mounted: BTreeSet<String> = mounts(&file).into_iter().chain(mounts(&highly_available)).collect();
    assert_eq!(mounted, expected, "the volumes of the container secrets");
    // An empty volume takes over the owner of the folder that it is mounted at.
    let dockerfile = read("Dockerfile");
    let (_, rest) = dockerfile.split_once("for container in").expect("the list of volumes");
    let list = rest.split_once(';').expect("the end of the list").0;
    let folders: BTreeSet<String> = list.split_whitespace().filter(|word| *word != "\\").map(str::to_owned).collect();
    assert_eq!(folders, volumes, "the folders below /volumes in the Dockerfile");
}

#[test]
fn every_container_is_limited_and_only_the_balancer_is_published() {
    let file = compose_file(FILE);
    for (name, container) in containers(&file) {
        assert_eq!(container["read_only"], true, "{name}");
        assert_eq!(texts(&container["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(texts(&container["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert!(container["mem_limit"].is_string(), "{name} has a limit of memory");
        assert!(container["logging"]["options"]["max-size"].is_string(), "{name} has a limit of its log");
        for forbidden in ["privileged", "cap_add", "user", "container_name", "devices"] {
            assert!(container[forbidden].is_null(), "{name}: {forbidden}");
        }
        let restart = if STEPS.contains(&name.as_str()) { "no" } else { "unless-stopped" };
        assert_eq!(container["restart"], restart, "{name}");
        let has_check = !container["healthcheck"]["test"].is_null();
        assert_eq!(has_check, !WITHOUT_HEALTH_CHECK.contains(&name.as_str()), "{name}: health check");
        assert_eq!(container["ports"].is_null(), name != "haproxy", "{name}: ports");
    }
    for port in texts(&file["services"]["haproxy"]["ports"]) {
        assert!(port.starts_with("127.0.0.1:") || port.starts_with("${FLACK_ADDRESS:-127.0.0.1}:"), "{port}");
    }
    for service in &SERVICES {
        let grace = &file["services"][service.name]["stop_grace_period"];
        let seconds: u64 = grace.as_str().and_then(|text| text.strip_suffix('s')?.parse().ok()).expect("seconds");
        assert!(seconds > STOP_SECONDS_MAX, "{service}: {seconds} s");
    }
}

/// Of everything but the databases there are two or three, of each member in a container with the same limits.
#[test]
fn nothing_but_a_database_is_there_only_once() {
    let (file, more) = (compose_file(FILE), compose_file(HIGHLY_AVAILABLE));
    let copies =
        |name: &str| 1 + (2..=9).filter(|copy| !more["services"][format!("{name}-{copy}").as_str()].is_null()).count();
    for (name, container) in containers(&file) {
        if SERVICES.iter().any(|service| service.name == name) {
            assert_eq!(more["services"][name.as_str()]["scale"], 2, "{name}");
            for store in ["ETCD_URL", "NATS_URL"] {
                let members = more["services"][name.as_str()]["environment"][store].as_str().expect(store);
                assert_eq!(members.split(',').count(), 3, "{name}: {members}");
            }
            continue;
        }
        let expected = match name.as_str() {
            "etcd" | "nats" => 3,
            "haproxy" | "agent" => 2,
            // It keeps nothing: another one is started.
            "streams" => 1,
            name if STEPS.contains(&name) || name.starts_with(DATABASES) => 1,
            name => panic!("{name} is in no list"),
        };
        assert_eq!(copies(&name), expected, "{name}");
        for copy in 2..=expected {
            let copy = &more["services"][format!("{name}-{copy}").as_str()];
            for limit in
                ["image", "mem_limit", "read_only", "cap_drop", "security_opt", "restart", "healthcheck", "logging"]
            {
                assert_eq!(copy[limit], container[limit], "{limit} of a copy of {name}");
            }
        }
    }
}

/// Every server comes from another image, and the program of its health check with it.
#[test]
fn the_override_with_upstream_images_has_every_server() {
    let (file, upstream) = (compose_file(FILE), compose_file("docker-compose.upstream.yml"));
    for (name, container) in containers(&file) {
        let is_server = ["haproxy", "etcd", "nats"].contains(&name.as_str()) || name.starts_with(DATABASES);
        let other = &upstream["services"][name.as_str()];
        assert_eq!(!other.is_null(), is_server, "{name}");
        if is_server {
            assert_ne!(other["image"], container["image"], "{name}");
            let test = texts(&container["healthcheck"]["test"]);
            assert_eq!(test.contains(&"mf".to_owned()), !other["healthcheck"].is_null(), "{name}: health check");
        }
    }
    for service in &SERVICES {
        let database = &upstream["services"][format!("postgres-{}", service.database).as_str()];
        assert_eq!(database["environment"]["POSTGRES_USER"], service.database);
    }
}

#[test]
fn the_images_use_the_rust_version_of_the_workspace() {
    let version = |text: &str, before: &str| -> String {
        let rest = text.split_once(before).expect("a version").1;
        rest.chars().take_while(|character| character.is_ascii_digit() || *character == '.').collect()
    };
    let toolchain = version(&read("rust-toolchain.toml"), "channel = \"");
    let image = version(&read("Dockerfile"), "ARG RUST=rust:");
    assert!(toolchain.starts_with(&format!("{image}.")), "{toolchain} and {image}");
}

#[test]
fn docker_compose_1_29_and_the_compose_of_today_accept_every_file() {
    let mut programs = vec![PathBuf::from("docker-compose")];
    programs.extend(tools().map(|folder| folder.join("compose/docker-compose")));
    for program in programs {
        if Command::new(&program).arg("version").output().is_err() {
            println!("skipped: {} is not installed", program.display());
            continue;
        }
        for profiles in ["services", "monolith", "monolith,services", "services,extras"] {
            for changed in [None].into_iter().chain(OVERRIDES.map(Some)) {
                let files = [FILE].into_iter().chain(changed).flat_map(|file| ["-f", file]);
                let mut command = Command::new(&program);
                command.args(files).args(["config", "-q"]).current_dir(root()).env("COMPOSE_PROFILES", profiles);
                succeed(&mut command);
            }
        }
    }
}
