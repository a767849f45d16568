//! The service under test, and a publisher of the events that it reads.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use chrono::DateTime;
use flack_api::search;
use flack_catalogue::Service as Entry;
use flack_common::{database, events::Consumer};
use flack_search::{MIGRATIONS, SERVICE, handlers::Search, projections::Projections, store::Store};
use flack_testing::{Nats, TestService, eventually};
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::form_urlencoded::byte_serialize;

pub const ADA: i64 = 1;
pub const BOB: i64 = 2;
pub const GENERAL: i64 = 1;
pub const PRIVATE: i64 = 2;
pub const DIRECT: i64 = 3;

/// The time of the message with the id 0. Each next one is a minute later.
const NOON: &str = "2026-11-01T12:00:00Z";

pub struct Service {
    pub pool: PgPool,
    http: TestService,
    nats: Nats,
    published: AtomicI64,
    /// Those of the published events that the service stores.
    expected: AtomicI64,
    _stop: DropGuard,
}

impl Deref for Service {
    type Target = TestService;

    fn deref(&self) -> &TestService {
        &self.http
    }
}

impl Service {
    /// Starts the service with two users, a public channel, a private one of ada, and a direct one of both.
    pub async fn start(pool: PgPool) -> Self {
        database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
        let (nats, stopping) = (Nats::start().await, CancellationToken::new());
        for owner in Entry::named(SERVICE).reads_events_of {
            let consumer = Consumer::new(owner, pool.clone(), nats.events().await, Arc::new(Projections));
            tokio::spawn(consumer.run(stopping.clone()));
        }
        let api = Arc::new(Search::new(Store::new(pool.clone())));
        let http = TestService::new(|verifier| search::router(api, verifier));
        let service = Self {
            pool,
            http,
            nats,
            published: AtomicI64::new(0),
            expected: AtomicI64::new(0),
            _stop: stopping.drop_guard(),
        };
        service.user(ADA, "ada").await;
        service.user(BOB, "bob").await;
        service.channel(GENERAL, "general", "public").await;
        service.channel(PRIVATE, "plans", "private").await;
        service.channel(DIRECT, "direct-1", "direct").await;
        for (channel_id, user_id) in [(PRIVATE, ADA), (DIRECT, ADA), (DIRECT, BOB)] {
            service.member(channel_id, user_id, None).await;
        }
        service
    }

    /// Publishes an event of an owner at an epoch, which the service stores.
    pub async fn publish(&self, owner: &str, epoch: i64, kind: &str, entity_id: &str, data: Value) {
        self.expected.fetch_add(1, Relaxed);
        self.publish_other(owner, epoch, kind, entity_id, data).await;
    }

    /// Publishes an event of a kind that the service does not process.
    pub async fn publish_other(&self, owner: &str, epoch: i64, kind: &str, entity_id: &str, data: Value) {
        let number = self.published.fetch_add(1, Relaxed) + 1;
        let id = format!("{owner}-{number}");
        let event = json!({ "id": id, "operation": "update", "time": "2026-11-21T12:00:00Z", "version": number,
            "epoch": epoch, "type": kind, "data": data });
        self.nats.publish_event(owner, entity_id, &id, event).await;
    }

    pub async fn user(&self, id: i64, nickname: &str) {
        let data = json!({ "id": id, "created_at": 1, "updated_at": 1, "last_seen_at": 1, "password_changed_at": 1,
            "nickname": nickname, "online": true });
        self.publish("users", 1, "user_changed", &id.to_string(), data).await;
    }

    pub async fn channel(&self, id: i64, name: &str, kind: &str) {
        let data = json!({ "id": id, "name": name, "created_at": 1, "kind": kind });
        self.publish("messages", 1, "channel_changed", &id.to_string(), data).await;
    }

    pub async fn member(&self, channel_id: i64, user_id: i64, left_at: Option<i64>) {
        let data = json!({ "channel_id": channel_id, "user_id": user_id, "joined_at": 1, "left_at": left_at,
            "last_read_message_id": 0 });
        self.publish("messages", 1, "channel_member_changed", &format!("{channel_id}:{user_id}"), data).await;
    }

    /// Publishes a new message, or its new source.
    pub async fn message(&self, id: i64, channel_id: i64, user_id: i64, source: &str) {
        self.publish("messages", 1, "message_changed", &id.to_string(), message(id, channel_id, user_id, source)).await;
    }

    /// Waits until every published event is processed.
    pub async fn settle(&self) {
        eventually("all events are processed", async || {
            let processed: i64 = sqlx::query_scalar("select count(*) from inbox where state in ('done', 'ignored')")
                .fetch_one(&self.pool)
                .await
                .expect("a count");
            processed == self.expected.load(Relaxed)
        })
        .await;
    }

    pub async fn search(&self, user_id: i64, parameters: &str, expected: StatusCode) -> Value {
        self.settle().await;
        let call = self.get(&format!("/api/search?{parameters}")).bearer(&self.token(user_id));
        call.expect(expected).await.json()
    }

    /// Returns the first page.
    pub async fn page(&self, user_id: i64, q: &str) -> Value {
        self.search(user_id, &q_is(q), StatusCode::OK).await
    }

    /// Returns the ids of the messages that a user finds, the best first.
    pub async fn found(&self, user_id: i64, q: &str) -> Vec<i64> {
        ids(&self.page(user_id, q).await)
    }

    /// Returns the detail of the problem with a query.
    pub async fn refused(&self, user_id: i64, q: &str) -> String {
        let problem = self.search(user_id, &q_is(q), StatusCode::BAD_REQUEST).await;
        problem["detail"].as_str().expect("a detail").to_owned()
    }
}

pub fn message(id: i64, channel_id: i64, user_id: i64, source: &str) -> Value {
    let noon = DateTime::parse_from_rfc3339(NOON).expect("a literal that parses").timestamp();
    json!({ "id": id, "created_at": noon + id * 60, "updated_at": 1, "user_id": user_id, "channel_id": channel_id,
        "source": source, "html": "" })
}

pub fn q_is(q: &str) -> String {
    format!("q={}", byte_serialize(q.as_bytes()).collect::<String>())
}

pub fn ids(page: &Value) -> Vec<i64> {
    page["results"].as_array().expect("results").iter().map(|one| one["message_id"].as_i64().expect("an id")).collect()
}
