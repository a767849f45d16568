//! Wrong arguments, and commands without a running stack.

use std::collections::BTreeSet;

use crate::support::Stack;

#[test]
fn unknown_names_and_values_are_usage_errors_that_list_the_choices() {
    let stack = Stack::new();
    for (arguments, expected) in [
        (vec!["upp"], "up"),
        (vec!["up", "--stage", "microservices"], "monolith, services"),
        (vec!["up", "--instances", "usres=2"], "did you mean `users`? Services are monolith, ui, users"),
        (vec!["up", "--instances", "users=99"], "at most 16 instances of users"),
        (vec!["up", "--port", "80"], "1024"),
        (vec!["up", "--port", "65500"], "65211"),
        (vec!["run", "usres"], "a similar value exists: 'users'"),
        (vec!["run", "users", "--count", "0"], "1..=16"),
        (vec!["run", "users", "--weight", "257"], "0..=256"),
        (vec!["run", "users", "--env", "FLACK_INSTANCE=users-9"], "mf sets FLACK_INSTANCE itself"),
        (vec!["build", "--version", "../2"], "a version is 1 to 32 of"),
        (vec!["build", "--version", env!("CARGO_PKG_VERSION")], "is the version of the programs that mfup builds"),
        (vec!["build", "--env", "A=1"], "--env belongs to a version"),
        (vec!["build", "--no-build"], "--version"),
        (vec!["build", "--from", "main", "--version", "2", "--no-build"], "cannot be used with"),
        (vec!["build", "prune", "--keep", "few"], "--keep"),
        (vec!["scale", "users"], "`users` has no count"),
        (vec!["scale", "users=1", "users=2"], "users is given twice"),
        (vec!["scale", "monolith=2"], "the monolith always has one instance"),
        (vec!["scale"], "SERVICE=NUMBER"),
        (vec!["restart"], "<SERVICES>"),
        (vec!["restart", "usres"], "a similar value exists: 'users'"),
        (vec!["restart", "users", "--max-parallel", "0"], "1..=16"),
        (vec!["ps", "--watch", "--json"], "cannot be used with"),
        (vec!["kill"], "<NAME>"),
        (vec!["kill", "users", "--no-restart"], "--hard"),
        (vec!["logs", "--level", "warm"], "'warn'"),
        (vec!["verify", "delivery", "--rate", "0"], "a number above 0"),
        (vec!["verify", "delivery", "--sockets", "5", "--dropping", "6"], "there are only 5 sockets"),
        (vec!["verify", "delivery", "--url", "http://localhost"], "unexpected argument"),
        (vec!["logs", "--since", "yesterday"], "write 2026-01-31T10:00:00Z"),
    ] {
        let output = stack.expect(&arguments, 64);
        assert!(output.contains(expected), "mf {arguments:?} printed:\n{output}");
    }
}

#[test]
fn commands_that_need_a_stack_name_the_command_that_starts_one() {
    let stack = Stack::new();
    for arguments in [
        &["ps"][..],
        &["run", "users"],
        &["scale", "users=2"],
        &["restart", "users"],
        &["kill", "users-1"],
        &["env", "users"],
        &["dev", "users"],
        &["routes"],
        &["logs"],
        &["verify", "delivery"],
        &["upgrade", "status"],
    ] {
        let output = stack.expect(arguments, 69);
        assert!(output.contains("mfup") || output.contains("ever started"), "mf {arguments:?} printed:\n{output}");
    }
    assert!(stack.expect(&["down"], 0).contains("No stack"));
}

#[test]
fn mf_help_lists_the_commands_and_explains_one() {
    let stack = Stack::new();
    let all = stack.expect(&["help"], 0);
    assert!(all.contains("verify") && all.contains("completions") && all.contains("Exit codes:"), "{all}");
    assert!(stack.expect(&["help", "events", "replay"], 0).contains("--snapshot"));
}

#[test]
fn arguments_can_be_checked_without_doing_anything() {
    let stack = Stack::new();
    for (arguments, code) in [(&["up", "--detach"][..], 0), (&["up", "--prot", "8080"], 64)] {
        let status = stack.mf(arguments).env("MF_CHECK_ARGUMENTS", "1").output().expect("mf runs").status;
        assert_eq!(status.code(), Some(code), "mf {arguments:?}");
    }
    assert!(stack.expect(&["down"], 0).contains("No stack"));
}

/// Runs `bin/mf` with a cargo that fails. Returns the exit code and the errors.
fn bin_mf_without_cargo(arguments: &[&str]) -> (Option<i32>, String) {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_mf")).parent().expect("its folder");
    let (programs, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let cargo = programs.path().join("cargo");
    std::fs::write(&cargo, "#!/bin/sh\nexit 99\n").expect("written");
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let mut path = programs.path().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").expect("a PATH"));
    let output = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../bin/mf"))
        .args(arguments)
        .env("PATH", path)
        .env("CARGO_TARGET_DIR", folder.parent().expect("the target folder"))
        .env("MF_PROFILE", folder.file_name().expect("a profile"))
        .env("MF_HOME", home.path())
        .output()
        .expect("bash runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn bin_mf_reports_a_wrong_argument_before_it_runs_cargo() {
    let (code, error) = bin_mf_without_cargo(&["up", "--prot", "8080"]);
    assert_eq!(code, Some(64), "{error}");
    assert!(error.contains("--port"), "{error}");
}

#[test]
fn bin_mf_does_not_build_the_working_tree_for_another_commit() {
    let (code, error) = bin_mf_without_cargo(&["build", "--version", "3"]);
    assert!(code == Some(70) && error.contains("the build failed"), "this needs cargo: {error}");
    for arguments in [
        &["build", "--from", "nowhere"][..],
        &["build", "--from=nowhere"],
        &["build", "--version", "1", "--from", "nowhere"],
        &["build", "--no-build", "--version", "2"],
    ] {
        let (code, error) = bin_mf_without_cargo(arguments);
        assert!(code != Some(70) && !error.contains("the build failed"), "{arguments:?}: {error}");
    }
}

#[test]
fn completions_and_manual_pages_cover_the_short_names() {
    let stack = Stack::new();
    for (shell, check) in [("bash", "bash"), ("zsh", ""), ("fish", "")] {
        let script = stack.expect(&["completions", shell], 0);
        for name in ["mfup", "mfverify", "instances", "replay"] {
            assert!(script.contains(name), "{shell}: {name}");
        }
        if !check.is_empty() {
            let file = stack.home.path().join("completions");
            std::fs::write(&file, script).expect("written");
            let status = std::process::Command::new(check).arg("-n").arg(&file).status().expect("the shell runs");
            assert!(status.success(), "{shell} accepts the script");
            std::fs::remove_file(file).expect("removed");
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pages = folder.path().join("man1");
    stack.expect(&["man", pages.to_str().expect("a path")], 0);
    for page in ["mf.1", "mfup.1", "mfevents.1", "mfevents-replay.1"] {
        assert!(pages.join(page).is_file(), "{page}");
    }
}

#[test]
fn help_succeeds_and_shows_examples_and_exit_codes() {
    let stack = Stack::new();
    for command in [
        "up", "down", "ps", "run", "scale", "restart", "kill", "logs", "env", "dev", "routes", "events", "verify",
        "upgrade", "build", "test",
    ] {
        let output = stack.expect(&[command, "--help"], 0);
        assert!(output.contains("Examples:") && output.contains("Exit codes:"), "{output}");
    }
}

#[test]
fn purge_deletes_nothing_in_a_folder_that_is_no_stack() {
    let stack = Stack::new();
    let precious = stack.home.path().join("thesis.txt");
    std::fs::write(&precious, "years of work").expect("written");
    stack.expect(&["down", "--purge"], 78);
    assert!(precious.exists());
    std::fs::remove_file(precious).expect("removed");
}

#[test]
fn a_state_folder_that_cannot_be_created_is_named() {
    let stack = Stack::new();
    let file = stack.home.path().join("file");
    std::fs::write(&file, "").expect("written");
    let output = stack.mf(&["up", "--detach"]).env("MF_HOME", file.join("below")).output().expect("mf runs");
    assert_eq!(output.status.code(), Some(73), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_file(file).expect("removed");
}

#[test]
fn every_command_has_a_short_name_in_bin_and_every_short_name_calls_a_command() {
    let stack = Stack::new();
    let help = stack.expect(&["--help"], 0);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A long description continues on a line that is indented further.
    let commands = commands.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let mut without_script: BTreeSet<&str> = commands.filter_map(|line| line.split(' ').next()).collect();
    let bin = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../bin");
    for script in std::fs::read_dir(bin).expect("bin").flatten() {
        let name = script.file_name().into_string().expect("a name");
        let Some(command) = name.strip_prefix("mf").filter(|command| !command.is_empty()) else { continue };
        let text = std::fs::read_to_string(script.path()).expect("a script");
        assert!(text.contains(&format!("/mf\" {command} \"$@\"")), "{name}: {text}");
        stack.expect(&[command, "--help"], 0);
        without_script.remove(command);
    }
    assert_eq!(without_script, BTreeSet::from(["completions", "help", "man"]));
}
