use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use flack_testing::eventually;
use reqwest::Method;
use tokio::task::JoinSet;

use super::Stack;

pub const CLIENTS: usize = 8;

/// The requests of a load.
#[derive(Debug, Clone, Copy)]
pub enum Requests {
    Get,
    Post,
    PostWithIdempotencyKey,
}

/// Clients that send requests in a loop, and record failures. Each request has a correlation id of its own.
pub struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts to send `GET`.
    pub fn start(stack: &Stack, path: &str) -> Self {
        Self::start_with(stack, path, Requests::Get)
    }

    pub fn start_with(stack: &Stack, path: &str, kind: Requests) -> Self {
        let (stop, requests, failures) = (Arc::default(), Arc::default(), Arc::default());
        let mut load = Self { stop, requests, failures, clients: JoinSet::new() };
        for client in 0..CLIENTS {
            let (stop, requests, failures) = (load.stop.clone(), load.requests.clone(), load.failures.clone());
            let (http, url) = (stack.http.clone(), format!("{}{path}", stack.public));
            let method = if matches!(kind, Requests::Get) { Method::GET } else { Method::POST };
            load.clients.spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    let id = format!("{kind:?}-{client}-{number}");
                    let mut request = http.request(method.clone(), &url).header("X-Correlation-ID", &id);
                    if matches!(kind, Requests::PostWithIdempotencyKey) {
                        request = request.header("Idempotency-Key", &id);
                    }
                    let failure = match request.send().await {
                        Ok(answer) if answer.status() == 200 => None,
                        Ok(answer) => Some(answer.status().to_string()),
                        Err(error) => Some(format!("{error:?}")),
                    };
                    requests.fetch_add(1, Ordering::Relaxed);
                    failures.lock().expect("no client panicked").extend(failure);
                }
            });
        }
        load
    }

    /// Waits until this many more requests were answered.
    pub async fn more(&self, requests: usize) {
        let goal = self.requests.load(Ordering::Relaxed) + requests;
        eventually("more requests are answered", async || self.requests.load(Ordering::Relaxed) >= goal).await;
    }

    /// Ends the load. Panics when a request has failed.
    pub async fn end_without_failure(self) {
        let (requests, failures) = self.end().await;
        assert!(failures.is_empty(), "{} of {requests} requests failed: {:?}", failures.len(), failures.first());
    }

    /// Ends the load. Returns the number of requests, and the failures.
    pub async fn end(mut self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        let failures = std::mem::take(&mut *self.failures.lock().expect("no client panicked"));
        (self.requests.load(Ordering::Relaxed), failures)
    }
}
