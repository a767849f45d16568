//! PostgreSQL as the first process of a container, with the database of one service.

use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use flack_catalogue::Service;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::server::{Server, Size, access_rules};
use super::{ready, set_up};
use crate::failure::{Failure, Result};
use crate::home::Home;
use crate::ports::Ports;
use crate::secrets::Secrets;
use crate::signals::interrupted;

/// Twelve instances with 8 connections each. One owner's data of a workshop: the system caches the rest.
const SIZE: Size = Size { connections_max: 100, shared_buffers_mb: 8 };
/// Another port than that of the health check, which then fails until the database and its role exist.
const SET_UP_PORT: u16 = 5433;
/// Longer than the recovery of a large journal of changes after a crash should take.
const SET_UP_TIMEOUT: Duration = Duration::from_mins(5);
const READY_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Creates what is missing: the data folder, the database and its role. Then becomes PostgreSQL, and returns only a
/// failure.
pub async fn serve(home: &Home, ports: &Ports, secrets: &Secrets, service: &Service) -> Result<()> {
    let server = Server::find(home)?;
    let data = home.postgres();
    // Only the owner of the database, and the machine of the engine, are in a network with this container. `mf`
    // connects from that machine as the superuser, whose password no other container has.
    let rules = access_rules(std::slice::from_ref(service), "all", "samenet");
    server.create_in(&data, secrets, &rules).await?;

    let mut command = Command::from(server.serve(&data, "127.0.0.1", SET_UP_PORT, SIZE));
    let mut postgres =
        command.env("LC_ALL", "C.UTF-8").kill_on_drop(true).spawn().map_err(|error| cannot_start(&error))?;
    let set_up = tokio::select! {
        result = set_up_database(&mut postgres, ports, secrets, service) => result,
        () = interrupted() => Err(failure!(Interrupted, "interrupted before the database was set up")),
    };
    stop(&mut postgres).await?;
    set_up?;

    // Replaces this process, so that PostgreSQL receives the signals of the container.
    let mut command = server.serve(&data, "*", ports.postgres, SIZE);
    Err(cannot_start(&command.env("LC_ALL", "C.UTF-8").exec()))
}

async fn set_up_database(postgres: &mut Child, ports: &Ports, secrets: &Secrets, service: &Service) -> Result<()> {
    let mut ports = *ports;
    ports.postgres = SET_UP_PORT;
    let began = Instant::now();
    while let Err(error) = ready(&ports, secrets).await {
        if let Ok(Some(status)) = postgres.try_wait() {
            return Err(failure!(Internal, "PostgreSQL ended ({status}); its messages are above"));
        }
        if began.elapsed() > SET_UP_TIMEOUT {
            return Err(failure!(
                Internal,
                "PostgreSQL did not accept its superuser within {} s: {error}",
                SET_UP_TIMEOUT.as_secs()
            ));
        }
        tokio::time::sleep(READY_POLL_INTERVAL).await;
    }
    set_up(&ports, secrets, std::slice::from_ref(service))
        .await
        .map_err(|error| failure!(Internal, "the database {} cannot be created: {error}", service.database))
}

/// Stops PostgreSQL with its fast shutdown.
async fn stop(postgres: &mut Child) -> Result<()> {
    if let Some(pid) = postgres.id().and_then(|pid| pid.try_into().ok()) {
        // Fails only if it has ended already.
        let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
    }
    postgres.wait().await.map(drop).map_err(|error| cannot_start(&error))
}

fn cannot_start(error: &std::io::Error) -> Failure {
    failure!(Internal, "postgres cannot be run: {error}")
}
