//! `mf scale`, `mf restart` and `mf ps` with services.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{FEW_INSTANCES, Stack, wait_for};

fn settings(stack: &Stack) -> Value {
    let text = fs::read_to_string(stack.home.path().join("stack.json")).expect("settings");
    serde_json::from_str(&text).expect("JSON")
}

/// Sends requests for a path through the balancer, one after the other, until it is stopped.
struct Load {
    stopping: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    sending: JoinHandle<Vec<String>>,
}

impl Load {
    fn start(stack: &Stack, path: &'static str) -> Self {
        let (stopping, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (address, stop, count) = (format!("127.0.0.1:{}", stack.port), stopping.clone(), answered.clone());
        let sending = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let mut failures = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                match runtime.block_on(mf::probe::get(&address, path)) {
                    Some(response) if response.status < 500 => drop(count.fetch_add(1, Ordering::Relaxed)),
                    other => failures.push(format!("{other:?}")),
                }
            }
            failures
        });
        let this = Self { stopping, answered, sending };
        wait_for("the first answer", || this.answered.load(Ordering::Relaxed) > 0);
        this
    }

    /// Checks that no request has failed.
    fn stop(self) {
        let before = self.answered.load(Ordering::Relaxed);
        wait_for("an answer after the change", || self.answered.load(Ordering::Relaxed) > before);
        self.stopping.store(true, Ordering::Relaxed);
        let failures = self.sending.join().expect("it does not panic");
        assert!(failures.is_empty(), "{} failed: {:?}", failures.len(), failures.first());
    }
}

#[test]
fn mfscale_starts_and_stops_instances_without_a_failed_request_and_saves_their_number() {
    let stack = Stack::new();
    stack.up_with(FEW_INSTANCES);
    let load = Load::start(&stack, "/api/users/1");
    let result = stack.json(&["scale", "users=3", "ui=2", "--json"]);
    assert_eq!(result["instances"], json!({"users": ["users-1", "users-2", "users-3"], "ui": ["ui-1", "ui-2"]}));
    assert_eq!(result["started"], json!(["ui-2", "users-2", "users-3"]));
    let result = stack.json(&["scale", "users=1", "--json"]);
    assert_eq!((&result["started"], &result["stopped"]), (&json!([]), &json!(["users-2", "users-3"])));
    load.stop();
    let saved = settings(&stack);
    assert_eq!((&saved["instances"]["users"], &saved["instances"]["ui"]), (&json!(1), &json!(2)));

    // A version that cannot start: the number stays as it was, and so do the instances.
    stack.keep_version("2-migration", "FLACK_FAULTS=migration");
    let mut changed = saved.clone();
    changed["versions"] = json!({"users": "2-migration"});
    fs::write(stack.home.path().join("stack.json"), changed.to_string()).expect("written");
    let output = stack.expect(&["scale", "users=3"], 70);
    assert!(output.contains("migrations failed"), "{output}");
    assert_eq!(settings(&stack)["instances"]["users"], 1);
    assert!(stack.process("users-1").is_some() && stack.process("users-2").is_none());

    stack.expect(&["scale", "users=0"], 0);
    let view = stack.json(&["ps", "--json"]);
    assert_eq!(
        view["without_instance"],
        json!(["users", "tokens", "messages", "websocket", "search", "recommend", "tag"])
    );
    let text = stack.expect(&["ps"], 0);
    assert!(text.lines().any(|line| line.starts_with("users ") && line.contains("none")), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn mfrestart_replaces_instances_of_the_same_kind_without_a_failed_request() {
    let stack = Stack::new();
    stack.keep_version("2", "RUST_LOG=info");
    stack.up_with(FEW_INSTANCES);
    stack.expect(&["run", "users", "--version", "2", "--weight", "10", "--env", "FLACK_FAULTS=slow=1ms"], 0);
    let before = ["users-1", "users-2", "monolith-1"].map(|name| stack.pid(name));

    let load = [Load::start(&stack, "/api/users/1"), Load::start(&stack, "/nothing-of-a-service")];
    let result = stack.json(&["restart", "users", "monolith", "--json"]);
    load.into_iter().for_each(Load::stop);
    let expected = json!([
        {"old": "monolith-1", "new": "monolith-2"},
        {"old": "users-1", "new": "users-3"},
        {"old": "users-2", "new": "users-1"},
    ]);
    assert_eq!(result["replaced"], expected);
    let [first, second] = ["users-3", "users-1"].map(|name| stack.process(name).expect(name));
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&second["version"], &second["weight"]), (&"2".into(), &10.into()));
    assert!(!before.contains(&stack.pid("users-1")) && !before.contains(&stack.pid("monolith-2")));
    let logged = stack.expect(&["logs", "users-1", "--lines", "1000"], 0);
    assert!(logged.contains("slow=1ms"), "it keeps its own variables: {logged}");

    // A new instance that cannot start: the old one stays.
    let build = stack.home.path().join("builds/2/build.json");
    let mut description: Value =
        serde_json::from_str(&fs::read_to_string(&build).expect("its description")).expect("JSON");
    description["env"] = json!({"DATABASE_CONNECTIONS_MAX": "0"});
    fs::write(&build, description.to_string()).expect("written");
    let pid = stack.pid("users-1");
    let output = stack.expect(&["restart", "users"], 70);
    assert!(output.contains("DATABASE_CONNECTIONS_MAX"), "{output}");
    assert_eq!(stack.pid("users-1"), pid);
    assert!(stack.expect(&["restart", "tokens"], 64).contains("no instance of tokens runs"));
}

#[test]
fn mfps_shows_an_instance_that_was_started_by_hand_and_follows_with_watch() {
    let stack = Stack::new();
    stack.up_with(FEW_INSTANCES);
    let environment = stack.json(&["env", "users", "--secrets", "--json"]);
    let environment = environment.as_object().expect("variables").iter();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_mf")).with_file_name("flack-users");
    let mut by_hand = Command::new(program)
        .env_clear()
        .envs(environment.map(|(name, value)| (name, value.as_str().expect("a text"))))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("flack-users is built");
    wait_for("it is in the balancer", || {
        stack.process("users-by-hand").is_some_and(|process| process["balancer"] == "UP")
    });
    let process = stack.process("users-by-hand").expect("it is registered");
    assert_eq!(
        (&process["by_hand"], &process["service"], &process["pid"]),
        (&true.into(), &"users".into(), &Value::Null)
    );
    let text = stack.expect(&["ps"], 0);
    assert!(text.lines().any(|line| line.starts_with("users-by-hand") && line.contains("by hand")), "{text}");

    let load = Load::start(&stack, "/api/users/1");
    let mut watch = stack.mf(&["ps", "--watch"]).stdout(Stdio::piped()).spawn().expect("mf runs");
    let mut lines = BufReader::new(watch.stdout.take().expect("a pipe")).lines().map(|line| line.expect("a line"));
    // The first table has no p99: it has no earlier numbers.
    let column = |line: &str, column: usize| line.split_whitespace().nth(column).map(str::to_owned);
    let is_measured = |line: &str| column(line, 4).is_some_and(|rate| rate != "0" && rate != "-");
    let row = lines.find(|line| line.starts_with("users-1 ") && is_measured(line) && line.contains("ms"));
    assert!(row.is_some_and(|row| !row.contains('\x1b')), "requests per second and p99 are shown");
    kill(Pid::from_raw(i32::try_from(watch.id()).expect("a pid")), Signal::SIGINT).expect("it runs");
    drop(lines);
    assert!(watch.wait().expect("it ends").success(), "Ctrl-C ends it cleanly");
    load.stop();
    let _ = by_hand.kill();
    let _ = by_hand.wait();
}
