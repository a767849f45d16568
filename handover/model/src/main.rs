//! Shows the model in a browser: every state, the actions that are possible in it, and what they lead to.

use std::{net::TcpListener, process::ExitCode};

use flack_handover_model::{Bounds, Handover};
use stateright::Model as _;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    // The explorer cannot report the port that it gets, so one is chosen before.
    let listening = TcpListener::bind(&address).and_then(|listener| listener.local_addr());
    let address = match listening {
        Ok(address) => address,
        Err(error) => {
            eprintln!("flack-handover-model: cannot listen on {address}: {error}; name another address");
            return ExitCode::FAILURE;
        }
    };
    println!("The model of the hand-over: http://{address}/ (Ctrl-C ends it)");
    Handover { bounds: Bounds { writes: 2, steps: 4, faults: 1 }, mutant: None }.checker().serve(address);
    ExitCode::SUCCESS
}
