//! The worked example of docs/guides/change-a-schema.md: a column is renamed while the version before (the store of
//! this service) and the version after (the SQL below) write to one database.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use flack_api::{Context, ui::types::ChannelName};
use flack_common::database;
use flack_testing::eventually;
use flack_ui::{MIGRATIONS, store::Store};
use sqlx::{
    PgPool, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
    postgres::PgPoolOptions,
};

const PHASES: [(i64, &str); 4] = [
    (4, include_str!("../../../../docs/guides/rename-a-column/0004_expand.sql")),
    (5, include_str!("../../../../docs/guides/rename-a-column/0005_constraint.sql")),
    (6, include_str!("../../../../docs/guides/rename-a-column/0006_validate.sql")),
    (7, include_str!("../../../../docs/guides/rename-a-column/0007_contract.sql")),
];
const BACKFILL: &str = include_str!("../../../../docs/guides/rename-a-column/backfill.sql");

/// A statement that waits longer for a lock fails, and the test with it.
const LOCK_TIMEOUT: &str = "2s";
/// Rows that nobody writes, so that only the backfill fills them.
const OLD_ROWS: i64 = 3_000;
const BATCH_ROWS: i64 = 500;
/// Markers that the writers share.
const USERS: usize = 8;
const WRITERS_PER_VERSION: usize = 3;
/// Statements of all writers in each phase.
const WRITES_PER_PHASE: u64 = 120;

/// The statements of one version.
#[derive(Debug, Clone, Copy)]
enum Version {
    Before,
    After,
}

impl Version {
    async fn set(self, pool: &PgPool, user_id: i64, id: i64) -> Result<(), String> {
        match self {
            Self::Before => {
                let store = Store::new(pool.clone());
                let result = store.set_read_marker(&Context::background(), user_id, &channel(), id).await;
                result.map_err(|error| format!("{error:?}"))
            }
            Self::After => {
                let query = sqlx::query(
                    "insert into read_markers as stored (user_id, channel, last_read_id) values ($1, 'general', $2)
                     on conflict (user_id, channel) do update
                     set last_read_id = excluded.last_read_id, updated_at = now()
                     where stored.last_read_id < excluded.last_read_id",
                );
                query.bind(user_id).bind(id).execute(pool).await.map(drop).map_err(|error| error.to_string())
            }
        }
    }

    async fn read(self, pool: &PgPool, user_id: i64) -> Result<i64, String> {
        match self {
            Self::Before => {
                let markers = Store::new(pool.clone()).list_read_markers(user_id).await;
                let marker = markers.map_err(|error| format!("{error:?}"))?.pop();
                marker.map(|marker| marker.message_id).ok_or_else(|| format!("user {user_id} has no marker"))
            }
            Self::After => {
                let read = "select last_read_id from read_markers where user_id = $1 and channel = 'general'";
                sqlx::query_scalar(read).bind(user_id).fetch_one(pool).await.map_err(|error| error.to_string())
            }
        }
    }
}

fn channel() -> ChannelName {
    "general".parse().expect("a name of a channel")
}

/// What all writers share.
#[derive(Debug, Default)]
struct Traffic {
    /// The last id that a writer has taken.
    taken: AtomicI64,
    /// Of each user, the furthest position that the database has acknowledged.
    acknowledged: [AtomicI64; USERS],
    writes: AtomicU64,
}

impl Traffic {
    /// Writes and reads as one instance, until it is stopped. Returns the first error.
    async fn run(&self, version: Version, pool: &PgPool, stop: &AtomicBool) -> Result<(), String> {
        while !stop.load(Ordering::Relaxed) {
            let id = self.taken.fetch_add(1, Ordering::Relaxed) + 1;
            let user = usize::try_from(id).expect("a positive id") % USERS;
            let user_id = i64::try_from(user).expect("a small number");
            version.set(pool, user_id, id).await?;
            let least = self.acknowledged[user].fetch_max(id, Ordering::SeqCst).max(id);
            let read = version.read(pool, user_id).await?;
            if read < least {
                return Err(format!("{version:?} read {read} of user {user}, after {least} was acknowledged"));
            }
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits until the writers have written again.
    async fn go_on(&self) {
        let before = self.writes.load(Ordering::Relaxed);
        eventually("every writer writes in this phase", async || {
            self.writes.load(Ordering::Relaxed) >= before + WRITES_PER_PHASE
        })
        .await;
    }
}

/// The running instances of one version.
struct Instances {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Result<(), String>>>,
}

impl Instances {
    fn start(version: Version, pool: &PgPool, traffic: &Arc<Traffic>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..WRITERS_PER_VERSION).map(|_| {
            let (pool, traffic, stop) = (pool.clone(), Arc::clone(traffic), Arc::clone(&stop));
            tokio::spawn(async move { traffic.run(version, &pool, &stop).await })
        });
        Self { tasks: tasks.collect(), stop }
    }

    /// Stops them, and checks that no statement has failed.
    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("the writer ends").expect("no statement fails");
        }
    }
}

/// Applies the migrations up to this one, as the start of an instance does.
async fn migrate_to(version: i64, pool: &PgPool) {
    let example = PHASES.iter().take_while(|(number, _)| *number <= version).map(|(number, sql)| {
        Migration::new(*number, Cow::Borrowed("example"), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let migrations = MIGRATIONS.iter().cloned().chain(example).collect();
    database::migrate(pool, &Migrator::with_migrations(migrations)).await.expect("the migrations apply");
}

async fn backfill(pool: &PgPool) {
    let mut last = Some((i64::MIN, String::new()));
    while let Some((user_id, channel)) = last {
        let batch = sqlx::query_as(BACKFILL).bind(user_id).bind(channel).bind(BATCH_ROWS);
        last = batch.fetch_optional(pool).await.expect("a batch");
    }
}

async fn count(pool: &PgPool, condition: &'static str) -> i64 {
    sqlx::query_scalar(condition).fetch_one(pool).await.expect("a number")
}

#[sqlx::test(migrations = false)]
async fn a_column_is_renamed_while_the_versions_before_and_after_write(pool: PgPool) {
    database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
    sqlx::query(
        "insert into read_markers (user_id, channel, message_id)
         select 1000 + number, 'general', number from generate_series(1, $1) as number",
    )
    .bind(OLD_ROWS)
    .execute(&pool)
    .await
    .expect("rows");
    let options = (*pool.connect_options()).clone().options([("lock_timeout", LOCK_TIMEOUT)]);
    let connections = u32::try_from(2 * WRITERS_PER_VERSION + 2).expect("a small number");
    let clients = PgPoolOptions::new().max_connections(connections).connect_with(options).await.expect("a pool");
    let traffic = Arc::new(Traffic::default());

    // Release 0 runs. Release 1 starts, and its first instance adds the column, although a transaction uses the table.
    let before = Instances::start(Version::Before, &clients, &traffic);
    traffic.go_on().await;
    let mut reader = pool.begin().await.expect("a transaction");
    sqlx::query("select from read_markers limit 1").execute(&mut *reader).await.expect("a read");
    let expand = tokio::spawn({
        let pool = pool.clone();
        async move { migrate_to(4, &pool).await }
    });
    let is_waiting = "select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'
         and relation = 'read_markers'::regclass";
    // Twice: it has given up in between.
    for _ in 0..2 {
        eventually("the migration waits for the table", async || count(&pool, is_waiting).await > 0).await;
        traffic.go_on().await;
    }
    assert!(!expand.is_finished(), "the reader's transaction prevents it");
    reader.commit().await.expect("the reader ends");
    expand.await.expect("the column is added");
    traffic.go_on().await;

    // Release 1 fills the column.
    backfill(&clients).await;
    assert_eq!(count(&pool, "select count(*) from read_markers where last_read_id is null").await, 0);
    assert_eq!(count(&pool, "select count(*) from read_markers where last_read_id <> message_id").await, 0);
    traffic.go_on().await;

    // Release 2 uses the new column, beside release 1, whose relay may publish rows that release 2 has written.
    migrate_to(5, &pool).await;
    let after = Instances::start(Version::After, &clients, &traffic);
    traffic.go_on().await;
    migrate_to(6, &pool).await;
    traffic.go_on().await;
    let unreadable = "select count(*) from journal where entity = 'read_marker' and not row_data ? 'message_id'";
    assert_eq!(count(&pool, unreadable).await, 0);
    before.stop().await;

    // Release 3 drops the old column beside release 2.
    migrate_to(7, &pool).await;
    traffic.go_on().await;
    after.stop().await;

    for (user, acknowledged) in (0..).zip(&traffic.acknowledged) {
        assert_eq!(Version::After.read(&pool, user).await, Ok(acknowledged.load(Ordering::SeqCst)), "user {user}");
    }
    let kept = "select count(*) from read_markers where user_id > 1000 and last_read_id = user_id - 1000";
    assert_eq!(count(&pool, kept).await, OLD_ROWS);
    // So this test would notice a contract that comes too early.
    Version::Before.set(&pool, 0, i64::MAX).await.expect_err("the column is gone");
}
