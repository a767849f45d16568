//! The stack of `docker-compose.ha.yml` on a real Docker engine: everything that is there more than once is killed, one
//! after the other, under load. It takes four minutes, so it runs only on request, with images that exist:
//!
//! ```sh
//! docker-compose build && cargo test -p flack-conformance --test high_availability -- --ignored --nocapture
//! ```

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use flack_conformance::{
    client::{Auth, Client, wait_for},
    contract::Contract,
    delivery::{Over, Plan, verify},
    load::Load,
    stack::Operator,
};
use reqwest::StatusCode;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// Every member of a cluster, so that its leaders are among them. Agents, too: HAProxy works without them.
const VICTIMS: [&str; 16] = [
    "haproxy",
    "nats",
    "etcd",
    "users",
    "agent",
    "nats-2",
    "etcd-2",
    "messages",
    "haproxy-2",
    "nats-3",
    "etcd-3",
    "websocket",
    "agent-2",
    "tokens",
    "ui",
    "monolith",
];
/// A container is healthy again some seconds after its start.
const HEALTHY_TIMEOUT: Duration = Duration::from_mins(1);
const HEALTH_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// More than all faults take.
const LOAD_TIME: Duration = Duration::from_secs(170);
const READERS: usize = 4;
/// How long a read is repeated that gets no answer.
const REPEATS_MAX: Duration = Duration::from_secs(5);
const REPEAT_INTERVAL: Duration = Duration::from_millis(100);
const READS: [&str; 3] = ["/api/messages", "/api/users?online=1", "/"];
/// The limits of an address, which the load exceeds.
const LIMITS: [&str; 3] = ["LIMIT_REQUESTS_PER_10S", "LIMIT_WRITES_PER_10S", "LIMIT_CREDENTIALS_PER_10S"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes four minutes and needs the images: docker-compose build"]
async fn reads_succeed_and_no_message_is_lost_while_every_container_but_the_databases_is_killed() {
    let stack = Stack::new().expect("free ports");
    let result = survive(&stack).await;
    if result.is_err() {
        let _ = stack.compose(&["logs", "--tail=15"]).status();
    }
    result.expect("a stack without a single point of failure");
}

async fn survive(stack: &Stack) -> Result<()> {
    ensure!(stack.compose(&["up", "-d", "--no-build"]).status()?.success(), "docker-compose up failed");
    let client = Client::new(&forward([stack.ports[0], stack.ports[1]]).await?, Arc::new(Contract::load()?))?;
    wait_for("a user", || async { Ok(client.person("ready").await.ok()) }).await?;

    let repeated = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&repeated);
    let reads = Load::start(&client, READERS, move |client, number| {
        let counter = Arc::clone(&counter);
        async move {
            let began = Instant::now();
            loop {
                match client.get(READS[number % READS.len()], Auth::None, StatusCode::OK).await {
                    // The balancer has ended with the request, or Docker has accepted the connection in its place: no
                    // answer is not a wrong answer.
                    Err(error) if error.is::<reqwest::Error>() && began.elapsed() < REPEATS_MAX => {
                        counter.fetch_add(1, Ordering::Relaxed);
                        sleep(REPEAT_INTERVAL).await;
                    }
                    result => return result.map(drop),
                }
            }
        }
    });
    reads.warmed_up().await?;
    let plan = Plan {
        posters: 10,
        sockets: 20,
        rate: 20.0,
        time: LOAD_TIME,
        over: Over::Both,
        both_sides: false,
        dropping: 0,
        faults: Vec::new(),
    };
    let operator = Operator::default();
    let (verdict, faults) = tokio::join!(verify(&client, &operator, &plan), kill_all(stack));
    println!("faults took {:.0?}", faults?);
    println!(
        "{} reads, {} repeated because their connection ended",
        reads.answered(),
        repeated.load(Ordering::Relaxed)
    );
    let verdict = verdict?;
    println!("{verdict}");
    reads.end_without_failure()?;
    ensure!(verdict.is_good(), "messages were lost, doubled or reordered");
    Ok(())
}

/// Kills every victim with SIGKILL and starts it again; returns how long that took.
async fn kill_all(stack: &Stack) -> Result<Duration> {
    let began = Instant::now();
    for victim in VICTIMS {
        let container = stack.container(victim)?;
        run(Command::new("docker").args(["kill", &container]))?;
        // Long enough for others to notice.
        sleep(Duration::from_secs(1)).await;
        run(Command::new("docker").args(["start", &container]))?;
        let started = Instant::now();
        let health = ["inspect", "--format", "{{.State.Health.Status}}", &container];
        while run(Command::new("docker").args(health))?.trim() != "healthy" {
            if started.elapsed() > HEALTHY_TIMEOUT {
                bail!("{victim} is not healthy after {HEALTHY_TIMEOUT:?}");
            }
            sleep(HEALTH_POLL_INTERVAL).await;
        }
        println!("{victim} was killed and is back after {:.1?}", started.elapsed());
    }
    Ok(began.elapsed())
}

/// Forwards each connection to one of the ports, or to the other one if that refuses: as a client that knows both.
async fn forward(ports: [u16; 2]) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        for number in 0_usize.. {
            let Ok((mut client, _)) = listener.accept().await else { break };
            tokio::spawn(async move {
                let connect = |index: usize| TcpStream::connect(("127.0.0.1", ports[index % 2]));
                let balancer = match connect(number).await {
                    Ok(balancer) => Ok(balancer),
                    Err(_) => connect(number + 1).await,
                };
                if let Ok(mut balancer) = balancer {
                    let _ = copy_bidirectional(&mut client, &mut balancer).await;
                }
            });
        }
    });
    Ok(url)
}

struct Stack {
    project: String,
    /// The public listeners and the statistics. Docker would choose others when a container starts again.
    ports: [u16; 4],
}

const PORTS: [&str; 4] = ["FLACK_PORT", "FLACK_PORT_2", "FLACK_STATS_PORT", "FLACK_STATS_PORT_2"];

impl Stack {
    fn new() -> Result<Self> {
        // All at once, so that they differ.
        let listeners = PORTS.map(|_| std::net::TcpListener::bind("127.0.0.1:0"));
        let mut ports = [0; PORTS.len()];
        for (port, listener) in ports.iter_mut().zip(listeners) {
            *port = listener?.local_addr()?.port();
        }
        Ok(Self { project: format!("flack-ha-{}", std::process::id()), ports })
    }

    fn compose(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker-compose");
        command
            .args(["-p", &self.project, "-f", "docker-compose.yml", "-f", "docker-compose.ha.yml"])
            .args(arguments)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .env("COMPOSE_PROFILES", "services")
            .envs(PORTS.into_iter().zip(self.ports.map(|port| port.to_string())))
            .envs(LIMITS.map(|limit| (limit, "1000000")))
            .stdin(Stdio::null());
        command
    }

    /// The first container of a service.
    fn container(&self, service: &str) -> Result<String> {
        let ids = run(&mut self.compose(&["ps", "-q", service]))?;
        Ok(ids.lines().next().with_context(|| format!("{service} has no container"))?.to_owned())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.compose(&["down", "--volumes", "--remove-orphans"]).status();
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} cannot be run"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
