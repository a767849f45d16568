//! Which part calls which operations of others, and which streams it reads: compared with docs/call-graph.txt. And
//! whether the balancer sends every operation to its part.
//!
//! A new line in that file is a decision: it makes one part depend on another.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use flack_catalogue::{SERVICES, Service};
use flack_conformance::contract::Contract;

#[test]
fn the_call_graph_is_the_one_in_the_documents() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let contract = Contract::load().expect("the documents can be read");
    let edges: BTreeSet<_> = SERVICES.iter().flat_map(|service| edges_of(service, &contract, &root)).collect();
    let found: String = edges.iter().flat_map(|edge| [edge, "\n"]).collect();
    let golden = fs::read_to_string(root.join("docs/call-graph.txt")).unwrap_or_default();
    let golden: String = golden.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    assert_eq!(
        found, golden,
        "the code has another call graph than docs/call-graph.txt; if this is intended, change the file and give the \
         reason in the commit"
    );
}

#[test]
fn every_operation_is_below_a_path_that_the_balancer_sends_to_its_part() {
    let contract = Contract::load().expect("the documents can be read");
    for operation in &contract.operations {
        let paths = Service::find(operation.part).expect("a service of the catalogue").paths;
        let is_covered = paths.iter().any(|path| match path.strip_prefix('=') {
            Some(exact) => operation.path == exact,
            None => format!("{}/", operation.path).starts_with(&format!("{path}/")),
        });
        assert!(is_covered, "{} {}: add its path to the catalogue", operation.id, operation.path);
    }
}

/// Lines such as `tokens calls users: get_me` and `messages reads users`.
fn edges_of(service: &Service, contract: &Contract, root: &Path) -> Vec<String> {
    let folders = [root.join("services").join(service.name), root.join(service.name)];
    let files = folders.iter().flat_map(|folder| rust_files(&folder.join("src")));
    let code: String = files.map(|file| code_without_tests(&file)).collect();
    let mut edges = Vec::new();
    for other in SERVICES.iter().filter(|other| other.name != service.name) {
        let name = other.name[..1].to_uppercase() + &other.name[1..];
        let uses_api = [format!("{name}Api"), format!("{name}Client")].iter().any(|word| code.contains(word));
        let operations = contract.operations.iter().filter(|operation| operation.part == other.name);
        let called: Vec<_> =
            operations.map(|operation| operation.id.as_str()).filter(|id| code.contains(&format!(".{id}("))).collect();
        if uses_api && !called.is_empty() {
            edges.push(format!("{service} calls {other}: {}", called.join(", ")));
        }
    }
    // `events::consume` and code with `reads_events_of` take the streams from the catalogue; other code names them.
    let reads_all = code.contains("consume(") || code.contains("reads_events_of");
    let sources = service.reads_events_of.iter();
    let read = sources.filter(|source| reads_all || code.contains(&format!("\"{source}\"")));
    edges.extend(read.map(|source| format!("{service} reads {source}")));
    edges
}

fn code_without_tests(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("a source file can be read");
    let code = text.split("#[cfg(test)]").next().unwrap_or(&text);
    code.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
