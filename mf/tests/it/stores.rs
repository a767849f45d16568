//! A stack without services: PostgreSQL, etcd and NATS, started, broken and stopped by `mf`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Stack, is_alive, mode, wait_for};
use mf::home::Home;
use mf::infra::postgres as accounts;
use mf::ports::Ports;
use mf::secrets::Secrets;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn signal(pid: i64, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal).expect("the process is ours");
}

#[test]
fn a_second_start_changes_nothing_and_data_survives_a_stop() {
    let stack = Stack::started();
    let pids = ["postgres", "etcd", "nats"].map(|name| stack.pid(name));
    assert!(stack.up().contains("ready"));
    assert_eq!(["postgres", "etcd", "nats"].map(|name| stack.pid(name)), pids, "the same processes run");

    let secrets = stack.secrets();
    stack.expect(&["down"], 0);
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "all have ended");
    stack.expect(&["up", "--detach", "--only", "infra"], 0);
    assert_eq!(stack.secrets(), secrets, "the same passwords open the same data");
}

#[test]
fn purge_deletes_everything() {
    let stack = Stack::started();
    let data = fs::canonicalize(stack.home.path().join("postgres")).expect("PostgreSQL's data");
    stack.expect(&["down", "--purge"], 0);
    assert!(!stack.home.path().exists());
    assert!(!data.exists(), "{} is left", data.display());
}

#[test]
fn postgres_runs_below_a_folder_that_its_user_may_not_enter() {
    // As in a clone below /root: we are root, and PostgreSQL runs as another user.
    let closed = tempfile::tempdir().expect("a temporary folder");
    let home = tempfile::tempdir_in(closed.path()).expect("a temporary folder");
    let stack = Stack { home, ..Stack::new() };
    stack.up();
    let data = fs::canonicalize(stack.home.path().join("postgres")).expect("PostgreSQL's data");
    stack.expect(&["down", "--purge"], 0);
    assert!(!data.exists(), "{} is left", data.display());
}

#[test]
fn two_stacks_run_side_by_side() {
    let (one, other) = (Stack::started(), Stack::started());
    assert_ne!(one.pid("postgres"), other.pid("postgres"));
    other.expect(&["down"], 0);
    assert!(is_alive(one.pid("postgres")), "the first one still runs after the second was stopped");
}

#[test]
fn a_port_in_use_is_reported_with_its_process_and_nothing_is_started() {
    let stack = Stack::new();
    let ports = mf::ports::Ports::of(stack.port);
    let _etcd = TcpListener::bind(("127.0.0.1", ports.etcd)).expect("a free port");
    let _nats = TcpListener::bind(("127.0.0.1", ports.nats)).expect("a free port");
    let output = stack.expect(&["up", "--detach", "--port", &stack.port.to_string()], 69);
    let me = format!("(pid {})", std::process::id());
    assert!(
        output.contains(&format!("port {}, for etcd, is in use by", ports.etcd)) && output.contains(&me),
        "{output}"
    );
    assert!(output.contains(&format!("port {}, for NATS, is in use by", ports.nats)), "all problems at once: {output}");
    stack.expect(&["ps"], 69);
}

#[test]
fn a_second_mfup_reports_that_the_first_holds_the_lock() {
    let stack = Stack::new();
    let mut home = mf::home::Home::at(stack.home.path()).expect("a home");
    home.create().expect("its folders");
    let _lock = home.lock("up").expect("the first");
    let output = stack.expect(&["up", "--detach"], 75);
    assert!(output.contains("mf up (pid"), "{output}");
}

#[test]
fn a_store_that_does_not_start_is_reported_with_its_log_and_the_rest_is_stopped() {
    let stack = Stack::new();
    // A file in the place of etcd's folder.
    fs::write(stack.home.path().join("etcd"), "").expect("written");
    let output = stack.expect(&["up", "--detach", "--only", "infra", "--port", &stack.port.to_string()], 70);
    assert!(output.contains("etcd did not become ready") && output.contains("Its last lines:"), "{output}");
    assert!(output.contains("mflogs etcd"), "{output}");
    stack.expect(&["ps"], 69);
    assert_eq!(orphans(&stack), Vec::<String>::new());
}

#[test]
fn a_stack_keeps_its_stage_and_a_running_one_its_port() {
    let stack = Stack::started();
    let output = stack.expect(&["up", "--detach", "--stage", "monolith"], 78);
    assert!(output.contains("mfdown --purge"), "{output}");
    let output = stack.expect(&["up", "--detach", "--port", "30000"], 78);
    assert!(output.contains("mfdown, then mfup --port 30000"), "{output}");
    assert!(stack.process("postgres").is_some(), "it still runs");
}

#[test]
fn a_crashed_process_is_restarted_and_a_stopped_one_is_not() {
    let stack = Stack::started();
    let before = stack.pid("nats");
    stack.expect(&["kill", "nats", "--hard"], 0);
    wait_for("nats runs again", || {
        stack.process("nats").is_some_and(|nats| nats["health"] == "ready" && nats["restarts"] == 1)
    });
    assert_ne!(stack.pid("nats"), before);

    stack.expect(&["kill", "nats"], 0);
    assert!(stack.process("nats").is_none());
    assert!(stack.expect(&["up", "--detach", "--only", "infra"], 0).contains("nats"), "mfup starts what is missing");
    assert!(stack.process("nats").is_some());

    let output = stack.expect(&["kill", "nats", "--hard", "--no-restart"], 0);
    assert!(output.contains("for good"), "{output}");
    assert!(stack.process("nats").is_none());
    assert!(stack.expect(&["kill", "nats"], 64).contains("running processes are etcd, postgres"));
}

#[test]
fn postgres_recovers_after_kill_9() {
    let stack = Stack::started();
    stack.expect(&["kill", "postgres", "--hard"], 0);
    wait_for("PostgreSQL accepts connections again", || {
        stack.process("postgres").is_some_and(|postgres| postgres["health"] == "accepting")
    });
}

#[test]
fn orphans_of_a_killed_supervisor_are_reported_and_stopped() {
    let stack = Stack::started();
    let pids = ["postgres", "etcd", "nats"].map(|name| stack.pid(name));
    let supervisor = parent(pids[0]);
    signal(supervisor, Signal::SIGKILL);
    wait_for("the supervisor is gone", || !is_alive(supervisor));
    assert!(is_alive(pids[1]), "its processes still run");

    let output = stack.expect(&["ps"], 69);
    assert!(output.contains("still run") && output.contains("etcd"), "{output}");
    let output = stack.up();
    assert!(output.contains("stopped postgres, whose supervisor had been killed"), "{output}");
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    assert!(stack.process("postgres").is_some(), "new processes run");

    signal(parent(stack.pid("postgres")), Signal::SIGKILL);
    stack.expect(&["down"], 0);
    assert_eq!(orphans(&stack), Vec::<String>::new());
}

#[test]
fn ctrl_c_during_the_start_leaves_nothing_running() {
    let stack = Stack::new();
    let mut up = stack.mf(&["up", "--only", "infra", "--port", &stack.port.to_string()]).spawn().expect("mf runs");
    wait_for("something was started", || !orphans(&stack).is_empty());
    signal(i64::from(up.id()), Signal::SIGINT);
    assert_eq!(up.wait().expect("it ended").code(), Some(130));
    assert_eq!(orphans(&stack), Vec::<String>::new());
    stack.expect(&["ps"], 69);
}

#[test]
fn ctrl_c_in_the_foreground_stops_the_stack() {
    let stack = Stack::new();
    let mut up = stack.mf(&["up", "--only", "infra", "--port", &stack.port.to_string()]);
    let mut up = up.stdout(std::process::Stdio::piped()).spawn().expect("mf runs");
    let mut output = BufReader::new(up.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("Ctrl-C stops the stack") {
        line.clear();
        assert_ne!(output.read_line(&mut line).expect("readable"), 0, "mf up ended early");
    }
    signal(i64::from(up.id()), Signal::SIGINT);
    output.read_to_string(&mut line).expect("readable");
    assert_eq!(up.wait().expect("it ended").code(), Some(0), "{line}");
    assert_eq!(orphans(&stack), Vec::<String>::new());
}

#[test]
fn secrets_are_private_and_appear_in_no_log_and_no_command_line() {
    let stack = Stack::started();
    let home = stack.home.path();
    for path in
        ["secrets/stack.json", "secrets/etcd/ca.key", "nats/nats.conf", "stack.json", "log/postgres.log", "mf.sock"]
    {
        assert_eq!(mode(&home.join(path)), 0o600, "{path}");
    }
    let secrets = stack.secrets();
    let mut passwords = vec![secrets["postgres"].clone()];
    for account in secrets["accounts"].as_object().expect("accounts").values() {
        passwords.extend(account.as_object().expect("an account").values().cloned());
    }
    passwords.extend(secrets["handover_keys"].as_object().expect("keys").values().cloned());
    let mut texts: Vec<String> = fs::read_dir(home.join("log"))
        .expect("logs")
        .flatten()
        .map(|entry| fs::read_to_string(entry.path()).expect("a log"))
        .collect();
    texts.extend(
        ["postgres", "etcd", "nats"]
            .map(|name| fs::read_to_string(format!("/proc/{}/cmdline", stack.pid(name))).expect("a command line")),
    );
    texts.push(stack.expect(&["env", "users"], 0));
    for password in passwords.iter().filter_map(serde_json::Value::as_str) {
        assert!(texts.iter().all(|text| !text.contains(password)), "a password was printed");
    }
}

#[tokio::test]
async fn a_role_cannot_connect_to_the_database_of_another_service() {
    use sqlx::Connection;
    let stack = Stack::started();
    let output = stack.expect(&["env", "users", "--secrets", "--json"], 0);
    let environment: serde_json::Value = serde_json::from_str(&output).expect("JSON");
    let own = environment["DATABASE_URL"].as_str().expect("a URL").to_owned();
    sqlx::PgConnection::connect(&own).await.expect("its own database is open");
    for other in ["flack", "tokens", "messages", "postgres", "template1"] {
        let url = own.replace("/users?", &format!("/{other}?"));
        assert!(sqlx::PgConnection::connect(&url).await.is_err(), "users can connect to {other}");
    }
}

#[tokio::test]
async fn a_service_may_write_its_own_registry_keys_and_read_all() {
    let stack = Stack::started();
    let mut users = etcd_client(&stack, "users").await;
    for key in ["/flack/services/users", "/flack/services/users/users-1", "/flack/acknowledged/users/users-1"] {
        users.put(key, "{}", None).await.unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    assert_eq!(users.get("/flack/authority/messages", None).await.expect("readable").count(), 1);
    for key in [
        "/flack/services/usersx",
        "/flack/services/tokens",
        "/flack/routes/users",
        "/flack/jwks/1",
        "/flack/balancer/users/users-1",
        "/flack/acknowledged/haproxy/haproxy",
    ] {
        assert!(users.put(key, "{}", None).await.is_err(), "users may write {key}");
    }
    etcd_client(&stack, "balancer")
        .await
        .put("/flack/balancer/users/users-1", "{}", None)
        .await
        .expect("the agent reports its state");
}

/// Connects with the certificate of an account.
async fn etcd_client(stack: &Stack, account: &str) -> etcd_client::Client {
    use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
    let read = |name: &str| fs::read(stack.home.path().join("secrets/etcd").join(name)).expect("a certificate");
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(read("ca.pem")))
        .identity(Identity::from_pem(read(&format!("{account}.pem")), read(&format!("{account}.key"))));
    let url = format!("https://127.0.0.1:{}", mf::ports::Ports::of(stack.port).etcd);
    Client::connect([url], Some(ConnectOptions::new().with_tls(tls))).await.expect("a client")
}

#[tokio::test]
async fn mfup_gives_a_running_stack_the_accounts_of_a_service_that_was_added_to_the_catalogue() {
    use sqlx::Connection;
    let stack = Stack::started();
    let ports = Ports::of(stack.port);
    let secrets = Secrets::load(&Home::at(stack.home.path()).expect("a home")).expect("readable").expect("secrets");
    let pids = ["postgres", "etcd", "nats"].map(|name| stack.pid(name));
    // The stack of a catalogue without ui.
    let mut root = etcd_client(&stack, "root").await;
    root.user_delete("ui").await.expect("root may");
    root.role_delete("ui").await.expect("root may");
    let mut postgres = accounts::connect_to(&ports, &secrets, "postgres").await.expect("the superuser");
    for statement in ["drop database ui", "drop role ui"] {
        sqlx::query(statement).execute(&mut postgres).await.expect(statement);
    }
    without_lines_of_ui(&stack.home.path().join("postgres/pg_hba.conf"), "host ui");
    sqlx::query("select pg_reload_conf()").execute(&mut postgres).await.expect("the superuser may");
    without_lines_of_ui(&stack.home.path().join("nats/nats.conf"), "user: ui,");
    signal(stack.pid("nats"), Signal::SIGHUP);
    wait_for("NATS has no user ui", || !nats_accepts(&stack, "ui"));

    stack.up();
    assert_eq!(["postgres", "etcd", "nats"].map(|name| stack.pid(name)), pids, "nothing was restarted");
    assert!(nats_accepts(&stack, "ui"));
    etcd_client(&stack, "ui").await.put("/flack/services/ui", "{}", None).await.expect("its own key");
    let output = stack.expect(&["env", "ui", "--secrets", "--json"], 0);
    let environment: serde_json::Value = serde_json::from_str(&output).expect("JSON");
    let url = environment["DATABASE_URL"].as_str().expect("a URL");
    sqlx::PgConnection::connect(url).await.expect("its own database");
}

/// Removes lines of a server's configuration; the owner and the permissions of the file stay.
fn without_lines_of_ui(path: &Path, of_ui: &str) {
    let text = fs::read_to_string(path).expect("a configuration");
    let kept: Vec<&str> = text.lines().filter(|line| !line.contains(of_ui)).collect();
    assert!(kept.len() < text.lines().count(), "{}", path.display());
    fs::write(path, kept.join("\n") + "\n").expect("written");
}

fn nats_accepts(stack: &Stack, user: &str) -> bool {
    let mut nats = TcpStream::connect(("127.0.0.1", Ports::of(stack.port).nats)).expect("NATS listens");
    nats.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let password = stack.secrets()["accounts"][user]["nats"].as_str().expect("a password").to_owned();
    let connect = format!(r#"CONNECT {{"user":"{user}","pass":"{password}","verbose":false}}"#);
    // NATS closes the connection of an unknown user, perhaps before the PING.
    let _ = nats.write_all(format!("{connect}\r\nPING\r\n").as_bytes());
    BufReader::new(nats).lines().map_while(Result::ok).any(|line| line == "PONG")
}

#[tokio::test]
async fn only_the_owner_of_tokens_may_write_signing_keys_also_after_a_change_of_the_owner() {
    const KEY: &str = "/flack/jwks/before";
    let stack = Stack::started();
    let (mut root, mut tokens, mut monolith) =
        (etcd_client(&stack, "root").await, etcd_client(&stack, "tokens").await, etcd_client(&stack, "monolith").await);
    tokens.put(KEY, "{}", None).await.expect("tokens owns tokens");
    monolith.put(KEY, "{}", None).await.expect_err("the monolith does not own tokens");

    root.put("/flack/authority/tokens", r#"{"owner":"monolith","epoch":2}"#, None).await.expect("root may");
    stack.up();
    monolith.put("/flack/revoked/1", "{}", None).await.expect("the monolith owns tokens");
    tokens.put(KEY, "", None).await.expect_err("tokens does not own tokens any more");
    assert_eq!(monolith.get(KEY, None).await.expect("readable").count(), 1, "tokens that were issued stay valid");

    mf::infra::etcd::allow_signing(&mut root, None).await.expect("root may");
    monolith.put(KEY, "{}", None).await.expect_err("nobody owns tokens");
}

#[tokio::test]
async fn mfup_ends_an_alarm_that_stops_all_writes() {
    use etcd_client::{AlarmAction, AlarmType};
    let stack = Stack::started();
    // etcd allows this to every account.
    let mut users = etcd_client(&stack, "users").await;
    for kind in [AlarmType::Nospace, AlarmType::Corrupt] {
        users.alarm(AlarmAction::Activate, kind, None).await.expect("an alarm");
        users.put("/flack/services/users", "{}", None).await.expect_err("no write is accepted");
    }
    stack.up();
    users.put("/flack/services/users", "{}", None).await.expect("writes are accepted");
}

#[test]
fn a_state_folder_with_passwords_of_etcd_gets_certificates_and_the_passwords_become_invalid() {
    let stack = Stack::new();
    let mut home = mf::home::Home::at(stack.home.path()).expect("a home");
    home.create().expect("its folders");
    // As an earlier version created it.
    let account = |name: &str| serde_json::json!({"postgres": "p", "etcd": format!("{name}-password"), "nats": "n"});
    let services = ["monolith", "ui", "users", "tokens", "messages", "websocket", "search", "recommend", "tag"];
    let names = services.into_iter().chain(["balancer", "mf"]);
    let accounts: serde_json::Map<_, _> = names.map(|name| (name.to_owned(), account(name))).collect();
    let secrets = serde_json::json!({"postgres": "p", "etcd": "root-password", "accounts": accounts});
    mf::home::write_json(&home.secrets(), &secrets).expect("written");
    let ports = mf::ports::Ports::of(stack.port);
    let mut etcd = EarlierEtcd::start(&home, &ports);
    let output = stack.expect(&["up", "--detach", "--only", "infra", "--port", &stack.port.to_string()], 69);
    assert!(output.contains("for etcd, is in use"), "{output}");
    etcd.stop();

    stack.up();
    let secrets = fs::read_to_string(home.secrets()).expect("secrets");
    assert!(!secrets.contains("-password"), "{secrets}");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut users = etcd_client(&stack, "users").await;
        users.put("/flack/services/users", "{}", None).await.expect("its certificate is accepted");
        assert_eq!(users.get("/flack/earlier", None).await.expect("readable").count(), 1, "the data is kept");
        etcd_client(&stack, "monolith").await.put("/flack/jwks/1", "{}", None).await.expect_err("tokens owns tokens");
        let authenticated = users.auth_client().authenticate("root".to_owned(), "root-password".to_owned()).await;
        authenticated.expect_err("the password is not valid any more");
    });
}

/// An etcd with passwords and without TLS, with the accounts that an earlier version created.
struct EarlierEtcd(std::process::Child);

impl EarlierEtcd {
    fn start(home: &mf::home::Home, ports: &mf::ports::Ports) -> Self {
        let (client, peer) =
            (format!("http://127.0.0.1:{}", ports.etcd), format!("http://127.0.0.1:{}", ports.etcd_peer));
        let mut command = std::process::Command::new("etcd");
        command.arg("--name=flack").arg("--data-dir").arg(home.etcd());
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("flack={peer}"), "--log-level=error"]);
        let etcd = Self(command.stderr(std::process::Stdio::null()).spawn().expect("etcd runs"));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        wait_for("etcd has its accounts", || runtime.block_on(Self::set_up(&client)).is_ok());
        etcd
    }

    async fn set_up(url: &str) -> Result<(), etcd_client::Error> {
        use etcd_client::{Client, Permission};
        let mut client = Client::connect([url], None).await?;
        client.put("/flack/earlier", "", None).await?;
        for name in ["root", "monolith", "users"] {
            client.role_add(name).await?;
            client.role_grant_permission(name, Permission::read("/flack/").with_prefix()).await?;
            client.user_add(name, format!("{name}-password"), None).await?;
            client.user_grant_role(name, name).await?;
        }
        client.role_grant_permission("users", Permission::read_write("/flack/services/users")).await?;
        client.role_grant_permission("monolith", Permission::read_write("/flack/jwks/").with_prefix()).await?;
        client.auth_enable().await?;
        Ok(())
    }

    fn stop(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }
}

impl Drop for EarlierEtcd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_service_may_publish_only_its_own_events() {
    let stack = Stack::started();
    let port = mf::ports::Ports::of(stack.port).nats;
    let password = stack.secrets()["accounts"]["users"]["nats"].as_str().expect("a password").to_owned();
    let mut nats = TcpStream::connect(("127.0.0.1", port)).expect("NATS listens");
    nats.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let connect = format!(r#"CONNECT {{"user":"users","pass":"{password}","verbose":false}}"#);
    write!(nats, "{connect}\r\nPUB flack.users.x 0\r\n\r\nPUB flack.tokens.x 0\r\n\r\nPING\r\n").expect("written");
    let mut lines = BufReader::new(nats).lines().map_while(Result::ok);
    let answers: Vec<String> = lines.by_ref().take_while(|line| line != "PONG").collect();
    let refused: Vec<&String> = answers.iter().filter(|line| line.starts_with("-ERR")).collect();
    assert_eq!(refused.len(), 1, "{answers:?}");
    assert!(refused[0].contains("flack.tokens.x"), "{refused:?}");
}

#[test]
fn streams_that_nats_has_lost_are_made_again() {
    let stack = Stack::started();
    let streams = stack.home.path().join("nats/jetstream");
    let owners = flack_catalogue::SERVICES.iter().filter(|service| service.publishes_events).count();
    assert_eq!(stack.streams(), owners, "mfup makes them");
    stack.expect(&["kill", "nats"], 0);
    fs::remove_dir_all(&streams).expect("NATS has stopped");
    stack.expect(&["up", "--detach", "--only", "infra"], 0);
    assert_eq!(stack.streams(), owners, "mfup makes them again");

    // The supervisor starts NATS again, and nobody runs mfup.
    signal(stack.pid("nats"), Signal::SIGSTOP);
    fs::remove_dir_all(&streams).expect("NATS is frozen");
    signal(stack.pid("nats"), Signal::SIGKILL);
    wait_for("the supervisor makes them", || stack.streams() == owners);
}

#[test]
fn commands_report_within_seconds_that_etcd_does_not_respond() {
    let stack = Stack::started();
    stack.expect(&["kill", "etcd"], 0);
    let address = Ports::of(stack.port).etcd_address();
    for command in [
        &["scale", "users=2"][..],
        &["run", "users"],
        &["restart", "all"],
        &["build", "ls"],
        &["build", "prune"],
        &["upgrade", "status"],
        &["migrate"],
        &["routes"],
    ] {
        let began = Instant::now();
        let output = stack.expect(command, 69);
        assert!(began.elapsed() < Duration::from_secs(20), "{command:?} took {:?}", began.elapsed());
        assert!(
            output.contains(&format!("etcd) does not respond at {address} (Connection refused")),
            "{command:?}: {output}"
        );
        assert!(output.contains("mfup starts what is missing"), "{command:?}: {output}");
        assert!(output.lines().count() == 1, "{command:?}: {output}");
    }
    assert!(stack.expect(&["ps"], 0).contains("mfup starts what is missing"));

    stack.up();
    stack.expect(&["build", "ls"], 0);
    let etcd = stack.pid("etcd");
    signal(etcd, Signal::SIGSTOP);
    let began = Instant::now();
    let output = stack.expect(&["run", "users"], 69);
    signal(etcd, Signal::SIGCONT);
    assert!(output.contains("etcd) does not respond") && began.elapsed() < Duration::from_secs(20), "{output}");
}

/// Whether SIGSTOP has stopped a process.
fn is_frozen(pid: i64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

#[test]
fn frozen_processes_continue_after_the_time_and_when_the_command_is_interrupted() {
    let stack = Stack::started();
    let pids = ["nats", "etcd"].map(|name| stack.pid(name));
    let began = Instant::now();
    let output = stack.expect(&["kill", "nats", "--freeze", "1"], 0);
    assert!(began.elapsed() >= Duration::from_secs(1) && output.contains("was frozen for 1 s"), "{output}");
    assert!(!is_frozen(pids[0]));

    let freeze = || stack.mf(&["kill", "nats", "etcd", "--freeze", "600"]).spawn().expect("mf runs");
    let end = |mut command: std::process::Child| {
        signal(command.id().into(), Signal::SIGINT);
        assert_eq!(command.wait().expect("it ends").code(), Some(130));
    };
    let command = freeze();
    wait_for("both are frozen", || pids.into_iter().all(is_frozen));
    end(command);
    assert!(!pids.into_iter().any(is_frozen), "they continue");

    // One is killed meanwhile: the other one continues all the same.
    let command = freeze();
    wait_for("both are frozen again", || pids.into_iter().all(is_frozen));
    stack.expect(&["kill", "nats", "--hard", "--no-restart"], 0);
    end(command);
    assert!(!is_alive(pids[0]) && !is_frozen(pids[1]));
    assert_eq!(stack.pid("etcd"), pids[1]);
}

#[test]
fn mfverify_checks_the_names_of_processes_before_the_run() {
    let stack = Stack::started();
    for (option, name, expected) in [
        ("--kill", "natss", "did you mean `nats`?"),
        ("--freeze", "users", "Possible names are etcd, nats, postgres, relay"),
        ("--replace", "nats", "possible names are relay"),
    ] {
        let output = stack.expect(&["verify", "delivery", option, name], 64);
        assert!(output.to_lowercase().contains(&expected.to_lowercase()), "{option} {name}: {output}");
    }
}

#[test]
fn logs_are_sorted_by_time_and_filtered_by_name() {
    let stack = Stack::started();
    let all = stack.expect(&["logs", "--lines", "500"], 0);
    assert!(all.contains("nats ") && all.contains("postgres "), "{all}");
    let times: Vec<&str> = all.lines().filter_map(|line| line.get(..12)).collect();
    assert!(times.is_sorted(), "{all}");
    let nats = stack.expect(&["logs", "nats", "--json"], 0);
    for line in nats.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("one JSON object a line");
        assert_eq!(line["process"], "nats");
    }
    let found = stack.expect(&["logs", "--grep", "Server is ready", "--since", "1h", "--color", "always"], 0);
    assert!(found.lines().count() == 1 && found.contains("\u{1b}[36mnats"), "{found}");
    assert_eq!(stack.expect(&["logs", "--grep", "no line has this"], 0), "");
    assert!(stack.expect(&["logs", "usres"], 64).contains("ogs are etcd, nats, postgres"));
}

/// Returns the names of processes in pid files that still run.
fn orphans(stack: &Stack) -> Vec<String> {
    let home = mf::home::Home::at(stack.home.path()).expect("a home");
    flack_supervisor::orphans::find(&home.supervisor().expect("its paths"))
}

fn parent(pid: i64) -> i64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent").trim().parse().expect("a pid")
}

#[test]
fn a_postgres_of_the_wrong_version_is_reported_before_anything_is_started() {
    use std::os::unix::fs::PermissionsExt;
    let stack = Stack::new();
    let old = tempfile::tempdir().expect("a temporary folder");
    for program in ["initdb", "postgres"] {
        let path = old.path().join(program);
        fs::write(&path, "#!/bin/sh\necho 'postgres (PostgreSQL) 13.9 (Debian 13.9-0+deb11u1)'\n").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }
    let port = stack.port.to_string();
    let up = |arguments: &[&str]| {
        let output = stack.mf(arguments).env("MF_POSTGRES_BIN", old.path()).output().expect("mf runs");
        assert_eq!(output.status.code(), Some(69));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let output = up(&["up", "--detach", "--port", &port]);
    assert!(output.contains("PostgreSQL 13") && output.contains("14 or newer is needed"), "{output}");

    let data = stack.home.path().join("postgres");
    fs::create_dir(&data).expect("a data folder");
    fs::write(data.join("PG_VERSION"), "12\n").expect("written");
    let output = up(&["up", "--detach", "--port", &port]);
    assert!(output.contains("was created by PostgreSQL 12, but 13 is installed"), "{output}");
    stack.expect(&["ps"], 69);
}
