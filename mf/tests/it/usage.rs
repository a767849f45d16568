//! What happens when somebody types something wrong, or nothing runs.

use crate::support::Stack;

#[test]
fn what_does_not_exist_is_a_usage_error_with_the_choices() {
    let stack = Stack::new();
    for (arguments, says) in [
        (vec!["upp"], "up"),
        (vec!["up", "--stage", "microservices"], "monolith, services"),
        (vec!["up", "--instances", "usres=2"], "services are monolith, ui, users"),
        (vec!["up", "--instances", "users=99"], "at most 16 instances of users"),
        (vec!["up", "--port", "80"], "1024"),
        (vec!["up", "--port", "65500"], "65211"),
        (vec!["run", "usres"], "a similar value exists: 'users'"),
        (vec!["run", "users", "--count", "0"], "1..=16"),
        (vec!["kill"], "<TARGET>"),
        (vec!["kill", "users", "--no-restart"], "--hard"),
        (vec!["kill", "users", "some"], "all"),
    ] {
        let said = stack.expect(&arguments, 64);
        assert!(said.contains(says), "mf {arguments:?} said:\n{said}");
    }
}

#[test]
fn commands_that_need_a_stack_say_how_to_start_one() {
    let stack = Stack::new();
    for arguments in [
        &["ps"][..],
        &["run", "users"],
        &["kill", "users-1"],
        &["env", "users"],
        &["logs"],
        &["verify", "delivery"],
    ] {
        let said = stack.expect(arguments, 69);
        assert!(said.contains("mfup") || said.contains("ever started"), "mf {arguments:?} said:\n{said}");
    }
    assert!(stack.expect(&["down"], 0).contains("No stack"));
}

#[test]
fn help_is_no_error_and_shows_an_example() {
    let stack = Stack::new();
    for command in ["up", "down", "ps", "run", "kill", "logs", "env", "events", "verify", "build", "test"] {
        let said = stack.expect(&[command, "--help"], 0);
        assert!(said.contains("Examples:") && said.contains("Exit codes:"), "{said}");
    }
}

#[test]
fn a_folder_that_is_no_stack_is_not_purged() {
    let stack = Stack::new();
    let precious = stack.home.path().join("thesis.txt");
    std::fs::write(&precious, "years of work").expect("written");
    stack.expect(&["down", "--purge"], 78);
    assert!(precious.exists());
    std::fs::remove_file(precious).expect("removed");
}

#[test]
fn a_state_folder_that_cannot_be_made_is_named() {
    let stack = Stack::new();
    let file = stack.home.path().join("file");
    std::fs::write(&file, "").expect("written");
    let output = stack.mf(&["up", "--detach"]).env("MF_HOME", file.join("below")).output().expect("mf runs");
    assert_eq!(output.status.code(), Some(73), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_file(file).expect("removed");
}

#[test]
fn every_short_name_in_bin_calls_a_command_that_exists() {
    let stack = Stack::new();
    let bin = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../bin");
    let mut count = 0;
    for script in std::fs::read_dir(bin).expect("bin").flatten() {
        let name = script.file_name().into_string().expect("a name");
        let Some(command) = name.strip_prefix("mf").filter(|command| !command.is_empty()) else { continue };
        let text = std::fs::read_to_string(script.path()).expect("a script");
        assert!(text.contains(&format!("/mf\" {command} \"$@\"")), "{name}: {text}");
        stack.expect(&[command, "--help"], 0);
        count += 1;
    }
    assert_eq!(count, 12, "one for each command");
}
