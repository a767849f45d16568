//! A stack for one test, in a temporary folder and on free ports, deleted when the test ends.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const WAIT_MAX: Duration = Duration::from_secs(30);

/// One instance of users, and of ui, which answers `/`.
pub const FEW_INSTANCES: &str = "users=1,ui=1,tokens=0,messages=0,websocket=0,search=0,recommend=0,tag=0";

pub struct Stack {
    pub home: TempDir,
    pub port: u16,
}

impl Stack {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a temporary folder"), port: free_port() }
    }

    /// A stack with PostgreSQL, etcd and NATS.
    pub fn started() -> Self {
        let stack = Self::new();
        stack.up();
        stack
    }

    /// Returns a command that is not started yet.
    pub fn mf(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mf"));
        command.args(arguments).env("MF_HOME", self.home.path()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.mf(arguments).output().expect("mf runs")
    }

    /// Runs a command, checks its exit code, and returns its output.
    pub fn expect(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let output_text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "mf {} printed:\n{output_text}", arguments.join(" "));
        output_text
    }

    pub fn up(&self) -> String {
        let port = self.port.to_string();
        self.expect(&["up", "--detach", "--only", "infra", "--port", &port], 0)
    }

    /// Starts or changes the stack with services, too. Their programs must be built.
    pub fn up_with(&self, instances: &str) {
        let port = self.port.to_string();
        let mut command = self.mf(&["up", "--detach", "--instances", instances, "--port", &port]);
        let output = command.env("LIMIT_REQUESTS_PER_10S", "1000000").output().expect("mf runs");
        assert!(output.status.success(), "mf up printed:\n{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a command that prints JSON, and returns it.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "mf {arguments:?} printed:\n{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Keeps the programs beside `mf` as a version, with a variable for its instances.
    pub fn keep_version(&self, version: &str, env: &str) {
        self.expect(&["build", "--version", version, "--no-build", "--env", env], 0);
    }

    /// Returns one process from `mf ps --json`.
    pub fn process(&self, name: &str) -> Option<serde_json::Value> {
        let output = self.run(&["ps", "--json"]);
        let view: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        view["processes"].as_array()?.iter().find(|process| process["name"] == name).cloned()
    }

    pub fn pid(&self, name: &str) -> i64 {
        self.process(name).and_then(|process| process["pid"].as_i64()).unwrap_or_else(|| panic!("{name} does not run"))
    }

    /// Returns the number of streams that NATS has on disk.
    pub fn streams(&self) -> usize {
        let folder = self.home.path().join("nats/jetstream/STREAMS/streams");
        std::fs::read_dir(folder).map_or(0, std::iter::Iterator::count)
    }

    pub fn secrets(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.home.path().join("secrets/stack.json")).expect("secrets");
        serde_json::from_str(&text).expect("JSON")
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.run(&["down", "--purge"]);
    }
}

/// Waits for a condition, with a timeout.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        std::thread::yield_now();
    }
}

pub fn is_alive(pid: i64) -> bool {
    flack_supervisor::process::Identity::of(i32::try_from(pid).expect("a pid"))
        .is_some_and(|identity| identity.is_alive())
}

/// Returns a public port for which all other ports of a stack are free. The search starts at a different port in each
/// process.
fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let slot = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + std::process::id();
        let port = 20_000 + u16::try_from(slot % 300).expect("below 300") * 20;
        if mf::ports::Ports::of(port).named().iter().all(|(_, port)| mf::ports::is_free(*port)) {
            return port;
        }
    }
}

pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::MetadataExt;
    path.metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display())).mode() & 0o777
}
