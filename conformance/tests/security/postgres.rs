//! PostgreSQL: it listens on loopback alone, and every connection needs a password.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use flack_catalogue::SERVICES;
use flack_conformance::{
    cases,
    suite::{Case, World},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

pub fn cases() -> Vec<Case> {
    cases![postgresql_refuses_every_user_without_a_password, postgresql_has_no_unix_socket]
}

/// The version of the protocol: 3.0.
const PROTOCOL: i32 = 196_608;
/// The request of the server for a password by SCRAM.
const SASL: i32 = 10;

async fn postgresql_refuses_every_user_without_a_password(World { stack, .. }: World) -> Result<()> {
    let databases = SERVICES.iter().map(|service| service.database);
    let pairs = databases.clone().map(|name| (name, name)).chain(databases.map(|name| ("postgres", name)));
    for (user, database) in pairs.chain([("postgres", "postgres"), ("nobody", "postgres"), ("root", "template1")]) {
        let mut stream = TcpStream::connect(("127.0.0.1", stack.postgres_port())).await?;
        let (kind, code) = first_answer(&mut stream, user, database).await?;
        let needs_password = kind == b'R' && code == SASL;
        ensure!(needs_password || kind == b'E', "{user} of {database} got {} {code}", char::from(kind));
        if !needs_password {
            continue;
        }
        // An answer without the proof of a password.
        stream.write_all(&[b'p', 0, 0, 0, 4]).await?;
        ensure!(stream.read_u8().await? == b'E', "{user} of {database} was accepted without a password");
    }
    Ok(())
}

/// Sends the first message. Returns the kind of the answer, and the code of an answer about authentication.
async fn first_answer(stream: &mut TcpStream, user: &str, database: &str) -> Result<(u8, i32)> {
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    for text in ["user", user, "database", database, ""] {
        body.extend(text.as_bytes());
        body.push(0);
    }
    let length = i32::try_from(body.len() + 4).context("too long")?;
    stream.write_all(&[&length.to_be_bytes()[..], &body].concat()).await?;
    let kind = stream.read_u8().await?;
    let length = stream.read_i32().await?;
    let mut body = vec![0; usize::try_from(length - 4)?];
    stream.read_exact(&mut body).await?;
    let code = body.first_chunk().copied().map_or(0, i32::from_be_bytes);
    Ok((kind, code))
}

async fn postgresql_has_no_unix_socket(World { stack, .. }: World) -> Result<()> {
    let sockets = fs::read_to_string("/proc/net/unix")?;
    let name = format!(".s.PGSQL.{}", stack.postgres_port());
    ensure!(!sockets.contains(&name), "PostgreSQL listens on {name}");
    Ok(())
}
