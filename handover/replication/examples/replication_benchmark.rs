//! Measures the replication of messages between two databases of one server: rows copied per second, lag at a steady
//! rate of writes, and what a write costs while the part is followed.
//!
//! `DATABASE_URL` names a server where databases may be created. Arguments: messages (1,000,000), seconds of writes
//! (20).

#[path = "../tests/replication/pair.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod pair;

use std::time::Duration;

use flack_handover::{Part, Side};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::pair::{Pair, client, scalar};

const WRITES_PER_SECOND: u32 = 200;
/// Writes of one measurement of the cost.
const COST_WRITES: u32 = 2_000;
const COST_ROUNDS: u32 = 3;
/// A copy that takes longer is no result.
const COPY_TIME_MAX: Duration = Duration::from_hours(1);
const COPY_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How often the replica is asked for a row.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
const INSERT: &str = "insert into messages (user_id, channel_id, source, html)
    values (1, 1, repeat('a message ', 20), repeat('<p>a message</p> ', 20)) returning id";

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let messages: u64 = arguments.next().map_or(1_000_000, |text| text.parse().expect("a number of messages"));
    let seconds: u32 = arguments.next().map_or(20, |text| text.parse().expect("seconds"));
    let pool = new_database().await;
    let pair = Pair::start(&pool, Part::Messages).await;
    fill(&pool, messages).await;

    let alone = cost(&pool).await;
    let record = pair.begin_to_follow().await;
    let started = Instant::now();
    let mut throttled = None;
    while !pair.is_copied().await {
        assert!(started.elapsed() < COPY_TIME_MAX, "the copy has not ended after {COPY_TIME_MAX:?}: {throttled:?}");
        let following = pair.following(Side::Service).await;
        throttled = following.and_then(|following| following.throttled).or(throttled);
        sleep(COPY_POLL_INTERVAL).await;
    }
    let copied = started.elapsed();
    let rows = scalar::<i64>(&pair.service, "select count(*) from messages").await;
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = rows as f64 / copied.as_secs_f64();
    println!("copied {rows} messages in {:.1} s: {rate:.0} rows/s (goal: 100000)", copied.as_secs_f64());
    if let Some(reason) = throttled {
        println!("throttled: {reason}");
    }
    let followed = cost(&pool).await;
    println!(
        "a write costs {:.0} us alone, {:.0} us while followed: ratio {:.2} (goal: 1.3)",
        alone * 1e6,
        followed * 1e6,
        followed / alone
    );
    let mut lags = lags(&pair, seconds).await;
    lags.sort();
    let at = |percent: usize| lags[(lags.len() * percent / 100).min(lags.len() - 1)].as_secs_f64() * 1e3;
    println!(
        "lag at {WRITES_PER_SECOND} writes/s: p50 {:.1} ms, p99 {:.1} ms (goal: 50), largest {:.1} ms",
        at(50),
        at(99),
        at(100)
    );
    let started = Instant::now();
    let verification = pair.verify(Side::Service).await;
    println!(
        "compared {} rows in {:.1} s: {} different",
        verification.rows_compared,
        started.elapsed().as_secs_f64(),
        verification.rows_different
    );
    drop((record, client()));
    pair.end().await;
}

async fn new_database() -> PgPool {
    #[expect(clippy::disallowed_methods, reason = "an example without a configuration")]
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL");
    let options: PgConnectOptions = url.parse().expect("a database URL");
    let name = "flack_replication_benchmark";
    let mut server = PgConnection::connect_with(&options).await.expect("the server");
    for statement in [format!("drop database if exists {name} with (force)"), format!("create database {name}")] {
        sqlx::query(AssertSqlSafe(statement.clone())).execute(&mut server).await.expect(&statement);
    }
    PgPool::connect_with(options.database(name)).await.expect("the database")
}

/// Inserts messages without triggers: they are only the data before the hand-over.
async fn fill(pool: &PgPool, messages: u64) {
    let mut transaction = pool.begin().await.expect("a transaction");
    let insert = format!(
        "insert into messages (user_id, channel_id, source, html)
         select 1, 1, repeat('a message ', 20) || number, repeat('<p>a message</p> ', 20) || number
         from generate_series(1, {messages}) as number"
    );
    for statement in [
        "set local statement_timeout = 0",
        "insert into users (nickname, password_hash) values ('ada', 'x')",
        "set local session_replication_role = replica",
        insert.as_str(),
    ] {
        sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut *transaction).await.expect(statement);
    }
    transaction.commit().await.expect("it commits");
    sqlx::query("vacuum analyze messages").execute(pool).await.expect("statistics");
}

/// Returns the seconds of one insert: the best of some rounds, with one connection and a commit for each.
async fn cost(pool: &PgPool) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..COST_ROUNDS {
        let mut connection = pool.acquire().await.expect("a connection");
        let started = Instant::now();
        for _ in 0..COST_WRITES {
            sqlx::query(INSERT).execute(&mut *connection).await.expect("a message");
        }
        best = best.min(started.elapsed().as_secs_f64() / f64::from(COST_WRITES));
    }
    best
}

/// Writes at a steady rate. Returns the times from the commits of some writes to their arrival.
async fn lags(pair: &Pair, seconds: u32) -> Vec<Duration> {
    let mut ticks = interval(Duration::from_secs(1) / WRITES_PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut arrivals = Vec::new();
    for _ in 0..WRITES_PER_SECOND * seconds {
        ticks.tick().await;
        let id: i64 = sqlx::query_scalar(INSERT).fetch_one(&pair.monolith).await.expect("a message");
        let (committed, service) = (Instant::now(), pair.service.clone());
        // Not each: the polls would be most of the load.
        if id % 10 == 0 {
            arrivals.push(tokio::spawn(async move {
                let found = "select exists (select from messages where id = $1)";
                while !sqlx::query_scalar::<_, bool>(found).bind(id).fetch_one(&service).await.expect("an answer") {
                    sleep(POLL_INTERVAL).await;
                }
                committed.elapsed()
            }));
        }
    }
    let mut lags = Vec::with_capacity(arrivals.len());
    for arrival in arrivals {
        lags.push(arrival.await.expect("it arrives"));
    }
    lags
}
