//! The comparison: what was acknowledged against what was told, and what the history says.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use futures::{StreamExt, stream};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{listener::Record, poster::Posted};
use crate::client::{Auth, Client, WAIT};

/// The result of a run. Counts are of pairs of message and socket, but for `posted` and `not_in_history`.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    pub posted: usize,
    /// Messages that had to be sent more than once until they were acknowledged.
    pub retried: usize,
    pub sockets: usize,
    pub delivered: usize,
    pub lost: usize,
    /// Told twice, or stored twice: a message of a poster that nobody was given the id of.
    pub doubled: usize,
    /// Told in another order than to the socket that was told most.
    pub reordered: usize,
    /// Acknowledged, but not to be read afterwards.
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
    /// Everything that was acknowledged arrived, once, in order, and is kept.
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
        let fullest = records.iter().max_by_key(|record| record.told.len());
        let reference = fullest.map(|record| places(record, &sent)).unwrap_or_default();
        for record in records {
            verdict.reconnects += record.reconnects;
            verdict.reloads += record.reloads;
            let mut seen = HashSet::new();
            let mut last_place = None;
            verdict.doubled += record.reloaded.keys().filter(|id| !sent.contains_key(id)).count();
            for (id, at) in &record.told {
                let Some(sent) = sent.get(id).filter(|_| seen.insert(*id)) else {
                    verdict.doubled += 1;
                    continue;
                };
                latencies.push(at.saturating_sub(*sent));
                if let Some(place) = reference.get(id) {
                    if last_place.is_some_and(|last| place < last) {
                        verdict.reordered += 1;
                    }
                    last_place = Some(place);
                }
            }
            verdict.delivered += seen.len();
            verdict.lost += posted
                .iter()
                .filter(|m| !seen.contains(&m.id) && !record.reloaded.contains_key(&m.id))
                .count();
        }
        verdict.latency = Percentiles::of(latencies);
        verdict.acknowledged = Percentiles::of(
            posted.iter().map(|message| message.acknowledged.saturating_sub(message.sent)).collect(),
        );
        verdict
    }

    pub fn to_json(&self) -> Value {
        let percentiles = |p: &Percentiles| json!({ "p50_ms": p.p50, "p99_ms": p.p99, "max_ms": p.max });
        json!({
            "good": self.is_good(), "posted": self.posted, "retried": self.retried, "sockets": self.sockets,
            "delivered": self.delivered, "lost": self.lost, "doubled": self.doubled, "reordered": self.reordered,
            "not_in_history": self.not_in_history, "reconnects": self.reconnects, "reloads": self.reloads,
            "acknowledged": percentiles(&self.acknowledged), "latency": percentiles(&self.latency), "faults": self.faults,
        })
    }
}

fn places(record: &Record, sent: &HashMap<i64, Duration>) -> HashMap<i64, usize> {
    let mut places = HashMap::new();
    for (id, _) in record.told.iter().filter(|(id, _)| sent.contains_key(id)) {
        let next = places.len();
        places.entry(*id).or_insert(next);
    }
    places
}

impl Percentiles {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |permille: usize| {
            let place = (times.len() * permille).div_ceil(1000).saturating_sub(1);
            times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
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
        writeln!(f, "not in the history: {}", self.not_in_history)?;
        writeln!(f, "reconnects {}, of which reloaded {}", self.reconnects, self.reloads)?;
        if !self.faults.is_empty() {
            writeln!(f, "meanwhile: {}", self.faults.join(", "))?;
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
/// How many of the history's reads are under way at once.
const READS_AT_ONCE: usize = 16;

/// Which of the posted messages can be read afterwards, one by one: a list would hold the newest of a day only.
pub async fn history(client: &Client, posted: &[Posted]) -> anyhow::Result<HashSet<i64>> {
    let ids: Vec<i64> = posted.iter().map(|message| message.id).collect();
    let reads = stream::iter(ids).map(|id| async move {
        let request = client.request(reqwest::Method::GET, &format!("/api/messages/{id}"), Auth::None);
        let deadline = Instant::now() + WAIT;
        loop {
            let again = request.try_clone().context("a GET can be sent again")?;
            match client.send_any(again).await {
                Ok(answer) if !answer.status.is_server_error() => {
                    return anyhow::Ok((answer.status == StatusCode::OK).then_some(id));
                }
                // Whoever was killed last may still be away: that is no verdict on the message.
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

    fn told(ids: &[i64]) -> Record {
        Record { told: ids.iter().map(|id| (*id, Duration::from_millis(5))).collect(), ..Record::default() }
    }

    fn verdict(records: &[Record], history: &[i64]) -> Verdict {
        Verdict::of(
            &[posted(1), posted(2), posted(3)],
            records,
            &history.iter().copied().collect(),
            Vec::new(),
        )
    }

    #[test]
    fn everything_told_once_in_order_is_good() {
        let verdict = verdict(&[told(&[1, 2, 3]), told(&[1, 2, 3])], &[1, 2, 3]);
        assert!(verdict.is_good(), "{verdict}");
        assert_eq!(verdict.delivered, 6);
    }

    #[test]
    fn what_one_socket_was_not_told_is_lost() {
        let verdict = verdict(&[told(&[1, 2, 3]), told(&[1, 3])], &[1, 2, 3]);
        assert_eq!((verdict.lost, verdict.is_good()), (1, false));
    }

    #[test]
    fn what_came_twice_is_doubled() {
        let verdict = verdict(&[told(&[1, 2, 3]), told(&[1, 2, 2, 3])], &[1, 2, 3]);
        assert_eq!((verdict.doubled, verdict.reordered, verdict.is_good()), (1, 0, false));
    }

    #[test]
    fn what_was_stored_twice_is_doubled_however_it_was_found() {
        let mut reloaded = told(&[1, 3]);
        reloaded.reloaded.extend([(2, Duration::from_millis(9)), (4, Duration::from_millis(9))]);
        let verdict = verdict(&[told(&[1, 2, 4, 3]), reloaded], &[1, 2, 3]);
        assert_eq!((verdict.doubled, verdict.lost, verdict.delivered), (2, 0, 5));
    }

    #[test]
    fn another_order_than_that_of_others_is_reordered() {
        let verdict = verdict(&[told(&[1, 2, 3]), told(&[1, 3, 2])], &[1, 2, 3]);
        assert_eq!((verdict.reordered, verdict.is_good()), (1, false));
    }

    #[test]
    fn a_socket_that_was_told_little_is_not_what_the_order_goes_by() {
        let verdict = verdict(&[told(&[1]), told(&[1, 2, 3]), told(&[1, 3, 2])], &[1, 2, 3]);
        assert_eq!(verdict.reordered, 1);
    }

    #[test]
    fn what_cannot_be_read_afterwards_is_not_good() {
        let verdict = verdict(&[told(&[1, 2, 3])], &[1, 2]);
        assert_eq!((verdict.not_in_history, verdict.is_good()), (1, false));
    }

    #[test]
    fn what_was_found_by_a_reload_is_not_lost() {
        let mut reloaded = told(&[1, 3]);
        reloaded.reloaded.insert(2, Duration::from_millis(9));
        let verdict = verdict(&[told(&[1, 2, 3]), reloaded], &[1, 2, 3]);
        assert!(verdict.is_good(), "{verdict}");
    }
}
