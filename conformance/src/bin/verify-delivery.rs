//! Verifies on a running stack that every acknowledged message reaches every socket once and in order.

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use flack_conformance::{
    client::Client,
    contract::Contract,
    delivery::{Fault, Over, Plan, verify},
    stack::Operator,
};

/// Post messages at a rate, receive them on many sockets, and compare both
///
/// Exit codes: 0 if no message was lost, duplicated or out of order; 1 if one was; 70 if the run itself failed.
#[derive(Debug, Parser)]
#[command(
    after_help = "Example, on the stack that bin/mfup started:\n  bin/mfverify delivery --sockets 100 --posters 50 \
                  --rate 200 --seconds 60 --kill websocket --kill messages"
)]
struct Arguments {
    /// Address of the stack's public listener
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Number of sockets that receive messages
    #[arg(long, default_value_t = 100)]
    sockets: u32,
    /// How many of these sockets drop their connection at random and resume
    #[arg(long, default_value_t = 0)]
    dropping: u32,
    /// Number of users that post
    #[arg(long, default_value_t = 50)]
    posters: u32,
    /// Messages per second, of all posters together
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// The protocol with which messages are posted
    #[arg(long, default_value = "rest", value_parser = ["rest", "websocket", "both"])]
    over: String,
    /// Connect every second socket directly to the monolith instead of the balancer
    #[arg(long)]
    both_sides: bool,
    /// Kill a process (kill -9): an instance (users-1), a service (users), nats, etcd, agent, haproxy, postgres, or
    /// `relay`, the instance that publishes the messages. With several faults, they are spread evenly over the run
    #[arg(long)]
    kill: Vec<String>,
    /// Freeze a process for 8 s with its connections open: an instance, a service, nats, etcd or `relay`
    #[arg(long)]
    freeze: Vec<String>,
    /// Replace an instance as in an upgrade (start another, drain the old one): an instance, a service or `relay`
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
