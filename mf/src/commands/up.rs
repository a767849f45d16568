//! `mf up`: from nothing to a stack that answers, or from a part of one to all of it.

use tokio::process::Child;

use crate::checks;
use crate::failure::{Exit, Failure, Result};
use crate::help::examples;
use crate::home::Home;
use crate::infra::postgres::Server;
use crate::infra::programs;
use crate::launch::Launcher;
use crate::logs;
use crate::ports::PUBLIC_MAX;
use crate::probe;
use crate::progress::Progress;
use crate::settings::{Instances, Settings, Stage, Wishes};
use crate::signals::interrupted;
use crate::stack::Stack;
use crate::supervisor::{Client, leftovers};

/// Start the whole stack, or what is missing of it
///
/// Starts PostgreSQL, etcd, NATS, HAProxy with its agent, the monolith and the services, and waits until each is ready.
/// Without --detach it stays, shows the logs, and Ctrl-C stops what it started. On a stack that runs already it starts
/// what is missing, and with --instances changes how many of each service run.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("  mfup                                     # then open http://127.0.0.1:8080\n  mfup --detach --instances users=2,websocket=2\n  MF_HOME=/tmp/before mfup --detach --stage monolith --port 9080    # a second stack beside the first"))]
pub struct Args {
    /// Come back as soon as it is ready; mfdown ends it
    #[arg(long)]
    detach: bool,
    /// The public port; all others follow from it [default: 8080, or as before]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1024..=i64::from(PUBLIC_MAX)))]
    port: Option<u16>,
    /// Who owns the data: chosen once, when the stack is made [default: services, or as before]
    #[arg(long, value_enum)]
    stage: Option<Stage>,
    /// How many of each service, like users=2,websocket=2 [default: one each, or as before]
    #[arg(long)]
    instances: Option<Instances>,
    /// `infra`: PostgreSQL, etcd and NATS alone, to run services against by hand (see mfenv)
    #[arg(long, value_parser = ["infra"], hide = true)]
    only: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let mut home = Home::from_environment()?;
    home.create()?;
    let lock = home.lock("up")?;
    let before = Settings::load(&home)?;
    let wishes = Wishes { port: args.port, stage: args.stage, instances: args.instances.clone() };
    let settings = Settings::merge(before.as_ref(), &wishes)?;
    let progress = Progress::new();

    let running = Client::find(&home).await?;
    if let (Some(_), Some(before)) = (&running, &before)
        && before.port != settings.port
    {
        return Err(Failure::new(
            Exit::Contradiction,
            format!(
                "this stack runs on port {}. To move it: mfdown, then mfup --port {}. For a second one, set another MF_HOME.",
                before.port, settings.port
            ),
        ));
    }
    if running.is_none() {
        leftovers::end(&home, |name| {
            progress.say(&format!("ended {name}, left over from a supervisor that was killed"));
        })
        .await;
    }
    let server = match running {
        // Its ports are taken, by itself.
        Some(_) => Server::find(&home).map_err(Failure::unavailable)?,
        None => checks::before_start(&home, &crate::ports::Ports::of(settings.port))?,
    };
    settings.save(&home)?;
    let stack = Stack::new(home, settings)?;

    let (client, supervisor) = match running {
        Some(client) => (client, None),
        None => {
            Client::spawn(&stack.home, &programs::mf()?).await.map(|(client, child)| (client, Some(child)))?
        }
    };
    let was_running = supervisor.is_none();
    let launcher = Launcher::new(&stack, &client, &progress);
    let result = tokio::select! {
        result = launch(&launcher, &server, &args) => result,
        () = interrupted() => Err(Failure::new(Exit::Interrupted, "interrupted; what had been started is stopped again")),
    };
    if let Err(failure) = result {
        undo(&launcher, supervisor).await;
        return Err(failure);
    }
    drop(lock);
    tell(&launcher, was_running, &args);
    match supervisor {
        Some(supervisor) if !args.detach => stay(&stack, &client, supervisor, &progress).await,
        _ => Ok(()),
    }
}

async fn launch(launcher: &Launcher<'_>, server: &Server, args: &Args) -> Result<()> {
    Box::pin(launcher.stores(server)).await?;
    if args.only.is_some() {
        return Ok(());
    }
    launcher.balancer().await?;
    if args.instances.is_some() {
        launcher.scale_down().await?;
    }
    launcher.instances().await?;
    let (stack, address) = (launcher.stack, format!("127.0.0.1:{}", launcher.stack.ports.public));
    match probe::get(&address, "/").await {
        Some(answer) if answer.status < 500 => Ok(()),
        Some(answer) => Err(Failure::internal(format!(
            "all is started, but {}/ answers {}. See mfps and mflogs haproxy",
            stack.url(),
            answer.status
        ))),
        None => Err(Failure::internal(format!(
            "all is started, but {} does not answer. See mfps and mflogs haproxy",
            stack.url()
        ))),
    }
}

/// Leaves nothing running that was not running before.
async fn undo(launcher: &Launcher<'_>, supervisor: Option<Child>) {
    let told = |ended: crate::supervisor::protocol::Ended| {
        launcher.progress.say(&format!("{} {}", ended.name, ended.how));
    };
    let undone = match supervisor {
        Some(mut supervisor) => {
            let undone = launcher.client.shutdown(told).await;
            let _ = supervisor.wait().await;
            undone
        }
        None => launcher.client.stop(launcher.started(), told).await,
    };
    if let Err(failure) = undone {
        launcher.progress.say(&format!("could not stop everything: {failure}. Use mfdown."));
    }
}

fn tell(launcher: &Launcher<'_>, was_running: bool, args: &Args) {
    let (stack, started) = (launcher.stack, launcher.started());
    let url = stack.url();
    if args.json {
        let result = serde_json::json!({
            "url": url, "home": stack.home.path(), "stage": stack.settings.stage, "instances": stack.settings.instances,
            "already_running": was_running, "started": started,
            "stats": format!("http://127.0.0.1:{}/stats", stack.ports.stats),
        });
        print_line!("{result:#}");
        return;
    }
    if was_running {
        match started.as_slice() {
            [] => print_line!("The stack runs already (stage {}): {url}", stack.settings.stage),
            started => print_line!(
                "The stack ran already (stage {}), {} started now: {url}",
                stack.settings.stage,
                started.join(", ")
            ),
        }
        return;
    }
    if args.only.is_some() {
        print_line!(
            "\nPostgreSQL, etcd and NATS are ready. `mfenv users --secrets` tells a service where; mfup starts the rest."
        );
        return;
    }
    let one = match stack.settings.stage {
        Stage::Services => "users-1",
        Stage::Monolith => "monolith-1",
    };
    print_line!(
        "\nFlack is ready (stage {}). Open it in two browser windows and chat:\n",
        stack.settings.stage
    );
    print_line!("    {url}\n\nWhat to try next:");
    let kill = format!("bin/mfkill {one} --hard");
    let (docs, stats) = (format!("{url}/api/docs"), format!("http://127.0.0.1:{}/stats", stack.ports.stats));
    for (what, why) in [
        ("bin/mfps", "what runs where"),
        ("bin/mflogs -f", "what happens, as it happens"),
        ("bin/mfrun users", "one more instance of users"),
        (kill.as_str(), "kill -9 one, and see it come back"),
        (docs.as_str(), "the API, to read and to try"),
        (stats.as_str(), "the balancer's view"),
        ("bin/mfdown", "stop everything; the data stays"),
    ] {
        if stack.settings.stage == Stage::Services || !what.contains("mfrun") {
            print_line!("    {what:36} {why}");
        }
    }
    if home_is_set() {
        print_line!(
            "\nThis stack is not the default one: the commands need MF_HOME={} too.",
            stack.home.path().display()
        );
    }
}

fn home_is_set() -> bool {
    std::env::var_os("MF_HOME").is_some_and(|home| !home.is_empty())
}

/// Shows the logs until Ctrl-C, which ends the stack, or until somebody else ends it.
async fn stay(stack: &Stack, client: &Client, mut supervisor: Child, progress: &Progress) -> Result<()> {
    print_line!("\nIts logs follow. Ctrl-C stops the stack.\n");
    let all = logs::Filter::default();
    tokio::select! {
        result = logs::follow(&stack.home, &all) => result?,
        _ = supervisor.wait() => {
            print_line!("The stack was stopped.");
            return Ok(());
        }
        () = interrupted() => {}
    }
    progress.say("\nstopping");
    client.shutdown(|ended| progress.say(&format!("{} {}", ended.name, ended.how))).await?;
    let _ = supervisor.wait().await;
    Ok(())
}
