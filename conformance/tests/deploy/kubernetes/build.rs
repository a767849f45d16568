//! `kustomize build` for what `deploy/kubernetes` uses of it: resources, components, patches (strategic merge, with a
//! target of a kind and one label), and the namespace. Everything else is refused, because kustomize cannot be
//! installed where the tests run.

use std::{collections::BTreeSet, path::Path};

use serde::Deserialize as _;
use serde_yaml_ng::{Deserializer, Mapping, Value};

use crate::files::{keys, read, root};

const FIELDS: [&str; 6] = ["apiVersion", "kind", "namespace", "resources", "components", "patches"];

/// Returns the objects of a folder below `deploy/kubernetes`.
pub fn build(folder: &str) -> Vec<Value> {
    let mut objects = Vec::new();
    apply(folder, &mut objects);
    let names: BTreeSet<String> = objects.iter().map(|object| format!("{:?}", identity(object))).collect();
    assert_eq!(names.len(), objects.len(), "{folder} has two objects of one name");
    objects
}

/// Applies a kustomization to the objects so far.
fn apply(folder: &str, objects: &mut Vec<Value>) {
    let kustomization = documents(&format!("{folder}/kustomization.yaml")).remove(0);
    for field in keys(&kustomization) {
        assert!(FIELDS.contains(&field.as_str()), "{folder}: build.rs does not know the field {field}");
    }
    for resource in list(&kustomization, "resources").map(text) {
        let path = joined(folder, &resource);
        // A folder has a kustomization of its own.
        if root().join("deploy/kubernetes").join(&path).is_dir() {
            apply(&path, objects);
        } else {
            objects.extend(documents(&path));
        }
    }
    for component in list(&kustomization, "components").map(text) {
        apply(&joined(folder, &component), objects);
    }
    for entry in list(&kustomization, "patches") {
        let patch = documents(&format!("{folder}/{}", text(&entry["path"]))).remove(0);
        let targets: Vec<&mut Value> =
            objects.iter_mut().filter(|object| is_target(object, &entry["target"], &patch)).collect();
        assert!(!targets.is_empty(), "{folder}: no object for the patch {:?}", entry["path"]);
        for object in targets {
            let mut patch = patch.clone();
            if !entry["target"].is_null() {
                // The target has chosen the objects; the patch does not rename them.
                patch.as_mapping_mut().expect("an object").retain(|key, _| key == "spec");
            }
            merge(object, &patch, "");
        }
    }
    if let Some(namespace) = kustomization["namespace"].as_str() {
        for object in objects.iter_mut().filter(|object| object["kind"] != "Namespace") {
            object["metadata"]["namespace"] = namespace.into();
        }
    }
}

fn is_target(object: &Value, target: &Value, patch: &Value) -> bool {
    if target.is_null() {
        return identity(object) == identity(patch);
    }
    let has_label = match target["labelSelector"].as_str() {
        Some(selector) => {
            let (label, value) = selector.split_once('=').expect("a label and its value");
            object["metadata"]["labels"][label] == value
        }
        None => true,
    };
    assert!(keys(target).iter().all(|key| key == "kind" || key == "labelSelector"), "an unknown target {target:?}");
    has_label && object["kind"] == target["kind"]
}

/// Merges as Kubernetes does: mappings by key, and lists of named objects by their key.
fn merge(into: &mut Value, patch: &Value, field: &str) {
    match (into, patch) {
        (Value::Mapping(into), Value::Mapping(patch)) => {
            for (key, value) in patch {
                match into.get_mut(key) {
                    Some(present) => merge(present, value, key.as_str().unwrap_or_default()),
                    None => drop(into.insert(key.clone(), value.clone())),
                }
            }
        }
        (Value::Sequence(into), Value::Sequence(patch)) if patch.iter().all(Value::is_mapping) => {
            let key = match field {
                "containers" | "initContainers" | "env" | "volumes" => "name",
                _ => panic!("build.rs does not know how Kubernetes merges the list {field}"),
            };
            for value in patch {
                match into.iter_mut().find(|present| present[key] == value[key]) {
                    Some(present) => merge(present, value, field),
                    None => into.push(value.clone()),
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

fn identity(object: &Value) -> (&Value, &Value, &Value) {
    (&object["apiVersion"], &object["kind"], &object["metadata"]["name"])
}

fn documents(path: &str) -> Vec<Value> {
    let file = read(&format!("deploy/kubernetes/{path}"));
    let document = |document| Value::Mapping(Mapping::deserialize(document).expect(path));
    Deserializer::from_str(&file).map(document).collect()
}

fn joined(folder: &str, relative: &str) -> String {
    let mut path = Path::new(folder).to_owned();
    for part in Path::new(relative) {
        if part == ".." { assert!(path.pop(), "{relative}") } else { path.push(part) }
    }
    path.to_str().expect("a path").to_owned()
}

fn list<'value>(kustomization: &'value Value, field: &str) -> impl Iterator<Item = &'value Value> {
    kustomization[field].as_sequence().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
