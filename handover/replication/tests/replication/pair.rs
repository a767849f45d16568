//! The two sides of a part: the monolith's database and the service's, and one listener for the operations of both.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use axum::{Router, serve::ListenerExt as _};
use flack_common::{
    authority::Authority,
    config::HandoverKeys,
    database,
    process::Background,
    registry::{Registry, keys},
};
use flack_handover::{
    Entry, Part, Record, Side, Stage,
    protocol::{self, Closed, Following, Status, Verification, VerifyRequest},
};
use flack_testing::{Etcd, eventually_within};
use secrecy::SecretString;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool, migrate::Migrator, postgres::PgPoolOptions};
use tokio::net::TcpListener;

pub const KEY: &str = "the key of the tests";

/// The bound of every wait, for a busy machine.
const WAIT_MAX: Duration = Duration::from_mins(1);

static MONOLITH: Migrator = sqlx::migrate!("../../migrations/flack");
static USERS: Migrator = sqlx::migrate!("../../migrations/users");
static TOKENS: Migrator = sqlx::migrate!("../../migrations/tokens");
static MESSAGES: Migrator = sqlx::migrate!("../../migrations/messages");
static UI: Migrator = sqlx::migrate!("../../migrations/ui");

pub struct Pair {
    pub part: Part,
    pub monolith: PgPool,
    pub service: PgPool,
    pub url: String,
    registry: Registry,
    /// Its tasks end when a side is killed.
    processes: BTreeMap<Side, Background>,
    _etcd: Etcd,
}

impl Pair {
    /// Starts both sides of a part. The monolith owns it, and nobody follows.
    pub async fn start(monolith: &PgPool, part: Part) -> Self {
        let service = second_database(monolith).await;
        let migrations = match part {
            Part::Users => &USERS,
            Part::Tokens => &TOKENS,
            Part::Messages => &MESSAGES,
            Part::Ui | Part::Websocket => &UI,
        };
        database::migrate(monolith, &MONOLITH).await.expect("the migrations of the monolith");
        database::migrate(&service, migrations).await.expect("the migrations of the service");
        let etcd = Etcd::start().await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let mut pair = Self {
            part,
            monolith: monolith.clone(),
            service,
            url,
            registry: etcd.registry(),
            processes: BTreeMap::new(),
            _etcd: etcd,
        };
        pair.put(Record::initial(Side::Monolith)).await;
        // Answers are sent also while the follower of a side is killed: other instances of the side live on.
        let router = pair.start_side(Side::Monolith).await.merge(pair.start_side(Side::Service).await);
        // As in a process: the end of a streamed body does not wait for the acknowledgement of its start.
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("an option of TCP"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        pair
    }

    async fn start_side(&mut self, side: Side) -> Router {
        let background = Background::default();
        let name = side.service_name(self.part);
        let authority = Authority::from_registry(name, &self.registry).await.expect("the records");
        authority.keep_fences(self.pool(side), &background).await.expect("the fences follow");
        let key = Some(SecretString::from(KEY));
        let mut keys = HandoverKeys::default();
        match self.part {
            Part::Users => keys.users = key,
            Part::Tokens => keys.tokens = key,
            Part::Messages => keys.messages = key,
            Part::Ui | Part::Websocket => keys.ui = key,
        }
        let router = flack_replication::start(name, self.pool(side), &authority, Some(&self.url), &keys, &background);
        self.processes.insert(side, background);
        router
    }

    /// Kills the follower of a side, as a crash does.
    pub fn kill(&mut self, side: Side) {
        let background = self.processes.remove(&side).expect("it runs");
        background.stopping().cancel();
        background.drained().cancel();
    }

    pub async fn restart(&mut self, side: Side) {
        drop(self.start_side(side).await);
    }

    pub fn pool(&self, side: Side) -> &PgPool {
        match side {
            Side::Monolith => &self.monolith,
            Side::Service => &self.service,
        }
    }

    /// Writes the record of the part.
    pub async fn put(&self, record: Record) {
        let entry = Entry { record, ..Entry::initial(self.part, record.owner) };
        let key = keys::authority(self.part.service().name);
        self.registry.put(&key, entry.encode(), None).await.expect("the record is written");
    }

    /// Makes the service follow, and waits until the copy is complete. Returns the record.
    pub async fn follow(&self) -> Record {
        let record = self.begin_to_follow().await;
        eventually("the copy is complete", async || self.is_copied().await).await;
        record
    }

    pub async fn begin_to_follow(&self) -> Record {
        let record = Record { epoch: 2, ..Record::initial(Side::Monolith).at(Stage::Following) };
        self.put(record).await;
        record
    }

    pub async fn is_copied(&self) -> bool {
        self.following(Side::Service).await.is_some_and(|following| following.is_copied)
    }

    pub async fn following(&self, side: Side) -> Option<Following> {
        self.status(side).await.following
    }

    pub async fn status(&self, side: Side) -> Status {
        let request = client().get(self.url_of(side, protocol::STATUS)).bearer_auth(KEY);
        let response = request.send().await.expect("an answer");
        assert!(response.status().is_success(), "{}", response.text().await.expect("a text"));
        response.json().await.expect("a status")
    }

    pub fn url_of(&self, side: Side, operation: &str) -> String {
        format!("{}{}", self.url, protocol::path(side, self.part, operation))
    }

    /// Calls an operation that succeeds.
    #[track_caller]
    pub fn call<T: DeserializeOwned>(
        &self,
        side: Side,
        operation: &str,
        body: impl Serialize,
    ) -> impl Future<Output = T> {
        let request = client().post(self.url_of(side, operation)).bearer_auth(KEY).json(&body).timeout(WAIT_MAX);
        let operation = operation.to_owned();
        async move {
            let response = request.send().await.expect("an answer");
            let status = response.status();
            let text = response.text().await.expect("a text");
            assert!(status.is_success(), "{operation}: {status} {text}");
            serde_json::from_str(if text.is_empty() { "null" } else { &text }).expect("JSON")
        }
    }

    /// Compares all rows, and waits for the result.
    pub async fn verify(&self, replica: Side) -> Verification {
        let () = self.call(replica, protocol::VERIFY, VerifyRequest { only_touched: false }).await;
        eventually("the comparison ends", async || {
            self.status(replica).await.verification.is_some_and(|it| !it.is_running && it.age_seconds.is_some())
        })
        .await;
        self.status(replica).await.verification.expect("a result")
    }

    /// Changes the owner, as the operator does. Returns the record.
    pub async fn switch(&self, record: Record) -> Record {
        let (owner, replica) = (record.owner, record.owner.other());
        let intent = record.intent();
        self.put(intent).await;
        let Closed { marker, .. } = self.call(owner, protocol::CLOSE, json!({ "epoch": intent.epoch })).await;
        eventually("the marker is applied", async || self.status(replica).await.applied >= marker).await;
        let compared: Verification = self.call(replica, protocol::VERIFY, VerifyRequest { only_touched: true }).await;
        assert_eq!(compared.rows_different, 0, "{compared:?}");
        let () = self.call(replica, protocol::SEQUENCES, json!(null)).await;
        let switched = intent.switched(marker);
        self.put(switched).await;
        eventually("the new owner opens its fence", async || {
            self.status(replica).await.role == flack_handover::fence::Role::Owner
        })
        .await;
        switched
    }

    /// Executes a statement at one side, as a client's transaction.
    pub async fn execute(&self, side: Side, statement: &str) -> u64 {
        let statement = AssertSqlSafe(statement.to_owned());
        sqlx::query(statement).execute(self.pool(side)).await.expect("it succeeds").rows_affected()
    }

    /// Waits until both databases have the same rows in all tables of the part.
    #[track_caller]
    pub fn become_equal(&self) -> impl Future<Output = ()> {
        eventually("both sides have the same rows", async || {
            contents(&self.monolith, self.part).await == contents(&self.service, self.part).await
        })
    }

    /// Ends both sides, and drops the second database.
    pub async fn end(mut self) {
        for side in Side::ALL {
            if self.processes.contains_key(&side) {
                self.kill(side);
            }
        }
        let name = name_of(&self.service);
        self.service.close().await;
        let drop = format!("drop database \"{name}\" with (force)");
        sqlx::query(AssertSqlSafe(drop)).execute(&self.monolith).await.expect("the database is dropped");
    }
}

/// Waits until `condition` holds, for the time that a copy may take.
#[track_caller]
pub fn eventually(what: &str, condition: impl AsyncFn() -> bool) -> impl Future<Output = ()> {
    eventually_within(WAIT_MAX, what, condition)
}

/// Returns the tables of a part, with the text of their rows.
pub async fn contents(pool: &PgPool, part: Part) -> BTreeMap<String, String> {
    let tables: Vec<String> = sqlx::query_scalar("select target::text from part_tables where part = $1")
        .bind(part.service().name)
        .fetch_all(pool)
        .await
        .expect("tables");
    let mut contents = BTreeMap::new();
    for table in tables {
        let columns: String = sqlx::query_scalar(
            "select string_agg(quote_ident(attname), ', ' order by attname) from pg_attribute
             where attrelid = $1::regclass and attnum > 0 and not attisdropped",
        )
        .bind(&table)
        .fetch_one(pool)
        .await
        .expect("columns");
        let rows = format!(
            "select coalesce(string_agg(item::text, e'\\n' order by item::text), '')
             from (select {columns} from {table}) as item"
        );
        let rows: String = sqlx::query_scalar(AssertSqlSafe(rows)).fetch_one(pool).await.expect("rows");
        contents.insert(table, rows);
    }
    contents
}

pub async fn scalar<T>(pool: &PgPool, query: &str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.expect("a value")
}

pub fn client() -> reqwest::Client {
    flack_common::http::client()
}

fn name_of(pool: &PgPool) -> String {
    pool.connect_options().get_database().expect("a name").to_owned()
}

async fn second_database(first: &PgPool) -> PgPool {
    // A name has at most 63 characters, and the first one's has nearly as many.
    let name = format!("_service_{}", name_of(first).trim_start_matches("_sqlx_test_"));
    for statement in [format!("drop database if exists \"{name}\" with (force)"), format!("create database \"{name}\"")]
    {
        sqlx::query(AssertSqlSafe(statement.clone())).execute(first).await.expect(&statement);
    }
    let options = first.connect_options().as_ref().clone().database(&name);
    PgPoolOptions::new().max_connections(5).connect_with(options).await.expect("the second database")
}
