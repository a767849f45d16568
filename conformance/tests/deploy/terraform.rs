//! `deploy/terraform`: it is parsed and its format is checked. Terraform itself, and the plan that it makes with a
//! provider, need a registry that the tests do not reach.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;

use crate::files::{compose_file, containers, read, root, succeed, tools};

const FILES: [&str; 3] = ["main.tf", "variables.tf", "outputs.tf"];
const PARSE: &str = "import hcl2, json, sys; print(json.dumps([hcl2.load(open(file)) for file in sys.argv[1:]]))";
const INDENT: usize = 2;

#[test]
fn terraform_parses_and_declares_what_it_uses() {
    let Some(tools) = tools() else { return };
    let folder = root().join("deploy/terraform");
    let mut command = Command::new("python3");
    command.args(["-c", PARSE]).args(FILES).current_dir(&folder).env("PYTHONPATH", tools);
    let files: Vec<Value> = serde_json::from_str(&succeed(&mut command)).expect("JSON");
    let declared: BTreeSet<String> = blocks(&files, "variable").map(|(name, _)| name).collect();
    let text: String = FILES.iter().map(|file| read(&format!("deploy/terraform/{file}"))).collect();
    let used: BTreeSet<String> = text
        .split("var.")
        .skip(1)
        .map(|rest| rest.chars().take_while(|next| next.is_alphanumeric() || *next == '_').collect())
        .collect();
    assert_eq!(declared, used, "variables that are declared, and that are used");
    for (name, block) in blocks(&files, "variable").chain(blocks(&files, "output")) {
        assert!(block["description"].is_string(), "{name} has no description");
    }
    for name in ["address", "url", "start"] {
        assert!(blocks(&files, "output").any(|(output, _)| output == name), "there is no output {name}");
    }
}

#[test]
fn the_machine_gets_every_image_of_the_stack() {
    let file = compose_file("docker-compose.yml");
    let images: BTreeSet<&str> = containers(&file)
        .into_values()
        .map(|container| container["image"].as_str().expect("an image").split(':').next().expect("a name"))
        .collect();
    let outputs = read("deploy/terraform/outputs.tf");
    let (_, rest) = outputs.split_once("names  = [").expect("the list of images");
    let copied: BTreeSet<&str> =
        rest.split_once(']').expect("its end").0.split(", ").map(|name| name.trim_matches('"')).collect();
    assert_eq!(copied, images);
}

/// As `terraform fmt` writes it: two spaces for each level, and aligned equals signs.
#[test]
fn terraform_is_formatted() {
    for file in FILES {
        let text = read(&format!("deploy/terraform/{file}"));
        let mut equals: Option<(usize, usize)> = None;
        let mut depth: usize = 0;
        for (number, line) in text.lines().enumerate() {
            let place = format!("{file}:{}", number + 1);
            let code = line.trim_start();
            let closing = code.chars().take_while(|next| "])}".contains(*next)).count();
            depth -= closing.min(1);
            if !code.is_empty() {
                assert_eq!(line.len() - code.len(), depth * INDENT, "{place}: indentation");
            }
            assert_eq!(line.trim_end(), line, "{place}: spaces at the end");
            let opens = code.ends_with(['{', '[', '(']);
            // A block and an argument of several lines are aligned with nothing.
            equals = match code.split_once(" = ").filter(|_| !code.starts_with('#') && !opens) {
                Some((name, _)) => {
                    let column = line.len() - code.len() + name.len();
                    if let Some((before, place_before)) = equals {
                        assert_eq!(before, column, "{place}: = is not below that of line {place_before}");
                    }
                    Some((column, number + 1))
                }
                None => None,
            };
            depth += usize::from(opens);
        }
        assert_eq!(depth, 0, "{file}: all blocks are closed");
    }
}

#[test]
fn the_first_start_of_the_machine_is_yaml() {
    let template = fs::read_to_string(root().join("deploy/terraform/cloud-init.yaml.tftpl")).expect("a template");
    let mut text = String::new();
    for (index, part) in template.split("${").enumerate() {
        text.push_str(if index == 0 { part } else { part.split_once('}').expect("the end of an expression").1 });
    }
    let settings: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).expect("YAML");
    assert_eq!(settings["write_files"].as_sequence().map(Vec::len), Some(2));
}

/// The blocks of a kind, by name. The parser keeps the quotes.
fn blocks<'files>(files: &'files [Value], kind: &'static str) -> impl Iterator<Item = (String, &'files Value)> {
    let blocks = files.iter().flat_map(move |file| file[kind].as_array().into_iter().flatten());
    blocks
        .flat_map(|block| block.as_object().expect("a block"))
        .map(|(name, block)| (name.trim_matches('"').to_owned(), block))
}
