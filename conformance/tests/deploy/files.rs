//! The files, as values of YAML.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_yaml_ng::Value;

/// A container merges a block, which merges another one.
const MERGE_DEPTH: usize = 2;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

pub fn compose_file(path: &str) -> Value {
    let mut file: Value = serde_yaml_ng::from_str(&read(path)).expect("it is YAML");
    for _ in 0..MERGE_DEPTH {
        file.apply_merge().expect("its merge keys are mappings");
    }
    file
}

pub fn containers(file: &Value) -> BTreeMap<String, &Value> {
    let services = file["services"].as_mapping().expect("services").iter();
    services.map(|(name, container)| (name.as_str().expect("a name").to_owned(), container)).collect()
}

pub fn keys(mapping: &Value) -> BTreeSet<String> {
    mapping.as_mapping().expect("a mapping").keys().map(|key| key.as_str().expect("a name").to_owned()).collect()
}

/// The texts of a list; none if it is absent.
pub fn texts(list: &Value) -> Vec<String> {
    list.as_sequence().into_iter().flatten().map(|text| text.as_str().expect("a text").to_owned()).collect()
}

/// The folder of `.ci/deploy-tools`; none, after a message, where they are not installed.
pub fn tools() -> Option<PathBuf> {
    let folder = root().join("target/deploy-tools");
    let is_complete = folder.join("complete").exists();
    if !is_complete {
        println!("skipped: install the tools with .ci/deploy-tools");
    }
    is_complete.then_some(folder)
}

/// Runs a command, and fails with its messages unless it succeeds.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("it is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}
