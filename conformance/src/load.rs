//! A load of requests from a few tasks, until it is dropped.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use crate::client::{Auth, Client, Person, wait_for};

/// A running load.
#[derive(Debug)]
pub struct Load {
    answered: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
}

/// How many requests are sent concurrently by default.
const TASKS: usize = 4;
/// How many more answers [`Load::continues`] waits for.
const ANSWERS: usize = 200;
/// The load ends after this time, also when its case hangs.
const TIME_MAX: Duration = Duration::from_hours(1);
/// The reads of a mixed load, besides those of new messages. Together they reach all services except websocket.
const READS: [&str; 2] = ["/api/users?online=1", "/"];
/// A client reads what has changed since its last read.
const READ_INTERVAL: Duration = Duration::from_secs(2);
/// One of so many requests of a mixed load posts a message, and one issues a token.
const REQUESTS_PER_POST: usize = 6;
const REQUESTS_PER_TOKEN: usize = 12;

impl Load {
    /// Sends GET requests for one path.
    pub fn get(client: &Client, path: &'static str) -> Self {
        Self::start(client, TASKS, move |client, _| async move {
            client.get(path, Auth::None, StatusCode::OK).await.map(drop)
        })
    }

    /// Sends reads, messages and sign-ins. All of them may be repeated by the balancer: a message has a key. Each task
    /// pauses before a request; without a pause, the load takes all that the machine has.
    pub fn mixed(client: &Client, tasks: usize, author: &Person, pause: Duration) -> Self {
        let author = author.clone();
        Self::start(client, tasks, move |client, number| {
            let author = author.clone();
            async move {
                sleep(pause).await;
                if number % REQUESTS_PER_TOKEN == 0 {
                    return client.token(&author.nickname, &author.password).await.map(drop);
                }
                if number % REQUESTS_PER_POST != 0 {
                    let path =
                        READS.get(number % (READS.len() + 1)).map_or_else(new_messages, |path| (*path).to_owned());
                    return client.get(&path, Auth::None, StatusCode::OK).await.map(drop);
                }
                let request = client
                    .request(Method::POST, "/api/messages", Auth::Token(&author.token))
                    .header("Idempotency-Key", Uuid::new_v4().to_string())
                    .json(&json!({ "source": format!("load {number}") }));
                client.send(request, StatusCode::CREATED).await.map(drop)
            }
        })
    }

    /// Calls `send` from each task again and again, with the number of the request.
    pub fn start<F>(client: &Client, tasks: usize, send: impl Fn(Client, usize) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = Result<()>> + Send,
    {
        let load = Self { answered: Arc::default(), failures: Arc::default(), ended: Arc::default() };
        let (start, number) = (Instant::now(), Arc::new(AtomicUsize::new(1)));
        for _ in 0..tasks {
            let (client, answered, number) = (client.clone(), Arc::clone(&load.answered), Arc::clone(&number));
            let (failures, ended, send) = (Arc::clone(&load.failures), Arc::clone(&load.ended), send.clone());
            tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) && start.elapsed() < TIME_MAX {
                    let began = Instant::now();
                    match send(client.clone(), number.fetch_add(1, Ordering::Relaxed)).await {
                        Ok(()) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => {
                            let failure = format!("{error:#} (after {} ms)", began.elapsed().as_millis());
                            failures.lock().expect("no panic under the lock").push(failure);
                        }
                    }
                }
            });
        }
        load
    }

    pub async fn warmed_up(&self) -> Result<()> {
        self.continues().await
    }

    /// Waits for [`ANSWERS`] more answers.
    pub async fn continues(&self) -> Result<()> {
        let goal = self.answered.load(Ordering::Relaxed) + ANSWERS;
        wait_for("more answers", || async { Ok((self.answered.load(Ordering::Relaxed) >= goal).then_some(())) })
            .await?;
        Ok(())
    }

    /// Returns how many requests were answered as expected.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Returns how many requests failed.
    pub fn failed(&self) -> usize {
        self.failures.lock().expect("no panic under the lock").len()
    }

    pub fn end_without_failure(self) -> Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        let failures = self.failures.lock().expect("no panic under the lock");
        let answered = self.answered.load(Ordering::Relaxed);
        ensure!(failures.is_empty(), "{} of {answered} failed, the first: {}", failures.len(), failures[0]);
        Ok(())
    }
}

fn new_messages() -> String {
    let since = (SystemTime::now() - READ_INTERVAL).duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    format!("/api/messages?updated_since={since}")
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
