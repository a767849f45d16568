//! Proof of delivery: posts at a rate, listens on many sockets, and compares afterwards what was acknowledged with what
//! each socket was told.
//!
//! It believes only its own records: what it posted and got a 201 for, what each socket received and when.

mod doors;
mod poster;
mod listener;
mod fault;
mod verdict;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use tokio::time::sleep;

use crate::{
    client::{Client, Person, WAIT},
    stack::Operator,
};
pub use fault::Fault;
pub use poster::Over;
pub use verdict::Verdict;

use doors::Door;

/// What to do, and for how long.
#[derive(Debug, Clone)]
pub struct Plan {
    pub posters: u32,
    pub sockets: u32,
    /// Messages a second, of all posters together.
    pub rate: f64,
    pub time: Duration,
    /// What messages are posted over.
    pub over: Over,
    /// Every second socket is connected to the monolith, past the balancer: both sides must tell the same.
    pub both_sides: bool,
    /// How many of the sockets drop their connection again and again, at random, and resume.
    pub dropping: u32,
    /// What happens meanwhile, one after the other, evenly over the time.
    pub faults: Vec<Fault>,
}

/// More sockets than this would meet the limit of open files before they meet a limit of Flack.
pub const SOCKETS_MAX: u32 = 8_000;
/// More would only wait for each other.
const REGISTRATIONS_AT_ONCE: usize = 4;
/// After the last post: how long a socket may take to be told the rest.
const REST_WITHIN: Duration = Duration::from_secs(30);
/// How long the sockets listen on when all is told: what comes twice may come late.
const SETTLE: Duration = Duration::from_secs(1);
/// How often it is looked whether the rest has come.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Runs the plan against the stack behind `client` and gives the verdict.
pub async fn verify(client: &Client, operator: &Operator, plan: &Plan) -> anyhow::Result<Verdict> {
    ensure!(
        plan.posters > 0 && plan.sockets > 0 && plan.rate > 0.0,
        "posters, sockets and rate must be more than 0"
    );
    ensure!(plan.sockets <= SOCKETS_MAX, "at most {SOCKETS_MAX} sockets");
    let authors: Vec<Person> = stream::iter(0..plan.posters)
        .map(|_| register(client))
        .buffer_unordered(REGISTRATIONS_AT_ONCE)
        .try_collect()
        .await
        .context("cannot register the posters")?;
    let posters = Arc::new(authors.iter().map(|author| author.id).collect());
    let ended = Arc::new(AtomicBool::new(false));
    let start = Instant::now();

    let monolith = Door::monolith(operator.clone());
    let mut listeners = Vec::new();
    for number in 0..plan.sockets {
        let door = if plan.both_sides && number % 2 == 1 { monolith.clone() } else { Door::Balancer };
        let dropping = number < plan.dropping;
        listeners.push(
            listener::Listener::start(
                client.clone(),
                door,
                Arc::clone(&posters),
                start,
                dropping,
                Arc::clone(&ended),
            )
            .await?,
        );
    }

    let faults = tokio::spawn(fault::inflict(operator.clone(), plan.faults.clone(), plan.time));
    let interval = Duration::from_secs_f64(f64::from(plan.posters) / plan.rate);
    let posted = try_join_all((0..).zip(authors).map(|(number, author): (u32, _)| {
        // Spread over the interval, so that the rate is even.
        let delay = interval * number / plan.posters;
        let by_socket = plan.over.by_socket(number);
        poster::Poster::new(client.clone(), author, start, by_socket).post(delay, interval, plan.time)
    }))
    .await?;
    let faults = faults.await.context("the faults ended in a panic")??;
    let posted: Vec<_> = posted.into_iter().flatten().collect();

    let deadline = Instant::now() + REST_WITHIN;
    while Instant::now() < deadline && !listeners.iter().all(|listener| listener.has_all(&posted)) {
        sleep(LOOK_INTERVAL).await;
    }
    sleep(SETTLE).await;
    ended.store(true, Ordering::Relaxed);
    let records: Vec<_> = listeners.iter().map(listener::Listener::record).collect();
    let history = verdict::history(client, &posted).await?;
    Ok(Verdict::of(&posted, &records, &history, faults))
}

/// A poster. Passwords are hashed by few at a time, and who comes when too many wait is told to come again.
async fn register(client: &Client) -> anyhow::Result<Person> {
    let deadline = Instant::now() + WAIT;
    loop {
        match client.person("poster").await {
            Err(_) if Instant::now() < deadline => sleep(LOOK_INTERVAL).await,
            result => return result,
        }
    }
}
