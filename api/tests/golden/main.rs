//! Compares every document with its golden copy in `golden/`, and labels each difference: a published version never
//! changes in a way that breaks its clients.
//!
//! A difference that is not breaking fails too, until the copy is refreshed. An old copy would not detect that an
//! addition is removed again.

mod asyncapi;
mod difference;
mod edits;
mod openapi;
mod schema;

use std::{fs, path::Path};

use difference::{Difference, Role};
use schema::{Comparison, members};
use serde_json::Value;

const REFRESH: &str = "cargo test -p flack-api --test golden -- --ignored";
const FOLDERS: [&str; 3] = ["asyncapi", "openapi", "schemas"];

/// `name` contains the kind of the document: `openapi/users.v1.yaml`, `schemas/events.schema.json`.
pub fn compare(name: &str, old: &str, new: &str) -> Vec<Difference> {
    let (old, new) = (parse(name, old), parse(name, new));
    let mut comparison = Comparison::new(&old, &new);
    if name.starts_with("openapi/") {
        openapi::compare(&mut comparison);
    } else if name.starts_with("asyncapi/") {
        asyncapi::compare(&mut comparison);
    } else if name.starts_with("schemas/frames.") {
        roots(&mut comparison, |name| match name {
            "ClientFrame" => Some(Role::Written),
            "ServerFrame" => Some(Role::Read),
            _ => None,
        });
    } else if name.ends_with("events.schema.json") {
        roots(&mut comparison, |name| name.ends_with("Event").then_some(Role::Read));
    } else {
        comparison.schema(name, &old, &new, Role::Read);
    }
    comparison.found.into_vec()
}

/// YAML includes JSON.
fn parse(name: &str, text: &str) -> Value {
    serde_yaml_ng::from_str(text).unwrap_or_else(|problem| panic!("{name}: {problem}"))
}

/// Compares the definitions that are sent by themselves. All others are compared where these refer to them.
fn roots(comparison: &mut Comparison<'_>, role: fn(&str) -> Option<Role>) {
    let [old, new] = [comparison.old, comparison.new].map(|document| {
        let mut roots = members(&document["definitions"]);
        roots.retain(|name, _| role(name).is_some());
        roots
    });
    comparison.pairs("", "union", (&old, &new), |comparison, name, old, new| {
        comparison.schema(name, old, new, role(name).expect("others are removed"));
    });
}

/// Documents below `folder`, such as `openapi/users.v1.yaml`, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for kind in FOLDERS {
        let entries = fs::read_dir(folder.join(kind)).into_iter().flatten();
        names.extend(entries.map(|entry| format!("{kind}/{}", entry.unwrap().file_name().to_string_lossy())));
    }
    names.sort();
    names
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// (document, difference) for all documents.
fn differences() -> Vec<(String, Difference)> {
    let golden = here().join("golden");
    let (old, new) = (names(&golden), names(here()));
    let whole =
        |what: &str, is_breaking| Difference { place: "the document".to_owned(), what: what.to_owned(), is_breaking };
    let mut differences = Vec::new();
    for name in &old {
        let of_document = if new.contains(name) {
            let read = |folder: &Path| fs::read_to_string(folder.join(name)).unwrap();
            compare(name, &read(&golden), &read(here()))
        } else {
            vec![whole("is removed", true)]
        };
        differences.extend(of_document.into_iter().map(|difference| (name.clone(), difference)));
    }
    let added = new.into_iter().filter(|name| !old.contains(name));
    differences.extend(added.map(|name| (name, whole("is new", false))));
    differences
}

fn listed<'a>(differences: impl IntoIterator<Item = &'a (String, Difference)>) -> String {
    let lines = differences.into_iter().map(|(name, difference)| format!("  {name}: {difference}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn assert_none_breaks(differences: &[(String, Difference)]) {
    let breaking: Vec<_> = differences.iter().filter(|(_, difference)| difference.is_breaking).collect();
    assert!(
        breaking.is_empty(),
        "\nThese differences break programs that use a published version:\n{}\n\
         Undo them. If the interface has to change in this way, publish a new version beside the old one (such as \
         openapi/users.v2.yaml with paths below /api/v2, or a new type of event) and keep serving the old one.\n",
        listed(breaking)
    );
}

#[test]
fn no_document_has_changed_in_a_way_that_breaks_its_users() {
    assert_none_breaks(&differences());
}

#[test]
fn the_golden_copies_are_up_to_date() {
    let differences = differences();
    let harmless: Vec<_> = differences.iter().filter(|(_, difference)| !difference.is_breaking).collect();
    assert!(
        harmless.is_empty(),
        "\nThese differences break no client, but the golden copies do not have them:\n{}\nRefresh them: {REFRESH}\n",
        listed(harmless)
    );
}

#[test]
#[ignore = "writes the golden copies; refuses when something breaks"]
fn refresh_the_golden_copies() {
    let differences = differences();
    assert_none_breaks(&differences);
    for name in names(here()) {
        let copy = here().join("golden").join(&name);
        fs::create_dir_all(copy.parent().expect("the name has a folder")).unwrap();
        fs::copy(here().join(&name), copy).unwrap();
    }
    println!("{}", listed(&differences));
}
