//! Measures how many frames per second one core of the websocket service delivers, and the latency from the stream to a
//! client.
//!
//! Publisher and clients are in this process; the service is another process on the same cores. The latency depends on
//! that, the service's CPU time does not.

#![expect(clippy::cast_precision_loss, reason = "printed figures, far below the limit of exact integers in f64")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use async_nats::{HeaderMap, header::NATS_MESSAGE_ID};
use flack_common::events::prepare_stream;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::{client::Socket, process, stack::Stack};

const SOCKETS: u64 = 500;
/// Messages per second, one run each.
const RATES: [u64; 4] = [25, 50, 100, 200];
const RUN: Duration = Duration::from_secs(8);
/// After a run, for frames in flight.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// A histogram of latencies: 100 microseconds per bucket, up to a second.
const BUCKETS: usize = 10_000;
const BUCKET_MICROS: u64 = 100;
/// In each message, followed by the time at which it was sent.
const MARK: &[u8] = b"sent at ";
const DIGITS: usize = 15;

pub async fn measure(stack: &Stack) -> anyhow::Result<()> {
    let publisher = Publisher::new(&stack.nats.url()).await?;
    let received = Arc::new(Received::new());
    let mut clients = Vec::new();
    for _ in 0..SOCKETS {
        let socket = Socket::hello(&stack.address, None).await?;
        clients.push(tokio::spawn(listen(socket, Arc::clone(&received))));
    }
    println!("{}", process::machine());
    println!("{SOCKETS} sockets, {} s each", RUN.as_secs());
    println!(
        "{:>10} {:>11} {:>6} {:>12} {:>14} {:>12} {:>8} {:>8} {:>8}",
        "messages/s",
        "delivered/s",
        "lost",
        "service CPU",
        "per core and s",
        "clients CPU",
        "p50 ms",
        "p99 ms",
        "max ms"
    );
    let mut id = 1_000_000;
    for rate in RATES {
        let (service_pid, own_pid) = (stack.service_pid(), std::process::id());
        let (service_before, own_before) = (process::cpu_seconds(service_pid)?, process::cpu_seconds(own_pid)?);
        received.reset();
        let started = Instant::now();
        let sent = publisher.send(rate, &mut id, received.began).await?;
        let all = async {
            while received.count.load(Relaxed) < sent * SOCKETS {
                sleep(Duration::from_millis(10)).await;
            }
        };
        // Frames that have not arrived by then count as lost.
        let _ = timeout(DRAIN_MAX, all).await;
        let seconds = started.elapsed().as_secs_f64();
        let delivered = received.count.load(Relaxed);
        let service_cpu = process::cpu_seconds(service_pid)? - service_before;
        let own_cpu = process::cpu_seconds(own_pid)? - own_before;
        println!(
            "{rate:>10} {:>11.0} {:>6} {:>11.0}% {:>14.0} {:>11.0}% {:>8.1} {:>8.1} {:>8.1}",
            delivered as f64 / seconds,
            sent * SOCKETS - delivered,
            service_cpu / seconds * 100.0,
            delivered as f64 / service_cpu,
            own_cpu / seconds * 100.0,
            received.quantile_ms(0.5),
            received.quantile_ms(0.99),
            received.quantile_ms(1.0),
        );
    }
    for client in clients {
        client.abort();
    }
    Ok(())
}

/// The frames that all clients have received.
struct Received {
    began: Instant,
    count: AtomicU64,
    buckets: Vec<AtomicU64>,
}

impl Received {
    fn new() -> Self {
        let buckets = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self { began: Instant::now(), count: AtomicU64::new(0), buckets }
    }

    fn reset(&self) {
        self.count.store(0, Relaxed);
        self.buckets.iter().for_each(|bucket| bucket.store(0, Relaxed));
    }

    /// Counts a frame and its latency.
    fn record(&self, sent_micros: u64) {
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_sub(sent_micros);
        let bucket = usize::try_from(micros / BUCKET_MICROS).unwrap_or(usize::MAX).min(BUCKETS - 1);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = self.count.load(Relaxed) as f64 * share;
        let mut count = 0;
        let bucket = self.buckets.iter().position(|bucket| {
            count += bucket.load(Relaxed);
            count as f64 >= wanted
        });
        (bucket.unwrap_or(BUCKETS) + 1) as f64 * BUCKET_MICROS as f64 / 1000.0
    }
}

async fn listen(mut socket: Socket, received: Arc<Received>) -> anyhow::Result<()> {
    // The time is at the same offset in every message.
    let mut offset = None;
    loop {
        let text = socket.next().await?;
        let at = if let Some(at) = offset {
            at
        } else {
            let mark = text.windows(MARK.len()).position(|part| part == MARK).context("no mark")?;
            *offset.insert(mark + MARK.len())
        };
        let digits = std::str::from_utf8(text.get(at..at + DIGITS).context("too short")?)?;
        received.record(digits.parse()?);
    }
}

/// Publishes messages as the relay of their owner does.
struct Publisher {
    client: async_nats::Client,
}

impl Publisher {
    async fn new(url: &str) -> anyhow::Result<Self> {
        let client = async_nats::connect(url).await?;
        prepare_stream(&client, "messages", 1).await?;
        Ok(Self { client })
    }

    /// Publishes at `rate` for the length of a run; returns how many.
    async fn send(&self, rate: u64, id: &mut i64, began: Instant) -> anyhow::Result<u64> {
        let mut ticks = interval(Duration::from_secs(1) / u32::try_from(rate)?);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let count = rate * RUN.as_secs();
        for _ in 0..count {
            ticks.tick().await;
            *id += 1;
            let source = format!(
                "sent at {:0DIGITS$} by a benchmark, as long as usual messages in a chat",
                began.elapsed().as_micros()
            );
            let message = json!({ "id": *id, "created_at": 1_795_000_000, "updated_at": 1_795_000_000, "user_id": 1,
                "channel_id": 1, "source": source, "html": format!("<p>{source}</p>") });
            let event = json!({ "id": format!("messages-{id}"), "operation": "insert", "time": chrono::Utc::now(),
                "version": 1, "correlation_id": "bench", "type": "message_changed", "data": message });
            let mut headers = HeaderMap::new();
            headers.insert(NATS_MESSAGE_ID, format!("messages-{id}"));
            let subject = format!("flack.messages.message_changed.{id}");
            self.client.publish_with_headers(subject, headers, event.to_string().into()).await?;
        }
        Ok(count)
    }
}
