//! Measures the memory of an idle connection in the websocket service.

use std::time::Duration;

use anyhow::ensure;
use secrecy::ExposeSecret;
use tokio::{task::JoinHandle, time::sleep};

use crate::{client::Socket, process, stack::Stack};

const SOCKETS: u32 = 5_000;
const SOCKETS_PER_USER: u32 = 10;
/// For the allocator and the kernel to release memory.
const SETTLE: Duration = Duration::from_secs(2);
const GOAL_KIB: f64 = 10.0;

pub async fn measure(stack: &Stack) -> anyhow::Result<()> {
    let pid = stack.service_pid();
    println!("{}", process::machine());
    println!("{:<34} {:>12} {:>16}", "sockets", "memory KiB", "KiB per socket");
    sleep(SETTLE).await;
    let before = process::memory_kib(pid)?;
    println!("{:<34} {before:>12.0}", "none");

    for (what, signed_in) in [("without a token", false), ("signed in", true)] {
        let from = process::memory_kib(pid)?;
        let mut sockets = Vec::new();
        for number in 0..SOCKETS {
            let token = signed_in.then(|| stack.token(i64::from(number / SOCKETS_PER_USER) + 1));
            let token = token.as_ref().map(ExposeSecret::expose_secret);
            let mut socket = Socket::hello(&stack.address, token).await?;
            // Answers pings, and ends when the service closes.
            sockets.push(tokio::spawn(async move { while socket.next().await.is_ok() {} }));
        }
        sleep(SETTLE).await;
        let after = process::memory_kib(pid)?;
        let ended = sockets.iter().filter(|socket| socket.is_finished()).count();
        ensure!(ended == 0, "{ended} of {SOCKETS} sockets were closed by the service");
        // Memory of earlier connections is used again, so the difference is to the start.
        let each = (after - before) / f64::from(SOCKETS);
        let note = if each < GOAL_KIB { "" } else { "  above the goal of 10" };
        println!("{:<34} {after:>12.0} {each:>16.2}{note}", format!("{SOCKETS}, {what}"));
        sockets.iter().for_each(JoinHandle::abort);
        sleep(SETTLE).await;
        let left = process::memory_kib(pid)?;
        println!("{:<34} {left:>12.0} {:>16}", "all closed", format!("({:+.0} KiB)", left - from));
    }
    Ok(())
}
