//! How many deliveries a second one core of the websocket service makes, and how long they take from the stream to a socket.
//!
//! `bin/mfbench fan-out`, or `DATABASE_URL=postgres://... cargo run --release -p flack-websocket --example fan_out`
//!
//! Publisher and clients are in this process, the service is one of its own; they share the machine's cores. What the
//! service's processor time says does not depend on that, the latency does.

#![expect(clippy::cast_precision_loss, reason = "figures for people, far from what f64 holds exactly")]

#[expect(dead_code, reason = "each benchmark uses its part of it")]
#[path = "../support/mod.rs"]
mod support;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use async_nats::{HeaderMap, header::NATS_MESSAGE_ID, jetstream};
use serde_json::json;
use support::{Stack, client::Socket, is_to_serve, process, serve, with_stack};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

const SOCKETS: u64 = 500;
/// Messages a second of each run.
const RATES: [u64; 4] = [25, 50, 100, 200];
const RUN: Duration = Duration::from_secs(8);
/// After a run, for what is still on its way.
const REST_MAX: Duration = Duration::from_secs(10);
/// Latencies are counted in tenths of a millisecond, up to a second.
const BUCKETS: usize = 10_000;
const BUCKET_MICROS: u64 = 100;
/// In each message: when it was sent, in so many digits.
const MARK: &[u8] = b"sent at ";
const DIGITS: usize = 15;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    if is_to_serve() {
        return Ok(serve().await);
    }
    with_stack(measure).await?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(stack: &Stack) -> anyhow::Result<()> {
    let publisher = Publisher::new(&stack.nats_url).await?;
    let seen = Arc::new(Seen::new());
    let mut clients = Vec::new();
    for _ in 0..SOCKETS {
        let socket = Socket::greet(&stack.address, None).await?;
        clients.push(tokio::spawn(listen(socket, Arc::clone(&seen))));
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
        let (service, own) = (stack.service.pid(), std::process::id());
        let (service_before, own_before) = (process::cpu_seconds(service)?, process::cpu_seconds(own)?);
        seen.reset();
        let started = Instant::now();
        let sent = publisher.send(rate, &mut id, seen.began).await?;
        let all = async {
            while seen.count.load(Relaxed) < sent * SOCKETS {
                sleep(Duration::from_millis(10)).await;
            }
        };
        // Those that have not come by then are lost.
        let _ = timeout(REST_MAX, all).await;
        let seconds = started.elapsed().as_secs_f64();
        let delivered = seen.count.load(Relaxed);
        let service_cpu = process::cpu_seconds(service)? - service_before;
        let own_cpu = process::cpu_seconds(own)? - own_before;
        println!(
            "{rate:>10} {:>11.0} {:>6} {:>11.0}% {:>14.0} {:>11.0}% {:>8.1} {:>8.1} {:>8.1}",
            delivered as f64 / seconds,
            sent * SOCKETS - delivered,
            service_cpu / seconds * 100.0,
            delivered as f64 / service_cpu,
            own_cpu / seconds * 100.0,
            seen.quantile_ms(0.5),
            seen.quantile_ms(0.99),
            seen.quantile_ms(1.0),
        );
    }
    for client in clients {
        client.abort();
    }
    Ok(())
}

/// What all clients have got.
struct Seen {
    began: Instant,
    count: AtomicU64,
    buckets: Vec<AtomicU64>,
}

impl Seen {
    fn new() -> Self {
        let buckets = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self { began: Instant::now(), count: AtomicU64::new(0), buckets }
    }

    fn reset(&self) {
        self.count.store(0, Relaxed);
        self.buckets.iter().for_each(|bucket| bucket.store(0, Relaxed));
    }

    fn take(&self, sent_micros: u64) {
        let micros =
            u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_sub(sent_micros);
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

async fn listen(mut socket: Socket, seen: Arc<Seen>) -> anyhow::Result<()> {
    // All messages are alike: found once, it is always there.
    let mut place = None;
    loop {
        let text = socket.next().await?;
        let at = if let Some(at) = place {
            at
        } else {
            let mark = text.windows(MARK.len()).position(|part| part == MARK).context("no mark")?;
            *place.insert(mark + MARK.len())
        };
        let digits = std::str::from_utf8(text.get(at..at + DIGITS).context("too short")?)?;
        seen.take(digits.parse()?);
    }
}

/// Tells of messages as their owner's relay does.
struct Publisher {
    client: async_nats::Client,
}

impl Publisher {
    async fn new(url: &str) -> anyhow::Result<Self> {
        let client = async_nats::connect(url).await?;
        let subjects = vec!["flack.messages.*.>".to_owned()];
        let config =
            jetstream::stream::Config { name: "MESSAGES".to_owned(), subjects, ..Default::default() };
        jetstream::new(client.clone()).create_stream(config).await?;
        Ok(Self { client })
    }

    /// How many it has sent.
    async fn send(&self, rate: u64, id: &mut i64, began: Instant) -> anyhow::Result<u64> {
        let mut ticks = interval(Duration::from_secs(1) / u32::try_from(rate)?);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let count = rate * RUN.as_secs();
        for _ in 0..count {
            ticks.tick().await;
            *id += 1;
            let source = format!(
                "sent at {:0DIGITS$} by a benchmark, with as much to say as people have",
                began.elapsed().as_micros()
            );
            let event = json!({ "id": format!("messages-{id}"), "operation": "insert", "time": chrono::Utc::now(),
                "version": 1, "correlation_id": "bench", "type": "message_changed", "data": { "id": *id, "created_at": 1_795_000_000,
                "updated_at": 1_795_000_000, "user_id": 1, "channel_id": 1, "source": source, "html": format!("<p>{source}</p>") } });
            let mut headers = HeaderMap::new();
            headers.insert(NATS_MESSAGE_ID, format!("messages-{id}"));
            let subject = format!("flack.messages.message_changed.{id}");
            self.client.publish_with_headers(subject, headers, event.to_string().into()).await?;
        }
        Ok(count)
    }
}
