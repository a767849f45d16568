//! Proves, on a running stack, that every acknowledged message reaches every socket once and in order.

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use flack_conformance::{
    client::Client,
    contract::Contract,
    delivery::{Fault, Over, Plan, verify},
    stack::Operator,
};

/// Posts messages at a rate, listens on many sockets, and compares afterwards.
///
/// Exit codes: 0 nothing lost, doubled or out of order; 1 something was; 70 the run itself failed.
#[derive(Debug, Parser)]
#[command(
    after_help = "Example, on the stack that bin/mfup started:\n  bin/mfverify delivery --sockets 100 --posters 50 --rate 200 --seconds 60 --kill websocket --kill messages"
)]
struct Arguments {
    /// The public door of the stack.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Sockets that listen.
    #[arg(long, default_value_t = 100)]
    sockets: u32,
    /// Of these, how many drop their connection at random and resume.
    #[arg(long, default_value_t = 0)]
    dropping: u32,
    /// Users that post.
    #[arg(long, default_value_t = 50)]
    posters: u32,
    /// Messages a second, of all posters together.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// What messages are posted over.
    #[arg(long, default_value = "rest", value_parser = ["rest", "websocket", "both"])]
    over: String,
    /// Connect every second socket to the monolith, past the balancer.
    #[arg(long)]
    both_sides: bool,
    /// A process to kill -9 during the run: an instance (users-1), a service (users), nats, etcd, agent, haproxy, postgres, or
    /// `relay`, the instance that publishes what is posted. May be given several times: then one after the other, evenly over
    /// the time.
    #[arg(long)]
    kill: Vec<String>,
    /// A process to stop for 8 s, its connections open: an instance, a service, nats, etcd or `relay`. After those that are killed.
    #[arg(long)]
    freeze: Vec<String>,
    /// An instance that leaves in good order, after one more of its service was started, as in an upgrade: an instance, a service
    /// or `relay`. After those that are killed and frozen.
    #[arg(long)]
    replace: Vec<String>,
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plan = Plan {
        posters: arguments.posters,
        sockets: arguments.sockets,
        rate: arguments.rate,
        time: Duration::from_secs(arguments.seconds),
        over: match arguments.over.as_str() {
            "websocket" => Over::Websocket,
            "both" => Over::Both,
            _ => Over::Rest,
        },
        both_sides: arguments.both_sides,
        dropping: arguments.dropping,
        faults: arguments
            .kill
            .into_iter()
            .map(Fault::Kill)
            .chain(arguments.freeze.into_iter().map(Fault::Freeze))
            .chain(arguments.replace.into_iter().map(Fault::Replace))
            .collect(),
    };
    let run = async {
        let client = Client::new(&arguments.url, Arc::new(Contract::load()?))?;
        verify(&client, &Operator::default(), &plan).await
    };
    match run.await {
        Ok(verdict) => {
            if arguments.json {
                println!("{}", verdict.to_json());
            } else {
                println!("{verdict}");
            }
            if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("the run failed: {error:#}");
            ExitCode::from(70)
        }
    }
}
