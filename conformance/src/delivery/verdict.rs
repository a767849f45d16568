//! The comparison of acknowledged messages with those that sockets received, and with those that can be read
//! afterwards.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use futures::{StreamExt, stream};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Progress, poster::Posted, subscriber::Record};
use crate::client::{Auth, Client, WAIT};

/// The result of a run. It counts pairs of message and socket, except `posted`, `retried` and `not_in_history`.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    pub posted: usize,
    /// Messages that were sent more than once before they were acknowledged.
    pub retried: usize,
    pub sockets: usize,
    pub delivered: usize,
    pub lost: usize,
    /// Received twice, or stored twice: a poster's message whose id was not acknowledged.
    pub doubled: usize,
    /// Received in another order than by the socket that received most.
    pub reordered: usize,
    /// Acknowledged, but not readable afterwards.
    pub not_in_history: usize,
    pub reconnects: u32,
    /// Reconnects that the server could not resume.
    pub reloads: u32,
    /// From the first send to the answer.
    pub acknowledged: Percentiles,
    /// From the first send to a socket.
    pub latency: Percentiles,
    pub faults: Vec<String>,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Percentiles {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Verdict {
    /// Whether every acknowledged message arrived once, in order, and can be read.
    pub fn is_good(&self) -> bool {
        self.lost + self.doubled + self.reordered + self.not_in_history == 0
    }

    pub fn of(posted: &[Posted], records: &[Record], history: &HashSet<i64>, faults: Vec<String>) -> Self {
        let sent: HashMap<i64, Duration> = posted.iter().map(|message| (message.id, message.sent)).collect();
        let mut verdict = Self {
            posted: posted.len(),
            retried: posted.iter().filter(|message| message.attempts > 1).count(),
            sockets: records.len(),
            not_in_history: posted.iter().filter(|message| !history.contains(&message.id)).count(),
            faults,
            ..Self::default()
        };
        let mut latencies = Vec::new();
        let fullest = records.iter().max_by_key(|record| record.received.len());
        let reference = fullest.map(|record| positions(record, &sent)).unwrap_or_default();
        for record in records {
            verdict.reconnects += record.reconnects;
            verdict.reloads += record.reloads;
            let mut seen = HashSet::new();
            let mut last_position = None;
            verdict.doubled += record.reloaded.keys().filter(|id| !sent.contains_key(id)).count();
            for (id, at) in &record.received {
                let Some(sent) = sent.get(id).filter(|_| seen.insert(*id)) else {
                    verdict.doubled += 1;
                    continue;
                };
                latencies.push(at.saturating_sub(*sent));
                if let Some(position) = reference.get(id) {
                    if last_position.is_some_and(|last| position < last) {
                        verdict.reordered += 1;
                    }
                    last_position = Some(position);
                }
            }
            verdict.delivered += seen.len();
            verdict.lost +=
                posted.iter().filter(|m| !seen.contains(&m.id) && !record.reloaded.contains_key(&m.id)).count();
        }
        verdict.latency = Percentiles::of(latencies);
        verdict.acknowledged =
            Percentiles::of(posted.iter().map(|message| message.acknowledged.saturating_sub(message.sent)).collect());
        verdict
    }

    pub fn to_json(&self) -> Value {
        let percentiles = |p: &Percentiles| json!({ "p50_ms": p.p50, "p99_ms": p.p99, "max_ms": p.max });
        json!({
            "good": self.is_good(), "posted": self.posted, "retried": self.retried, "sockets": self.sockets,
            "delivered": self.delivered, "lost": self.lost, "doubled": self.doubled, "reordered": self.reordered,
            "not_in_history": self.not_in_history, "reconnects": self.reconnects, "reloads": self.reloads,
            "acknowledged": percentiles(&self.acknowledged), "latency": percentiles(&self.latency),
            "faults": self.faults,
        })
    }
}

fn positions(record: &Record, sent: &HashMap<i64, Duration>) -> HashMap<i64, usize> {
    let mut positions = HashMap::new();
    for (id, _) in record.received.iter().filter(|(id, _)| sent.contains_key(id)) {
        let next = positions.len();
        positions.entry(*id).or_insert(next);
    }
    positions
}

impl Percentiles {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |permille: usize| {
            let index = (times.len() * permille).div_ceil(1000).saturating_sub(1);
            times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        };
        Self { p50: at(500), p99: at(990), max: at(1000) }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} messages acknowledged ({} after a retry), {} sockets",
            self.posted, self.retried, self.sockets
        )?;
        writeln!(
            f,
            "delivered {}, lost {}, doubled {}, reordered {}",
            self.delivered, self.lost, self.doubled, self.reordered
        )?;
        writeln!(f, "not readable afterwards: {}", self.not_in_history)?;
        writeln!(f, "reconnects {}, of which reloaded {}", self.reconnects, self.reloads)?;
        if !self.faults.is_empty() {
            writeln!(f, "faults: {}", self.faults.join(", "))?;
        }
        writeln!(f, "acknowledged after p50 {}", self.acknowledged)?;
        write!(f, "delivered    after p50 {}", self.latency)
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms, p99 {:.1} ms, max {:.1} ms", self.p50, self.p99, self.max)
    }
}

const READ_PAUSE: Duration = Duration::from_millis(100);
/// How many messages are read concurrently.
const READS_AT_ONCE: usize = 16;

/// Returns the posted messages that can be read afterwards. Reads them one by one, because a list is bounded.
pub async fn history(client: &Client, posted: &[Posted], progress: &Progress) -> Result<HashSet<i64>> {
    let ids: Vec<i64> = posted.iter().map(|message| message.id).collect();
    let reads = stream::iter(ids).map(|id| async move {
        let request = client.request(reqwest::Method::GET, &format!("/api/messages/{id}"), Auth::None);
        let deadline = Instant::now() + WAIT;
        loop {
            let again = request.try_clone().context("a GET can be sent again")?;
            match client.send_any(again).await {
                Ok(answer) if !answer.status.is_server_error() => {
                    progress.count();
                    return anyhow::Ok((answer.status == StatusCode::OK).then_some(id));
                }
                // The last killed process may still be starting; this does not count as a missing message.
                _ if Instant::now() < deadline => sleep(READ_PAUSE).await,
                result => return Err(anyhow!("message {id} cannot be read: {result:?}")),
            }
        }
    });
    let found: Vec<_> = reads.buffer_unordered(READS_AT_ONCE).collect().await;
    found.into_iter().filter_map(Result::transpose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(id: i64) -> Posted {
        Posted { id, sent: Duration::ZERO, acknowledged: Duration::from_millis(1), attempts: 1 }
    }

    fn received(ids: &[i64]) -> Record {
        Record { received: ids.iter().map(|id| (*id, Duration::from_millis(5))).collect(), ..Record::default() }
    }

    fn verdict(records: &[Record], history: &[i64]) -> Verdict {
        Verdict::of(&[posted(1), posted(2), posted(3)], records, &history.iter().copied().collect(), Vec::new())
    }

    #[test]
    fn messages_received_once_and_in_order_are_good() {
        let verdict = verdict(&[received(&[1, 2, 3]), received(&[1, 2, 3])], &[1, 2, 3]);
        assert!(verdict.is_good(), "{verdict}");
        assert_eq!(verdict.delivered, 6);
    }

    #[test]
    fn a_message_that_one_socket_did_not_receive_is_lost() {
        let verdict = verdict(&[received(&[1, 2, 3]), received(&[1, 3])], &[1, 2, 3]);
        assert_eq!((verdict.lost, verdict.is_good()), (1, false));
    }

    #[test]
    fn a_message_that_was_received_twice_is_doubled() {
        let verdict = verdict(&[received(&[1, 2, 3]), received(&[1, 2, 2, 3])], &[1, 2, 3]);
        assert_eq!((verdict.doubled, verdict.reordered, verdict.is_good()), (1, 0, false));
    }

    #[test]
    fn a_message_that_was_stored_twice_is_doubled_whether_received_or_reloaded() {
        let mut reloaded = received(&[1, 3]);
        reloaded.reloaded.extend([(2, Duration::from_millis(9)), (4, Duration::from_millis(9))]);
        let verdict = verdict(&[received(&[1, 2, 4, 3]), reloaded], &[1, 2, 3]);
        assert_eq!((verdict.doubled, verdict.lost, verdict.delivered), (2, 0, 5));
    }

    #[test]
    fn a_message_in_another_order_than_on_other_sockets_is_reordered() {
        let verdict = verdict(&[received(&[1, 2, 3]), received(&[1, 3, 2])], &[1, 2, 3]);
        assert_eq!((verdict.reordered, verdict.is_good()), (1, false));
    }

    #[test]
    fn the_socket_that_received_most_defines_the_order() {
        let verdict = verdict(&[received(&[1]), received(&[1, 2, 3]), received(&[1, 3, 2])], &[1, 2, 3]);
        assert_eq!(verdict.reordered, 1);
    }

    #[test]
    fn a_message_that_cannot_be_read_afterwards_is_not_good() {
        let verdict = verdict(&[received(&[1, 2, 3])], &[1, 2]);
        assert_eq!((verdict.not_in_history, verdict.is_good()), (1, false));
    }

    #[test]
    fn a_message_that_a_reload_found_is_not_lost() {
        let mut reloaded = received(&[1, 3]);
        reloaded.reloaded.insert(2, Duration::from_millis(9));
        let verdict = verdict(&[received(&[1, 2, 3]), reloaded], &[1, 2, 3]);
        assert!(verdict.is_good(), "{verdict}");
    }
}
