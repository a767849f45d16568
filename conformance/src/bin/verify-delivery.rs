//! Proves, on a running stack, that every acknowledged message reaches every socket once and in order.

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use flack_conformance::{
    client::Client,
    contract::Contract,
    delivery::{Plan, verify},
};

/// Posts messages at a rate, listens on many sockets, and compares afterwards.
///
/// Exit codes: 0 nothing lost, doubled or out of order; 1 something was; 70 the run itself failed.
#[derive(Debug, Parser)]
#[command(
    after_help = "Example, on the stack that bin/mfup started:\n  bin/mfverify --sockets 100 --posters 50 --rate 200 --seconds 60 --kill websocket --kill messages"
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
    /// A process to kill during the run, as for `mfkill --hard`; may be given several times.
    #[arg(long)]
    kill: Vec<String>,
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
        dropping: arguments.dropping,
        faults: arguments.kill,
    };
    let run = async {
        let client = Client::new(&arguments.url, Arc::new(Contract::load()?))?;
        verify(&client, &plan).await
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
