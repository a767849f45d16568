use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use flack_testing::eventually;
use tokio::task::JoinSet;

use super::Stack;

const CLIENTS: usize = 8;

/// Clients that send requests in a loop, and record failures.
pub struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    clients: JoinSet<()>,
}

impl Load {
    pub fn start(stack: &Stack, path: &str) -> Self {
        let (stop, requests, failures) = (Arc::default(), Arc::default(), Arc::default());
        let mut load = Self { stop, requests, failures, clients: JoinSet::new() };
        for _ in 0..CLIENTS {
            let (stop, requests, failures) = (load.stop.clone(), load.requests.clone(), load.failures.clone());
            let (http, url) = (stack.http.clone(), format!("{}{path}", stack.public));
            load.clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let failure = match http.get(&url).send().await {
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
    pub async fn end_without_failure(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        let requests = self.requests.load(Ordering::Relaxed);
        let failures = self.failures.lock().expect("no client panicked");
        assert!(failures.is_empty(), "{} of {requests} requests failed: {:?}", failures.len(), failures.first());
    }
}
