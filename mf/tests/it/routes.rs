//! Splits between versions: `mf routes`, and `mf dev`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Stack, wait_for};

const FEW_INSTANCES: &str = "users=1,ui=1,tokens=0,messages=0,websocket=0,search=0,recommend=0,tag=0";
const USERS: &str = "/api/users/1";

fn up(stack: &Stack) {
    let port = stack.port.to_string();
    stack.expect(&["up", "--detach", "--instances", FEW_INSTANCES, "--port", &port], 0);
}

/// Returns the row of users from `mf routes --json`.
fn users(stack: &Stack) -> Value {
    let view: Value = serde_json::from_str(&stack.expect(&["routes", "--json"], 0)).expect("JSON");
    let rows = view["services"].as_array().expect("rows");
    rows.iter().find(|row| row["service"] == "users").expect("users is a service").clone()
}

/// Sends a request to the public listener, and returns its status and the backend and the server in HAProxy's log.
fn send(stack: &Stack, request: &str, header: &str, body: &str) -> (String, String) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = format!("split-test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut connection = TcpStream::connect(("127.0.0.1", stack.port)).expect("HAProxy listens");
    let length = body.len();
    write!(
        connection,
        "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         X-Correlation-ID: {id}\r\nContent-Length: {length}\r\n{header}\r\n\r\n{body}"
    )
    .expect("sent");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut row = Value::Null;
    wait_for("HAProxy logs the request", || {
        let log = fs::read_to_string(stack.home.path().join("log/haproxy.log")).unwrap_or_default();
        let line = log.lines().rfind(|line| line.contains(&format!("\"{id}\"")));
        row = line.and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        !row.is_null()
    });
    let server = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    (status, format!("{}/{}", server("backend"), server("server")))
}

/// Returns the server that answers a request with this header.
fn server(stack: &Stack, header: &str) -> String {
    let (status, server) = send(stack, &format!("GET {USERS}"), header, "");
    assert!(!status.is_empty() && !status.starts_with('5'), "{header}: {server} answers {status}");
    server
}

fn wait_for_server(stack: &Stack, header: &str, expected: &str) {
    wait_for(&format!("{expected} answers {header}"), || server(stack, header) == expected);
}

#[test]
fn a_split_gives_a_version_to_a_header_or_a_user_until_it_is_cleared() {
    let stack = Stack::new();
    stack.expect(&["build", "--version", "2", "--no-build"], 0);
    up(&stack);
    for (options, expected) in [
        (vec!["users", "--version", "9", "--percent", "5"], "no instance of users has version 9"),
        (vec!["users", "--version", "0.1.0"], "--percent 0 is nobody"),
        (vec!["users", "--version", "0.1.0", "--percent", "101"], "0..=100"),
        (vec!["users", "--version", "0.1.0", "--header", "X-Canary: a b"], "\"a b\" is not"),
        (vec!["users", "--version", "0.1.0", "--header", "X-Canary"], "X-Canary: 1"),
        (vec!["users", "--version", "0.1.0", "--cookie", "a;b=1"], "\"a;b\" is not"),
        (vec!["users", "--version", "0.1.0", "--user", "nobody"], "there is no user `nobody`"),
        (vec!["usres", "--version", "0.1.0", "--percent", "5"], "'users'"),
    ] {
        let output = stack.expect(&[vec!["routes", "set"], options.clone()].concat(), 64);
        assert!(output.contains(expected), "{options:?} printed:\n{output}");
    }
    assert_eq!(users(&stack)["split"], Value::Null);
    let early = stack.expect(&["routes", "set", "users", "--version", "2", "--percent", "0"], 0);
    assert!(early.contains("has no effect: no instance has version 2"), "{early}");
    let only = stack.expect(&["routes", "set", "users", "--version", "0.1.0", "--percent", "5"], 0);
    assert!(only.contains("has no effect: every instance has version 0.1.0"), "{only}");
    assert!(stack.expect(&["routes"], 0).contains("has no effect"));

    stack.expect(&["run", "users", "--version", "2"], 0);
    let set = ["routes", "set", "users", "--version", "2", "--header", "X-Canary: 1"];
    let dry = stack.expect(&[&set[..], &["--dry-run"]].concat(), 0);
    assert!(dry.contains("would write /flack/splits/users") && users(&stack)["split"]["version"] == "0.1.0", "{dry}");
    let output = stack.expect(&set, 0);
    assert!(output.contains("version 2 gets requests with X-Canary: 1; the other versions get the rest"), "{output}");
    wait_for_server(&stack, "X-Canary: 1", "users.canary/users-2");
    assert_eq!(server(&stack, "X-Canary: 0"), "users/users-1");
    let shown = stack.expect(&["routes"], 0);
    assert!(shown.contains("requests with X-Canary: 1") && shown.contains("the rest"), "{shown}");

    let ada = r#"{"nickname":"Ada","password":"correct horse"}"#;
    assert_eq!(send(&stack, "POST /api/users", "Accept: */*", ada).0, "201");
    stack.expect(&["routes", "set", "users", "--version", "2", "--user", "ada", "--percent", "0"], 0);
    assert_eq!(users(&stack)["split"]["users"], serde_json::json!(["1"]));
    wait_for("the cookie of Ada selects version 2", || {
        send(&stack, &format!("GET {USERS}"), "Cookie: flack_user=1", "").1 == "users.canary/users-2"
    });
    assert_eq!(send(&stack, &format!("GET {USERS}"), "X-Canary: 1", "").1, "users/users-1");

    assert!(stack.expect(&["routes", "clear", "users", "--dry-run"], 0).contains("would delete"));
    assert!(stack.expect(&["routes", "clear", "users"], 0).contains("is removed"));
    assert_eq!(users(&stack)["split"], Value::Null);
    assert!(stack.expect(&["routes", "clear", "users"], 0).contains("has no split"));
}

/// A running `mf dev`, which is killed when the test fails.
struct Dev(Child);

impl Dev {
    fn start(stack: &Stack, options: &[&str]) -> Self {
        let output = File::create(stack.home.path().join("dev.log")).expect("a log");
        let mut command = stack.mf(&[&["dev", "users"][..], options].concat());
        let errors = output.try_clone().expect("a log");
        Self(command.stdout(Stdio::from(output)).stderr(errors).spawn().expect("mf starts"))
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).expect("it runs");
    }

    fn wait(&mut self) -> ExitStatus {
        self.0.wait().expect("it ends")
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the process group of the program that `mf dev` has started: the first pid that `/proc` lists for it.
fn program_of(dev: &Dev) -> Pid {
    let children = format!("/proc/{0}/task/{0}/children", dev.0.id());
    let children = fs::read_to_string(children).expect("a running process");
    Pid::from_raw(children.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("a child"))
}

fn output(stack: &Stack) -> String {
    fs::read_to_string(stack.home.path().join("dev.log")).expect("a log")
}

#[test]
fn a_service_run_by_hand_gets_its_requests_and_leaves_the_stack_as_it_was() {
    let stack = Stack::new();
    up(&stack);
    let before = users(&stack);
    let header = "X-Dev: me";

    let mut dev = Dev::start(&stack, &["--header", header]);
    wait_for_server(&stack, header, "users.canary/users-dev");
    assert_eq!(server(&stack, "X-Dev: you"), "users/users-1");
    wait_for("it reports the requests", || output(&stack).contains("users-dev answers requests"));
    assert!(output(&stack).contains("export FLACK_VERSION='dev'"), "{}", output(&stack));
    let second = stack.expect(&["dev", "users", "--percent", "5"], 64);
    assert!(second.contains("users has a split already: version dev"), "{second}");
    dev.signal(Signal::SIGINT);
    assert!(dev.wait().success(), "{}", output(&stack));
    assert_eq!(users(&stack), before);
    assert_eq!(server(&stack, header), "users/users-1");

    // Killed together with its program: the split stays, and does no harm.
    let mut dev = Dev::start(&stack, &["--header", header]);
    wait_for_server(&stack, header, "users.canary/users-dev");
    let program = program_of(&dev);
    dev.signal(Signal::SIGKILL);
    killpg(program, Signal::SIGKILL).expect("it runs");
    dev.wait();
    for _ in 0..20 {
        assert!(server(&stack, header).ends_with("/users-1") || server(&stack, header).ends_with("/users-1.backup"));
    }
    wait_for("mf routes reports the split", || {
        stack.expect(&["routes"], 0).contains("has no effect: no instance has version dev")
    });

    // The next one replaces it, and removes it also when its program fails.
    let failed = stack.expect(&["dev", "users", "--header", header, "--", "sh", "-c", "exit 3"], 70);
    assert!(failed.contains("the program of users-dev ended (exit status: 3)"), "{failed}");
    assert_eq!(users(&stack), before);
}

#[test]
fn without_a_split_a_service_run_by_hand_is_one_more_instance() {
    let stack = Stack::new();
    up(&stack);
    let mut dev = Dev::start(&stack, &["--port", "0"]);
    wait_for("it answers a part of the requests", || server(&stack, "Accept: */*") == "users/users-dev");
    assert_eq!(users(&stack)["versions"]["dev"], serde_json::json!(["users-dev"]));
    dev.signal(Signal::SIGTERM);
    assert!(dev.wait().success(), "{}", output(&stack));
    assert_eq!(users(&stack)["versions"]["dev"], Value::Null);
}
