//! Measures searches over many messages, from the parsed query to the excerpts, one after the other.
//!
//! `DATABASE_URL` names a server where databases may be created. Arguments: messages (1,000,000), searches of each kind
//! (500).
//!
//! The words are distributed as in a language: word n of 20,000 is n times as rare as the first one, which is in half
//! of the messages.

use std::time::{Duration, Instant};

use flack_common::database;
use flack_search::{MIGRATIONS, cursor::Cursor, query::Query, store::Store};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, postgres::PgConnectOptions};

const READER: i64 = 1;
const PAGE: i32 = 21;

/// Each with two random words and two random users.
const KINDS: [(&str, &str); 8] = [
    ("one word", "W"),
    ("two words", "W V"),
    ("one of two words", "W or V"),
    ("a phrase", "\"W V\""),
    ("a word without another", "W -V"),
    ("a word of an author", "W from:U"),
    ("a word in a channel and a month", "W in:channel-C after:2026-07-31 before:2026-09-01"),
    ("the messages of an author", "from:U"),
];

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let messages: i64 = arguments.next().map_or(1_000_000, |text| text.parse().expect("a number of messages"));
    let searches: usize = arguments.next().map_or(500, |text| text.parse().expect("a number of searches"));
    let pool = new_database().await;
    database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
    fill(&pool, messages).await;
    let store = Store::new(pool.clone());
    let mut all = Vec::new();
    for (kind, template) in KINDS {
        let mut times = Vec::with_capacity(searches);
        let mut found = 0;
        for _ in 0..searches {
            let query = Query::parse(&filled(&pool, template).await).expect("a query");
            let started = Instant::now();
            let scope = store.scope(READER, &query, i64::MAX).await.expect("a scope");
            found += store.search(&scope, &query, None::<Cursor>, PAGE).await.expect("matches").len();
            times.push(started.elapsed());
        }
        all.extend_from_slice(&times);
        report(kind, times);
        assert!(found > 0, "{kind} has found nothing");
    }
    report("all", all);
}

fn report(kind: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    println!("{kind}: p50 {:.1} ms, p99 {:.1} ms (goal: 50), largest {:.1} ms", at(50), at(99), at(100));
}

/// Replaces the letters of a template by random words, a user and a channel.
async fn filled(pool: &PgPool, template: &str) -> String {
    let (first, second, user, channel): (String, String, String, String) = sqlx::query_as(
        "select 'word' || floor(20000 ^ random()), 'word' || floor(20000 ^ random()),
             'user' || 1 + floor(random() * 200), 1 + floor(random() * 20) || ''",
    )
    .fetch_one(pool)
    .await
    .expect("words");
    let words = template.replace('W', &first).replace('V', &second);
    words.replace('U', &user).replace("-C", &format!("-{channel}"))
}

async fn new_database() -> PgPool {
    #[expect(clippy::disallowed_methods, reason = "an example without a configuration")]
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL");
    let options: PgConnectOptions = url.parse().expect("a database URL");
    let name = "flack_search_benchmark";
    let mut server = PgConnection::connect_with(&options).await.expect("the server");
    for statement in [format!("drop database if exists {name} with (force)"), format!("create database {name}")] {
        sqlx::query(AssertSqlSafe(statement.clone())).execute(&mut server).await.expect(&statement);
    }
    // As the service does (`common/src/database.rs`).
    PgPool::connect_with(options.database(name).options([("jit", "off")])).await.expect("the database")
}

/// Inserts the rows that the events would make: 100 channels, of which 20 are public and the reader is a member of 10,
/// 200 users, and messages of 4 to 24 words in a year.
async fn fill(pool: &PgPool, messages: i64) {
    let insert = format!(
        "insert into messages (id, channel_id, user_id, created_at, source)
         select number, 1 + floor(random() ^ 2 * 100), 1 + floor(random() * 200),
             timestamptz '2026-11-27' - ({messages} - number) * interval '365 days' / {messages},
             (
                 select string_agg('word' || floor(20000 ^ random()), ' ')
                 from generate_series(1, 4 + (random() * 20)::integer) as word
                 where number = number
             )
         from generate_series(1, {messages}) as number"
    );
    for statement in [
        "insert into channels
         select id, 'channel-' || id, case when id <= 20 then 'public' else 'private' end
         from generate_series(1, 100) as id",
        "insert into channel_members (channel_id, user_id)
         select id, 1 from generate_series(21, 30) as id",
        "insert into nicknames select id, 'user' || id from generate_series(1, 200) as id",
        insert.as_str(),
        "vacuum analyze messages",
    ] {
        sqlx::query(AssertSqlSafe(statement.to_owned())).execute(pool).await.expect(statement);
    }
}
