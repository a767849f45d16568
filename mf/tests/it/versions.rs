//! Versions of services: building, keeping, starting and deleting them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{FEW_INSTANCES, Stack, wait_for};

fn get(address: &str, path: &str) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let response = runtime.block_on(mf::probe::get(address, path)).expect("an answer");
    (response.status, response.body)
}

fn address(stack: &Stack, instance: &str) -> String {
    let process = stack.process(instance).unwrap_or_else(|| panic!("{instance} does not run"));
    process["address"].as_str().unwrap_or_else(|| panic!("{instance} has no address: {process}")).to_owned()
}

#[test]
fn instances_of_several_versions_of_a_service_run_side_by_side() {
    let stack = Stack::new();
    stack.keep_version("2", "FLACK_FAULTS=slow=1ms");
    stack.keep_version("2-bad", "FLACK_FAULTS=errors=100%");
    stack.keep_version("2-migration", "FLACK_FAULTS=migration");
    stack.keep_version("unused", "RUST_LOG=info");
    stack.up_with(FEW_INSTANCES);

    let started = stack.json(&["run", "users", "--version", "2", "--weight", "10", "--json"]);
    assert_eq!((&started["instances"][0], &started["version"]), (&"users-2".into(), &"2".into()));
    stack.expect(&["run", "users", "--version", "2-bad", "--env", "FLACK_FAULTS=errors=50%"], 0);
    let versions = ["users-1", "users-2", "users-3"].map(|name| stack.process(name).expect(name)["version"].clone());
    assert_eq!(versions, [env!("CARGO_PKG_VERSION"), "2", "2-bad"]);
    assert_eq!(stack.process("users-2").expect("it runs")["weight"], 10);
    let (status, health) = get(&address(&stack, "users-2"), "/health");
    assert_eq!(status, 200, "{health}");
    assert!(health.contains(r#""version":"2""#), "{health}");
    // The option replaces the variable of the build, so every other request fails.
    let bad = address(&stack, "users-3");
    let mut statuses = [get(&bad, "/api/users/1").0, get(&bad, "/api/users/1").0];
    statuses.sort_unstable();
    assert_eq!(statuses[1], 500, "{statuses:?}");
    assert!(statuses[0] < 500, "{statuses:?}");

    // A version whose start fails: the command names the cause, and nothing of it stays.
    let output = stack.expect(&["run", "users", "--version", "2-migration"], 70);
    assert!(output.contains("users-4 did not become ready") && output.contains("migrations failed"), "{output}");
    assert!(stack.process("users-4").is_none());
    assert!(stack.expect(&["run", "users", "--version", "9"], 64).contains("2-bad"), "it lists what exists");

    stack.expect(&["kill", "users-2", "--hard"], 0);
    wait_for("users-2 is restarted and registered", || {
        stack.process("users-2").is_some_and(|process| process["restarts"] == 1 && process["health"] == "ready")
    });
    assert_eq!(stack.process("users-2").expect("it runs")["version"], "2");
    let output = stack.expect(&["build", "--version", "2", "--no-build"], 78);
    assert!(output.contains("version 2 runs (users-2)"), "{output}");

    let listed = stack.json(&["build", "ls", "--json"]);
    let used_by = |version: &str| {
        let row = listed.as_array().expect("rows").iter().find(|row| row["version"] == version).expect(version);
        row["used_by"].clone()
    };
    assert_eq!(used_by("2"), serde_json::json!(["users-2"]));
    assert_eq!(used_by("unused"), serde_json::json!([]));
    let output = stack.expect(&["build", "prune", "--keep", "0"], 0);
    assert!(output.contains("unused") && output.contains("2-migration") && !output.contains("2-bad"), "{output}");
    assert!(stack.home.path().join("builds/2/flack-users").exists());
    assert!(!stack.home.path().join("builds/unused").exists());
}

#[test]
fn mfup_starts_the_version_of_the_settings() {
    let stack = Stack::new();
    stack.up_with(FEW_INSTANCES);
    stack.keep_version("2", "RUST_LOG=info");
    let path = stack.home.path().join("stack.json");
    let mut settings: Value = serde_json::from_str(&fs::read_to_string(&path).expect("settings")).expect("JSON");
    settings["versions"] = serde_json::json!({"users": "2"});
    fs::write(&path, settings.to_string()).expect("written");

    assert!(stack.expect(&["build", "prune", "--keep", "0"], 0).contains("No version"), "the settings name it");
    stack.expect(&["kill", "users-1"], 0);
    stack.up_with(FEW_INSTANCES);
    assert_eq!(stack.process("users-1").expect("it runs")["version"], "2");
    assert_eq!(stack.process("ui-1").expect("it runs")["version"], env!("CARGO_PKG_VERSION"));
    stack.expect(&["run", "users"], 0);
    assert_eq!(stack.process("users-2").expect("it runs")["version"], "2");

    // A setting whose version was deleted by hand.
    stack.expect(&["kill", "users", "--all"], 0);
    fs::remove_dir_all(stack.home.path().join("builds/2")).expect("deleted");
    let output = stack.expect(&["run", "users"], 64);
    assert!(output.contains("there is no version 2") && output.contains("mfbuild --version 2"), "{output}");
}

/// A git repository, and a `cargo` that makes programs of its file `source`.
struct Repository {
    folder: TempDir,
}

impl Repository {
    fn new() -> Self {
        let this = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let bin = this.folder.path().join("bin");
        fs::create_dir(&bin).expect("a folder");
        let script = "#!/bin/sh\ngrep -q broken source && exit 101\n\
                      target=${CARGO_TARGET_DIR:-target}\nmkdir -p $target/debug\n\
                      rm -f $target/debug/flack-users\ncp source $target/debug/flack-users\n\
                      chmod 700 $target/debug/flack-users\n";
        fs::write(bin.join("cargo"), script).expect("written");
        this.git(&["init", "--quiet"]);
        this.git(&["add", "bin"]);
        this
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    fn git(&self, arguments: &[&str]) {
        let identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"];
        let status = Command::new("git").args(identity).args(arguments).current_dir(self.folder.path()).status();
        assert!(status.expect("git is needed for this test").success(), "git {arguments:?}");
    }

    /// Commits and tags a source.
    fn commit(&self, source: &str) {
        fs::write(self.source(), source).expect("written");
        self.git(&["add", "source"]);
        self.git(&["commit", "--quiet", "-m", source]);
        self.git(&["tag", source]);
    }

    /// Runs `mf build` in this repository, checks its exit code, and returns its output.
    fn build(&self, stack: &Stack, arguments: &[&str], code: i32) -> String {
        use std::os::unix::fs::PermissionsExt;
        let cargo = self.folder.path().join("bin/cargo");
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o700)).expect("executable");
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", cargo.parent().expect("a folder").display());
        let output = stack
            .mf(&[&["build"], arguments].concat())
            .env("MF_REPOSITORY", self.folder.path())
            .env("PATH", path)
            .env_remove("CARGO_TARGET_DIR")
            .stdin(Stdio::null())
            .output()
            .expect("mf runs");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "mf build {arguments:?} printed:\n{text}");
        text
    }
}

fn program(stack: &Stack, version: &str) -> String {
    let path = stack.home.path().join("builds").join(version).join("flack-users");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_version_is_built_from_a_commit_without_a_change_of_the_working_tree() {
    let (stack, repository) = (Stack::new(), Repository::new());
    repository.commit("one");
    repository.commit("two");
    fs::write(repository.source(), "three").expect("written");
    for (reference, version, expected) in [("two", "2", "two"), ("one", "1", "one"), ("HEAD", "2b", "two")] {
        let output = repository.build(&stack, &["--from", reference, "--version", version], 0);
        assert!(output.contains(&format!("version {version} is ready")), "{output}");
        assert_eq!(program(&stack, version), expected);
    }
    assert_eq!(fs::read_to_string(repository.source()).expect("the source"), "three");
    // Without a name, the version is the commit.
    let output = repository.build(&stack, &["--from", "one"], 0);
    let listed = stack.json(&["build", "ls", "--json"]);
    let newest = listed[1]["version"].as_str().expect("a version");
    assert!(output.contains(newest) && listed[1]["commit"] == newest, "{output}\n{listed}");

    // The working tree itself, with its uncommitted change.
    repository.build(&stack, &["--version", "3"], 0);
    assert_eq!(program(&stack, "3"), "three");
    let listed = stack.json(&["build", "ls", "--json"]);
    assert!(listed[1]["commit"].as_str().is_some_and(|commit| commit.ends_with("-dirty")), "{listed}");
}

#[test]
fn a_build_that_fails_and_a_commit_that_does_not_exist_leave_no_version() {
    let (stack, repository) = (Stack::new(), Repository::new());
    repository.commit("broken");
    let output = repository.build(&stack, &["--from", "broken", "--version", "1"], 70);
    assert!(output.contains("the build failed"), "{output}");
    for reference in ["nowhere", "--version", ""] {
        let output = repository.build(&stack, &[&format!("--from={reference}"), "--version", "1"], 64);
        assert!(output.contains("there is no commit, branch or tag"), "{output}");
    }
    fs::remove_dir_all(repository.folder.path().join(".git")).expect("deleted");
    let output = repository.build(&stack, &["--from", "broken"], 69);
    assert!(output.contains("not a git repository"), "{output}");
    assert!(!Path::new(stack.home.path()).join("builds/1").exists());
}
