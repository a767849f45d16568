//! `mf up`: starts a stack, or what is missing of it.

mod containers;

use std::time::{Duration, Instant};

use flack_supervisor::{Client, orphans};
use tokio::process::Child;

use crate::checks;
use crate::commands::chaos::Record;
use crate::failure::Result;
use crate::help::examples;
use crate::home::Home;
use crate::infra::postgres::Server;
use crate::launch::Launcher;
use crate::logs;
use crate::output::print_json;
use crate::ports::{PUBLIC_MAX, Ports};
use crate::probe;
use crate::progress::Progress;
use crate::runtime::{self, Runtime};
use crate::settings::{Instances, Settings, Stage, UpOptions};
use crate::signals::interrupted;
use crate::stack::Stack;
use crate::supervisor;

/// Start the whole stack, or what is missing of it
///
/// Starts PostgreSQL, etcd, NATS, HAProxy with its agent, the monolith and the services, and waits until each is ready.
/// Without --detach it stays in the foreground and shows the logs; Ctrl-C stops the stack. If the stack runs already,
/// mfup starts what is missing, and --instances changes how many instances of each service run.
///
/// With --runtime docker the stack runs in containers, which docker-compose starts; it builds the images if they are
/// missing. All other commands then operate the containers.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfup                                     # then open http://127.0.0.1:8080",
    "mfup --detach --instances users=2,websocket=2",
    "mfup --runtime docker                    # in containers, with docker-compose.yml",
    "MF_HOME=/tmp/before mfup --detach --stage monolith --port 9080    # a second stack beside the first",
]))]
pub struct Args {
    /// Where the stack runs [default: `MF_RUNTIME`, else where one runs, else process]
    #[arg(long, value_enum)]
    runtime: Option<runtime::Kind>,
    /// Return as soon as the stack is ready; mfdown stops it
    #[arg(long)]
    detach: bool,
    /// The public port; all others follow from it [default: 8080, or as before]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1024..=i64::from(PUBLIC_MAX)))]
    port: Option<u16>,
    /// Who owns the data: chosen once, when the stack is created [default: services, or as before]
    #[arg(long, value_enum)]
    stage: Option<Stage>,
    /// How many instances of each service, like users=2,websocket=2 [default: one each, or as before]
    #[arg(long)]
    instances: Option<Instances>,
    /// `infra`: only PostgreSQL, etcd and NATS, to run services by hand (see mfenv)
    #[arg(long, value_parser = ["infra"], hide = true)]
    only: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// HAProxy uses an instance that was stopped, and continues, after its next health check.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_POLL_INTERVAL: Duration = Duration::from_millis(100);

pub async fn run(args: Args) -> Result<()> {
    let is_docker = match args.runtime.or(runtime::Kind::from_environment()?) {
        Some(kind) => kind == runtime::Kind::Docker,
        None => matches!(runtime::find().await?, (_, Some(Runtime::Containers(_)))),
    };
    if is_docker {
        return containers::run(args).await;
    }
    let mut home = Home::from_environment()?;
    home.create()?;
    let lock = home.lock("up")?;
    let before = Settings::load(&home)?;
    let options = UpOptions { port: args.port, stage: args.stage, instances: args.instances.clone(), extras: true };
    let settings = Settings::merge(before.as_ref(), &options)?;
    let progress = Progress::new();

    let running = supervisor::find(&home).await?;
    let runtime = running.clone().map(Runtime::Processes);
    for restored in Record::load(&home)?.restore(runtime.as_ref()).await? {
        progress.print(&format!("undone, because mfchaos was killed: {restored}"));
    }
    if running.is_some()
        && let Some(before) = before.filter(|before| before.port != settings.port)
    {
        return Err(failure!(
            Contradiction,
            "this stack runs on port {}. To move it: mfdown, then mfup --port {}. \
                 For a second one, set another MF_HOME.",
            before.port,
            settings.port
        ));
    }
    let server = if running.is_some() {
        // Without the checks: the stack itself uses its ports.
        Server::find(&home)?
    } else {
        orphans::stop(&home.supervisor()?, |name| {
            progress.print(&format!("stopped {name}, whose supervisor had been killed"));
        })
        .await;
        checks::before_start(&home, &Ports::of(settings.port))?
    };
    settings.save(&home)?;
    let stack = Stack::new(home, settings)?;

    let (client, supervisor) = match running {
        Some(client) => (client, None),
        None => supervisor::start(&stack.home).await.map(|(client, child)| (client, Some(child)))?,
    };
    let was_running = supervisor.is_none();
    let runtime = Runtime::Processes(client.clone());
    let launcher = Launcher::new(&stack, &runtime, &progress);
    let result = tokio::select! {
        result = launch(&launcher, &client, &server, &args) => result,
        () = interrupted() => {
            Err(failure!(Interrupted, "interrupted; what this command had started is stopped again"))
        }
    };
    if let Err(failure) = result {
        launcher.undo(supervisor).await;
        return Err(failure);
    }
    drop(lock);
    print_result(&launcher, was_running, &args);
    match supervisor {
        Some(supervisor) if !args.detach => stay(&stack, &client, supervisor, &progress).await,
        _ => Ok(()),
    }
}

async fn launch(launcher: &Launcher<'_>, client: &Client, server: &Server, args: &Args) -> Result<()> {
    Box::pin(launcher.stores(client, server)).await?;
    if args.only.is_some() {
        return Ok(());
    }
    launcher.balancer(client).await?;
    if args.instances.is_some() {
        launcher.stop_surplus(&launcher.desired()).await?;
    }
    launcher.start_missing(&launcher.desired()).await?;
    wait_for_answer(launcher.stack).await
}

/// Waits until the balancer answers a request with the page of the chat.
async fn wait_for_answer(stack: &Stack) -> Result<()> {
    let began = Instant::now();
    let problem = loop {
        let problem = match probe::get(&stack.ports.public_address(), "/").await {
            Some(response) if response.status < 500 => return Ok(()),
            Some(response) => format!("returns status {}", response.status),
            None => "does not respond".to_owned(),
        };
        if began.elapsed() > ANSWER_TIMEOUT {
            break problem;
        }
        tokio::time::sleep(ANSWER_POLL_INTERVAL).await;
    };
    let url = stack.url();
    Err(failure!(Internal, "everything is started, but {url}/ {problem}. See mfps and mflogs haproxy"))
}

fn print_result(launcher: &Launcher<'_>, was_running: bool, args: &Args) {
    let (stack, started) = (launcher.stack, launcher.started());
    let (url, stage) = (stack.url(), stack.settings.stage);
    let stats = format!("http://{}/stats", stack.ports.stats_address());
    if args.json {
        print_json(&serde_json::json!({
            "url": url, "home": stack.home.path(), "stage": stage, "instances": stack.settings.instances,
            "already_running": was_running, "started": started, "stats": stats,
        }));
        return;
    }
    if was_running {
        let started = match started.as_slice() {
            [] => String::new(),
            started => format!(", and {} started now", started.join(", ")),
        };
        print_line!("The stack runs already (stage {stage}){started}: {url}");
        return;
    }
    if args.only.is_some() {
        print_line!(
            "\nPostgreSQL, etcd and NATS are ready. `mfenv users --secrets` prints the environment of a service; \
             mfup starts the rest."
        );
        return;
    }
    let instance = match stage {
        Stage::Services => "users-1",
        Stage::Monolith => "monolith-1",
    };
    print_line!("\nFlack is ready (stage {stage}). Open it in two browser windows and chat:\n");
    print_line!("    {url}\n\nWhat to try next:");
    let kill = format!("bin/mfkill {instance} --hard");
    let docs = format!("{url}/api/docs");
    for (command, effect) in [
        ("bin/mfps", "show what runs where"),
        ("bin/mflogs -f", "follow all logs"),
        ("bin/mfscale users=2", "run two instances of users"),
        (kill.as_str(), "kill -9 an instance, and see it restart"),
        (docs.as_str(), "read and try the API"),
        (stats.as_str(), "see the load balancer's statistics"),
        ("bin/mfdown", "stop everything; the data stays"),
    ] {
        if stage == Stage::Services || !command.contains("mfscale") {
            print_line!("    {command:36} {effect}");
        }
    }
    if Home::is_chosen() {
        let variables = launcher.runtime.environment(&stack.home);
        let variables: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        print_line!("\nThis stack is not the default one: set {} for these commands, too.", variables.join(" "));
    }
}

/// Shows the logs until Ctrl-C, which stops the stack, or until another command stops it.
async fn stay(stack: &Stack, client: &Client, mut supervisor: Child, progress: &Progress) -> Result<()> {
    print_line!("\nIts logs follow. Ctrl-C stops the stack.\n");
    let (all, format) = (logs::Filter::default(), logs::Format::for_terminal());
    tokio::select! {
        result = logs::follow(&stack.home, &all, format) => result?,
        _ = supervisor.wait() => {
            print_line!("The stack was stopped.");
            return Ok(());
        }
        () = interrupted() => {}
    }
    progress.print("\nstopping");
    client.shutdown(|ended| progress.print_ended(&ended)).await?;
    let _ = supervisor.wait().await;
    Ok(())
}
