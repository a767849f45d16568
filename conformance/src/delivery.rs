//! Verification of delivery: posts messages at a rate, receives them on many sockets, and compares afterwards.
//!
//! It uses only its own records: which messages were acknowledged, and what each socket received and when.

mod entry;
mod poster;
mod subscriber;
mod fault;
mod verdict;
mod progress;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use serde::Deserialize;
use tokio::time::sleep;

use crate::{
    client::{Client, Person},
    stack::Operator,
};
pub use fault::Fault;
pub use poster::Over;
pub use progress::Progress;
pub use verdict::Verdict;

use entry::EntryPoint;
use subscriber::Subscriber;

/// The parameters of a run. `mf verify` passes them as JSON.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub posters: u32,
    pub sockets: u32,
    /// Messages per second, of all posters together.
    pub rate: f64,
    #[serde(rename = "seconds", deserialize_with = "seconds")]
    pub time: Duration,
    /// The protocol with which messages are posted.
    pub over: Over,
    /// Connects every second socket directly to the monolith: both shapes must deliver the same.
    pub both_sides: bool,
    /// How many of the sockets repeatedly drop their connection, at random, and resume.
    pub dropping: u32,
    /// Faults during the run, one after the other, evenly over the time.
    pub faults: Vec<Fault>,
}

/// More sockets would exceed the limit of open files before a limit of Flack.
pub const SOCKETS_MAX: u32 = 8_000;
/// More would wait for each other, because password hashing is bounded.
const REGISTRATIONS_AT_ONCE: usize = 4;
/// With the pauses between them, about 15 s.
const REGISTRATION_RETRIES_MAX: u32 = 300;
/// How long, after the last post, a socket may take to receive the remaining messages.
const REMAINING_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the sockets stay open after that: a duplicate may arrive late.
const SETTLE: Duration = Duration::from_secs(1);
/// The interval of checks whether all messages have arrived.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

/// Runs the plan against the stack of `client`, and returns the verdict.
pub async fn verify(client: &Client, operator: &Operator, plan: &Plan) -> Result<Verdict> {
    verify_as(client, operator, plan, "poster", &Progress::default()).await
}

/// The same, with the beginning of the posters' nicknames, and with a report of what it does.
pub async fn verify_as(
    client: &Client,
    operator: &Operator,
    plan: &Plan,
    stem: &str,
    progress: &Progress,
) -> Result<Verdict> {
    ensure!(plan.posters > 0 && plan.sockets > 0 && plan.rate > 0.0, "posters, sockets and rate must be more than 0");
    ensure!(plan.sockets <= SOCKETS_MAX, "at most {SOCKETS_MAX} sockets");
    progress.begin("registering users", plan.posters as usize);
    let authors: Vec<Person> = stream::iter(0..plan.posters)
        .map(|_| register(client, stem, progress))
        .buffer_unordered(REGISTRATIONS_AT_ONCE)
        .try_collect()
        .await
        .context("cannot register the posters")?;
    let posters = Arc::new(authors.iter().map(|author| author.id).collect());
    let ended = Arc::new(AtomicBool::new(false));
    let start = Instant::now();

    progress.begin("connecting sockets", plan.sockets as usize);
    let monolith = EntryPoint::monolith(operator.clone());
    let mut subscribers = Vec::new();
    for number in 0..plan.sockets {
        let entry = if plan.both_sides && number % 2 == 1 { monolith.clone() } else { EntryPoint::Balancer };
        let dropping = number < plan.dropping;
        subscribers.push(
            Subscriber::start(client.clone(), entry, Arc::clone(&posters), start, dropping, Arc::clone(&ended)).await?,
        );
        progress.count();
    }

    progress.begin("posting messages", 0);
    let faults = tokio::spawn(fault::inject(operator.clone(), plan.faults.clone(), plan.time, progress.clone()));
    let interval = Duration::from_secs_f64(f64::from(plan.posters) / plan.rate);
    let posted = try_join_all((0..).zip(authors).map(|(number, author): (u32, _)| {
        // Spread over the interval, so that the rate is even.
        let delay = interval * number / plan.posters;
        let by_socket = plan.over.by_socket(number);
        poster::Poster::new(client.clone(), author, start, by_socket).post(delay, interval, plan.time, progress)
    }))
    .await?;
    let faults = faults.await.context("the faults ended in a panic")??;
    let posted: Vec<_> = posted.into_iter().flatten().collect();

    progress.begin("waiting for sockets to receive the remaining messages", subscribers.len());
    let deadline = Instant::now() + REMAINING_TIMEOUT;
    loop {
        let complete = subscribers.iter().filter(|subscriber| subscriber.has_all(&posted)).count();
        progress.set(complete);
        if complete == subscribers.len() || Instant::now() >= deadline {
            break;
        }
        sleep(POLL_INTERVAL).await;
    }
    sleep(SETTLE).await;
    ended.store(true, Ordering::Relaxed);
    let records: Vec<_> = subscribers.iter().map(Subscriber::record).collect();
    progress.begin("reading messages", posted.len());
    let history = verdict::history(client, &posted, progress).await?;
    Ok(Verdict::of(&posted, &records, &history, faults))
}

/// Registers a poster. Retries, because users answers 503 when too many passwords wait for hashing.
async fn register(client: &Client, stem: &str, progress: &Progress) -> Result<Person> {
    // Attempts and not a deadline, because an attempt may also wait for the limits of its address.
    for _ in 0..REGISTRATION_RETRIES_MAX {
        if let Ok(person) = client.person(stem).await {
            progress.count();
            return Ok(person);
        }
        sleep(POLL_INTERVAL).await;
    }
    client.person(stem).await
}
