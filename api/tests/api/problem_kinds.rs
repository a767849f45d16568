//! The `type` of a problem links to a heading that describes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::documents::page;

/// Kinds of problems in the sources of the workspace, each with one of its files.
fn kinds_made() -> BTreeMap<String, PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut kinds = BTreeMap::new();
    let mut folders: Vec<PathBuf> = ["api", "common", "handover", "haproxy", "monolith", "services"]
        .iter()
        .map(|folder| root.join(folder))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs")
                && path.components().any(|part| part.as_os_str() == "src")
                && !path.ends_with("tests.rs")
            {
                let source = fs::read_to_string(&path).unwrap();
                kinds.extend(kinds_in(&source).into_iter().map(|kind| (kind, path.clone())));
            }
        }
    }
    kinds
}

/// Kinds in these calls, and in the rows of HAProxy's responses: `(404, "not-found", ..)`.
fn kinds_in(source: &str) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    for (call, place) in [("Problem::new(", 1), ("Self::new(", 1), ("Problem::conflict(", 0)] {
        kinds.extend(source.split(call).skip(1).filter_map(|arguments| text_at(place, arguments)));
    }
    if source.starts_with("//! HAProxy's own error responses") {
        let is_row = |row: &&str| row.split(',').next().is_some_and(|status| status.trim().parse::<u16>().is_ok());
        kinds.extend(source.split('(').filter(is_row).filter_map(|row| text_at(1, row)));
    }
    kinds
}

/// The argument, if it is a literal.
fn text_at(place: usize, arguments: &str) -> Option<String> {
    let text = arguments.split(',').nth(place)?.trim().strip_prefix('"')?;
    Some(text.strip_suffix('"')?.to_owned())
}

#[tokio::test]
async fn every_kind_of_problem_has_a_heading_that_its_type_links_to() {
    let (kind, html) = page("/api/docs/problems").await;
    assert_eq!(kind, "text/html; charset=utf-8");
    let made = kinds_made();
    assert!(made.contains_key("nickname-taken") && made.contains_key("misdirected-request"), "{made:?}");
    for (kind, path) in made {
        assert!(
            html.contains(&format!("<h2 id=\"{kind}\">{kind}</h2>")),
            "{}: the problem {kind} has no heading in docs/problems.md",
            path.display()
        );
    }
}
