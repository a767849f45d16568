//! `deploy/kubernetes`: the objects of each overlay.

mod build;

use std::{collections::BTreeSet, fs, process::Command};

use flack_catalogue::{MONOLITH, SERVICES};
use flack_conformance::stack::Operator;
use serde_yaml_ng::Value;

use crate::files::{compose_file, succeed, texts, tools};
use build::build;

const OVERLAYS: [&str; 2] = [SERVICES_OVERLAY, "overlays/monolith"];
const SERVICES_OVERLAY: &str = "overlays/services";
/// Pods besides instances and databases.
const OTHERS: [&str; 4] = ["haproxy", "etcd", "nats", "streams"];
/// An instance stops within 20 s (`mf/src/stack.rs`).
const STOP_SECONDS_MAX: u64 = 20;
const USER: u64 = 10_000;

#[test]
fn every_service_has_instances_and_a_database_that_only_it_reaches() {
    for overlay in OVERLAYS {
        let objects = build(overlay);
        let mut expected: BTreeSet<String> = OTHERS.iter().map(ToString::to_string).collect();
        for service in SERVICES.iter().filter(|service| overlay == SERVICES_OVERLAY || service.name == MONOLITH) {
            let (name, postgres) = (service.name, format!("postgres-{}", service.database));
            let (instance, database) = (pod(&objects, name), pod(&objects, &postgres));
            assert_eq!(texts(&container(instance, "instance")["command"]), [service.program()], "{overlay}, {name}");
            assert_eq!(variable(container(instance, "instance"), "NATS_USER"), name, "{overlay}");
            assert_eq!(secret_name(instance), name, "{overlay}");
            find(&objects, "PodDisruptionBudget", name);

            let command = texts(&container(database, "postgres")["command"]);
            assert_eq!(command, ["mf", "container", "postgres", name], "{overlay}, {postgres}");
            assert_eq!(secret_name(database), postgres, "{overlay}");
            assert_eq!(find(&objects, "Service", &postgres)["spec"]["ports"][0]["port"], 5432, "{overlay}");
            let policy = &find(&objects, "NetworkPolicy", &postgres)["spec"];
            let policy = serde_json::to_value(policy).expect("it is JSON, too");
            let only_its_owner = serde_json::json!({
                "podSelector": {"matchLabels": {"app.kubernetes.io/name": postgres}},
                "policyTypes": ["Ingress"],
                "ingress": [{
                    "from": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": name}}}],
                    "ports": [{"port": 5432}],
                }],
            });
            assert_eq!(policy, only_its_owner, "{overlay}, {postgres}");
            expected.extend([name.to_owned(), postgres]);
        }
        let names: BTreeSet<String> = workloads(&objects).map(name).collect();
        assert_eq!(names, expected, "pods of {overlay} that belong to no service of the catalogue, or are missing");
        // The rules for a component are for all pods of it, and for no others.
        for object in workloads(&objects) {
            let labels = &object["spec"]["template"]["metadata"]["labels"];
            let component = match name(object).as_str() {
                "haproxy" => "balancer",
                "etcd" | "nats" => "store",
                "streams" => "operator",
                other if other.starts_with("postgres-") => "database",
                _ => "instance",
            };
            assert_eq!(labels["app.kubernetes.io/component"], component, "{overlay}, {}", name(object));
            assert_eq!(labels["app.kubernetes.io/name"], name(object).as_str(), "{overlay}");
            assert_eq!(object["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"], name(object).as_str());
        }
    }
}

#[test]
fn mf_makes_the_secrets_that_the_pods_mount() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut command = Operator::default().command(&["container", "secrets", "--kubernetes"]).expect("mf");
    let list = succeed(command.env("MF_HOME", home.path()));
    let secrets: Value = serde_yaml_ng::from_str(&list).expect("JSON is YAML");
    let made: BTreeSet<String> = secrets["items"].as_sequence().expect("a list").iter().map(name).collect();
    let mounted: BTreeSet<String> =
        workloads(&build(SERVICES_OVERLAY)).map(|object| secret_name(&object["spec"]["template"]["spec"])).collect();
    assert_eq!(made, mounted);
    // Each file that a pod names is in its Secret.
    for object in workloads(&build(SERVICES_OVERLAY)) {
        let text = serde_json::to_string(object).expect("plain data");
        let secret = secret_name(&object["spec"]["template"]["spec"]);
        let secret = secrets["items"].as_sequence().expect("a list").iter().find(|other| name(other) == secret);
        let files = secret.expect("a Secret")["stringData"].as_mapping().expect("files");
        for path in text.split("/var/lib/flack/secrets/").skip(1) {
            let file: String = path.chars().take_while(|next| next.is_alphanumeric() || "-.".contains(*next)).collect();
            assert!(files.contains_key(file.as_str()), "{}: {file}", name(object));
        }
    }
    validate("secrets", &list);
}

#[test]
fn every_pod_is_limited_and_has_no_rights() {
    let compose = compose_file("docker-compose.yml");
    for overlay in OVERLAYS {
        let objects = build(overlay);
        for object in workloads(&objects) {
            let (pod, name) = (&object["spec"]["template"]["spec"], name(object));
            let context = &pod["securityContext"];
            assert_eq!((&context["runAsNonRoot"], &context["runAsUser"]), (&true.into(), &USER.into()), "{name}");
            assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault", "{name}");
            assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
            let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("seconds");
            assert!(grace > STOP_SECONDS_MAX, "{name}: {grace} s");
            for container in all_containers(pod) {
                let of_container = container["name"].as_str().expect("a name");
                let context = &container["securityContext"];
                assert_eq!(context["readOnlyRootFilesystem"], true, "{name}, {of_container}");
                assert_eq!(context["allowPrivilegeEscalation"], false, "{name}, {of_container}");
                assert_eq!(texts(&context["capabilities"]["drop"]), ["ALL"], "{name}, {of_container}");
                assert!(container["resources"]["requests"]["memory"].is_string(), "{name}, {of_container}");
                // The same limit as in docker-compose.yml, whose container has the name of the pod or of the container.
                let container_of_compose = match of_container {
                    "instance" | "postgres" => name.as_str(),
                    other => other,
                };
                let limit = container["resources"]["limits"]["memory"].as_str().expect("a limit");
                let expected = compose["services"][container_of_compose]["mem_limit"].as_str().expect("a limit");
                assert_eq!(limit, expected.replace('m', "Mi"), "{name}, {of_container}");
            }
        }
    }
}

#[test]
fn kubernetes_accepts_every_object() {
    for overlay in OVERLAYS {
        let documents: Vec<String> =
            build(overlay).iter().map(|object| serde_yaml_ng::to_string(object).expect("YAML")).collect();
        validate(overlay, &documents.join("---\n"));
    }
}

fn validate(what: &str, documents: &str) {
    let Some(tools) = tools() else { return };
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a temporary file");
    fs::write(file.path(), documents).expect("a written file");
    let mut command = Command::new("python3");
    command.args(["-m", "kubernetes_validate", "--strict", "--quiet"]).arg(file.path()).env("PYTHONPATH", tools);
    println!("{what}: {}", succeed(&mut command));
}

fn find<'objects>(objects: &'objects [Value], kind: &str, wanted: &str) -> &'objects Value {
    let found = objects.iter().find(|object| object["kind"] == kind && name(object) == wanted);
    found.unwrap_or_else(|| panic!("there is no {kind} {wanted}"))
}

fn workloads(objects: &[Value]) -> impl Iterator<Item = &Value> {
    objects.iter().filter(|object| !object["spec"]["template"].is_null())
}

fn pod<'objects>(objects: &'objects [Value], wanted: &str) -> &'objects Value {
    let found = workloads(objects).find(|object| name(object) == wanted);
    &found.unwrap_or_else(|| panic!("there is no pod {wanted}"))["spec"]["template"]["spec"]
}

fn all_containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().flat_map(|list| pod[list].as_sequence().into_iter().flatten())
}

fn container<'pod>(pod: &'pod Value, wanted: &str) -> &'pod Value {
    all_containers(pod).find(|container| container["name"] == wanted).expect("a container")
}

fn variable(container: &Value, wanted: &str) -> Value {
    let variables = container["env"].as_sequence().expect("variables");
    variables.iter().find(|variable| variable["name"] == wanted).expect("a variable")["value"].clone()
}

fn secret_name(pod: &Value) -> String {
    let volumes = pod["volumes"].as_sequence().expect("volumes");
    let secret = volumes.iter().find_map(|volume| volume["secret"]["secretName"].as_str());
    secret.expect("a volume with secrets").to_owned()
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().expect("a name").to_owned()
}
