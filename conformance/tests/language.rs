//! The rules of docs/STYLE.md that a program can check, for every source file and document of the workspace.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file (or the beginning of its path), a replaced word that it may use (`*`: all), and the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[("docs/STYLE.md", "*", "it lists the replaced words")];

/// Text files with these extensions are checked, and programs without an extension.
const EXTENSIONS: [&str; 12] = ["rs", "md", "sql", "yaml", "yml", "js", "css", "html", "sh", "toml", "cfg", "txt"];
const PROGRAM_FOLDERS: [&str; 2] = ["bin", ".ci"];
const LINE_LIMITED_EXTENSIONS: [&str; 8] = ["rs", "md", "sql", "yaml", "yml", "js", "css", "sh"];
const LINE_COLUMNS_MAX: usize = 120;

#[test]
fn replaced_words_are_not_used() {
    let rules = replaced_words();
    assert!(rules.len() > 30, "docs/STYLE.md has no table of replaced words");
    let mut violations = Vec::new();
    for (path, text) in files() {
        // Line 0 is the path.
        let text = format!("{path}\n{text}");
        let (words, identifiers) = (words(&text), identifiers(&text));
        for Rule { replaced, use_instead, words: wanted } in &rules {
            let is_exception =
                |(file, word, _): &(&str, &str, &str)| path.starts_with(file) && (*word == "*" || word == replaced);
            if EXCEPTIONS.iter().any(is_exception) {
                continue;
            }
            let words = if replaced.starts_with('`') { &identifiers } else { &words };
            for found in words.windows(wanted.len()) {
                if found.iter().map(|(_, word)| word).eq(wanted) {
                    violations.push(format!("{path}:{}: {replaced}: use {use_instead}", found[0].0));
                }
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn lines_end_at_the_limit() {
    let mut violations = Vec::new();
    for (path, text) in files() {
        let extension = extension(&path);
        if !LINE_LIMITED_EXTENSIONS.contains(&extension) {
            continue;
        }
        for (line, text) in (1..).zip(text.lines()) {
            // A row of a Markdown table cannot be broken, nor can an address.
            let is_table_row = extension == "md" && text.trim_start().starts_with('|');
            let columns = text.chars().count();
            if columns > LINE_COLUMNS_MAX && !is_table_row && !text.contains("https://") {
                violations.push(format!("{path}:{line}: {columns} columns"));
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn a_module_is_a_file_beside_its_folder() {
    let violations: Vec<_> =
        files().into_iter().map(|(path, _)| path).filter(|path| path.ends_with("/mod.rs")).collect();
    assert_none(&violations);
}

#[test]
fn links_between_documents_lead_to_files() {
    let mut violations = Vec::new();
    for (path, text) in files().into_iter().filter(|(path, _)| extension(path) == "md") {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or(link);
            let folder = root().join(&path).parent().expect("a file is in a folder").to_owned();
            if !file.contains("://") && !file.starts_with('/') && !folder.join(file).exists() {
                violations.push(format!("{path}: {link} does not exist"));
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn every_promise_about_security_names_tests_that_exist() {
    let (files, mut violations) = (files(), Vec::new());
    let document = files.iter().find(|(path, _)| path == "docs/security.md").expect("docs/security.md exists");
    let code: Vec<_> = files.iter().filter(|(path, _)| extension(path) == "rs").collect();
    // A row is: promise, where it is enforced, tests. Its links are checked with those of all documents.
    let rows = document.1.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise |"));
    for row in rows {
        let tests = row.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap_or_default();
        let tests: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        let is_missing = |test: &str| !code.iter().any(|(_, text)| text.contains(&format!("fn {test}(")));
        if tests.is_empty() || tests.iter().any(|test| is_missing(test)) || !row.contains("](") {
            violations.push(row.to_owned());
        }
    }
    assert_none(&violations);
}

/// A row of the table "Replaced words".
struct Rule {
    replaced: String,
    use_instead: String,
    words: Vec<String>,
}

/// Reads the table. A cell lists several words, separated by commas.
fn replaced_words() -> Vec<Rule> {
    let style = fs::read_to_string(root().join("docs/STYLE.md")).expect("docs/STYLE.md can be read");
    let table = style.split("| replaced | use instead |").nth(1).expect("docs/STYLE.md has the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let (replaced, use_instead) = (cells.next().expect("two cells"), cells.next().expect("two cells"));
        replaced.split(", ").map(|replaced| Rule {
            words: if replaced.starts_with('`') { identifiers(replaced) } else { words(replaced) }
                .into_iter()
                .map(|(_, word)| word)
                .collect(),
            replaced: replaced.to_owned(),
            use_instead: use_instead.to_owned(),
        })
    })
    .collect()
}

/// The words of a text in lower case, each with its line from 0. `read_position` and `ReadPosition` are two words each.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    for (line, identifier) in identifiers(text) {
        let mut word = String::new();
        for character in identifier.chars() {
            let begins = character.is_uppercase() && word.ends_with(char::is_lowercase);
            if (begins || character == '_') && !word.is_empty() {
                words.push((line, word.to_lowercase()));
                word.clear();
            }
            word.extend(Some(character).filter(|character| *character != '_'));
        }
        words.push((line, word.to_lowercase()));
    }
    words
}

/// The identifiers of a text, each with its line from 0.
fn identifiers(text: &str) -> Vec<(usize, String)> {
    let is_separator = |character: char| !character.is_alphanumeric() && character != '_';
    let lines = text.lines().enumerate();
    lines
        .flat_map(|(line, text)| text.split(is_separator).map(move |identifier| (line, identifier)))
        .filter(|(_, identifier)| identifier.chars().any(char::is_alphanumeric))
        .map(|(line, identifier)| (line, identifier.to_owned()))
        .collect()
}

fn extension(path: &str) -> &str {
    Path::new(path).extension().and_then(|extension| extension.to_str()).unwrap_or("")
}

/// All text files of the workspace: the path from its root, and the text.
fn files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    collect(&root(), &mut files);
    files.sort();
    files
}

fn collect(folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder can be listed").map_while(Result::ok) {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let path_from_root = path.strip_prefix(root()).expect("it is in the workspace").display().to_string();
        if path.is_dir() {
            // Build output, and folders of git and of running stacks.
            if name != "target" && (!name.starts_with('.') || PROGRAM_FOLDERS.contains(&name.as_str())) {
                collect(&path, files);
            }
            continue;
        }
        let has_extension = EXTENSIONS.contains(&extension(&path_from_root));
        let is_program = extension(&path_from_root).is_empty()
            && PROGRAM_FOLDERS.iter().any(|folder| path_from_root.starts_with(&format!("{folder}/")));
        if has_extension || is_program {
            files.push((path_from_root, fs::read_to_string(&path).expect("a text file is UTF-8")));
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace exists")
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}
