//! Who calls whom, and who listens to whom: read from the code and compared with docs/call-graph.txt.
//!
//! A new line in that file is a decision: one more part that must be up for another to work.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use flack_conformance::contract::Contract;

/// The parts that can be called, each with the name of its seam in the code.
const SEAMS: [(&str, &str); 4] =
    [("users", "Users"), ("tokens", "Tokens"), ("messages", "Messages"), ("ui", "Ui")];
/// Those who own a stream of events.
const OWNERS: [&str; 5] = ["users", "tokens", "messages", "ui", "monolith"];

#[test]
fn the_call_graph_is_the_one_in_the_documents() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut edges = BTreeSet::new();
    for part in ["ui", "users", "tokens", "messages", "websocket"] {
        // The monolith links the same libraries.
        edges.extend(edges_of(part, &root.join("services").join(part).join("src")));
    }
    let found = edges.into_iter().collect::<Vec<_>>().join("\n") + "\n";
    let golden_file = root.join("docs/call-graph.txt");
    let golden = fs::read_to_string(&golden_file).unwrap_or_default();
    let golden: String =
        golden.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    assert_eq!(
        found, golden,
        "the code has another call graph than docs/call-graph.txt; if that is meant, change the file and say why in the commit"
    );
}

/// Lines such as `tokens calls users: get_me` and `messages hears users`.
fn edges_of(name: &str, folder: &Path) -> Vec<String> {
    let code: String = rust_files(folder).iter().map(|file| code_without_tests(file)).collect();
    let contract = Contract::load().expect("the documents can be read");
    let mut edges = Vec::new();
    for (part, seam) in SEAMS.into_iter().filter(|(part, _)| *part != name) {
        if ![format!("{seam}Api"), format!("{seam}Client")].iter().any(|word| code.contains(word)) {
            continue;
        }
        let operations = contract.operations.iter().filter(|operation| operation.document == part);
        let called: Vec<_> = operations
            .map(|operation| operation.id.as_str())
            .filter(|id| code.contains(&format!(".{id}(")))
            .collect();
        edges.push(format!("{name} calls {part}: {}", called.join(", ")));
    }
    // A stream is named by its owner, as text.
    let heard = OWNERS.into_iter().filter(|owner| *owner != name && code.contains(&format!("\"{owner}\"")));
    edges.extend(heard.map(|owner| format!("{name} hears {owner}")));
    edges
}

fn code_without_tests(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("a source file can be read");
    let code = text.split("#[cfg(test)]").next().unwrap_or(&text);
    code.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect()
}

fn rust_files(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let Ok(entries) = fs::read_dir(place) else { return Vec::new() };
    let mut files: Vec<_> =
        entries.filter_map(Result::ok).flat_map(|entry| rust_files(&entry.path())).collect();
    files.retain(|file| {
        file.extension().is_some_and(|extension| extension == "rs") && !file.ends_with("tests.rs")
    });
    files.sort();
    files
}
