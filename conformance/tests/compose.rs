//! `docker-compose.yml` and the `Dockerfile` compared with the catalogue, and what every container must have.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use flack_catalogue::{MONOLITH, SERVICES};
use serde_yaml_ng::Value;

/// Containers that end when their step of the start is done.
const STEPS: [&str; 2] = ["secrets", "accounts"];
/// Containers without a health check: steps, and one that no other container needs.
const WITHOUT_HEALTH_CHECK: [&str; 3] = ["secrets", "accounts", "streams"];
/// Containers besides instances and databases.
const OTHERS: [&str; 7] = ["secrets", "accounts", "haproxy", "agent", "etcd", "nats", "streams"];
/// An instance stops within 20 s (`mf/src/stack.rs`).
const STOP_SECONDS_MAX: u64 = 20;
/// A container merges a block, which merges another one.
const MERGE_DEPTH: usize = 2;

#[test]
fn every_service_of_the_catalogue_has_a_container_and_a_database_that_only_it_reaches() {
    let file = compose_file();
    let mut expected: BTreeSet<String> = OTHERS.iter().map(ToString::to_string).collect();
    for service in &SERVICES {
        let (name, postgres) = (service.name, format!("postgres-{}", service.database));
        let network = format!("database-{}", service.database);
        let (instance, database) = (&file["services"][name], &file["services"][postgres.as_str()]);
        let profile: &[&str] = if name == MONOLITH { &[] } else { &["services"] };
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
        let users = containers(&file).filter(|(_, container)| texts(&container["networks"]).contains(&network));
        let users: BTreeSet<_> = users.map(|(name, _)| name).collect();
        assert_eq!(users, BTreeSet::from([name.to_owned(), postgres.clone()]), "who reaches {postgres}");
        expected.extend([name.to_owned(), postgres]);
    }
    let names: BTreeSet<String> = containers(&file).map(|(name, _)| name).collect();
    assert_eq!(names, expected, "containers that belong to no service of the catalogue, or are missing");
}

#[test]
fn every_volume_gets_its_secrets_and_its_owner() {
    let file = compose_file();
    let volumes: BTreeSet<String> = keys(&file["volumes"]).into_iter().filter(|name| name != "secrets").collect();
    let mut expected: BTreeSet<String> = volumes.iter().map(|name| format!("{name}:/volumes/{name}")).collect();
    expected.insert("secrets:/var/lib/flack".to_owned());
    let mounted: BTreeSet<String> = texts(&file["services"]["secrets"]["volumes"]).into_iter().collect();
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
    let file = compose_file();
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
fn docker_compose_accepts_the_file() {
    for (program, arguments) in [("docker-compose", &[][..]), ("docker", &["compose"][..])] {
        let run = |more: &[&str]| Command::new(program).args(arguments).args(more).current_dir(root()).output();
        if !run(&["version"]).is_ok_and(|output| output.status.success()) {
            println!("skipped: {program} {} is not installed", arguments.join(" "));
            continue;
        }
        for profiles in ["services", "monolith", "monolith,services"] {
            let mut command = Command::new(program);
            command.args(arguments).args(["config", "-q"]).current_dir(root()).env("COMPOSE_PROFILES", profiles);
            let output = command.output().expect("it is installed");
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program}, profile {profiles}: {errors}");
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

fn compose_file() -> Value {
    let mut file: Value = serde_yaml_ng::from_str(&read("docker-compose.yml")).expect("it is YAML");
    for _ in 0..MERGE_DEPTH {
        file.apply_merge().expect("its merge keys are mappings");
    }
    file
}

fn containers(file: &Value) -> impl Iterator<Item = (String, &Value)> {
    let services: BTreeMap<String, &Value> = file["services"]
        .as_mapping()
        .expect("services")
        .iter()
        .map(|(name, container)| (name.as_str().expect("a name").to_owned(), container))
        .collect();
    services.into_iter()
}

fn keys(mapping: &Value) -> BTreeSet<String> {
    mapping.as_mapping().expect("a mapping").keys().map(|key| key.as_str().expect("a name").to_owned()).collect()
}

/// The texts of a list; none if it is absent.
fn texts(list: &Value) -> Vec<String> {
    list.as_sequence().into_iter().flatten().map(|text| text.as_str().expect("a text").to_owned()).collect()
}
