//! Websockets while their part moves to the service and back.

use std::{slice, sync::Arc};

use axum::Router;
use flack_api::{messages::MessagesClient, messages_v2::MessagesV2Client, users::UsersClient};
use flack_common::{
    auth::Verifier,
    authority::Authority,
    http,
    process::Background,
    registry::{Registry, keys},
};
use flack_handover::{Part, Record, Side, Stage, protocol::BALANCER};
use flack_testing::{Etcd, Nats, eventually};
use flack_websocket::{Limits, Peers};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    sides::put,
    sockets::Socket,
    support::{Monolith, PASSWORD, WRITES_MAX},
};

const RESTARTING: u16 = 1012;

/// Starts the websocket service without an inbox. Its clients only receive.
async fn service(registry: &Registry, nats: &Nats, background: &Background) -> Router {
    let authority = Authority::from_registry("websocket", registry).await.expect("the records");
    let verifier = Verifier::from_registry(registry, background).await.expect("the keys");
    let peers = Peers {
        users: Arc::new(UsersClient::new("http://127.0.0.1:9", http::client())),
        messages: Arc::new(MessagesClient::new("http://127.0.0.1:9", http::client())),
        messages_v2: Arc::new(MessagesV2Client::new("http://127.0.0.1:9", http::client())),
        revocations: verifier.revocations(),
        verify: verifier,
    };
    let ownership = authority.of("websocket");
    flack_websocket::start("websocket", &nats.events().await, peers, None, Limits::default(), &ownership, background)
}

fn ids(frames: &[Value]) -> Vec<i64> {
    let messages = frames.iter().filter(|frame| frame["type"] == "updated_model" && frame["class"] == "Message");
    messages.filter_map(|frame| frame["model"]["id"].as_i64()).collect()
}

fn last_cursor(frames: &[Value], before: &str) -> String {
    let cursor = frames.iter().rev().find_map(|frame| frame["cursor"].as_str());
    cursor.unwrap_or(before).to_owned()
}

#[sqlx::test(migrations = false)]
async fn connections_are_closed_when_their_part_moves_and_resume_at_the_other_side_without_a_loss(pool: PgPool) {
    let (etcd, mut nats, background) = (Etcd::start().await, Nats::start().await, Background::default());
    nats.keep_stream("monolith").await;
    let registry = etcd.registry();
    for part in Part::ALL {
        put(&registry, part, Record::initial(Side::Monolith)).await;
    }
    let flack = Monolith::start(&pool, nats.events().await, Some(registry.clone()), None, WRITES_MAX).await;
    let sides = [flack.router.clone(), service(&registry, &nats, &background).await];
    flack.register("ada").await;
    let token = flack.sign_in("ada", PASSWORD).await;

    let mut socket = Socket::open_router(&sides[0]).await;
    socket.send(json!({ "type": "hello" })).await;
    let welcome = socket.wait_for(|frame| frame["type"] == "welcome").await;
    let mut cursor = welcome["cursor"].as_str().expect("a cursor").to_owned();
    let (mut posted, mut received) = (Vec::new(), Vec::new());
    let mut record = Record::initial(Side::Monolith).at(Stage::Following);
    for step in 1..=4 {
        let next = record.intent().switched(0);
        posted.push(flack.post_message(&token, "before").await);
        // The agent has not changed the routes yet: a client that was closed now would come back to the same side.
        let balancer = keys::acknowledged(BALANCER, BALANCER);
        let acknowledge = async |record: &Record| {
            let value = json!({ "websocket": record.acknowledgement() }).to_string();
            registry.put(&balancer, value, None).await.expect("etcd answers");
        };
        acknowledge(&record).await;
        put(&registry, Part::Websocket, next).await;
        posted.push(flack.post_message(&token, "while it moves").await);
        let frames = socket.read_until(|frame| ids(slice::from_ref(frame)).last() == posted.last()).await;
        received.extend(ids(&frames));
        cursor = last_cursor(&frames, &cursor);
        acknowledge(&next).await;
        let (frames, code) = socket.read_to_close().await;
        assert_eq!(code, RESTARTING, "step {step}");
        received.extend(ids(&frames));
        cursor = last_cursor(&frames, &cursor);
        posted.push(flack.post_message(&token, "while the client is away").await);

        socket = Socket::open_router(&sides[step % 2]).await;
        socket.send(json!({ "type": "hello", "cursor": cursor })).await;
        let welcome = socket.wait_for(|frame| frame["type"] == "welcome").await;
        assert_eq!(welcome["resumed"], true, "step {step}");
        let frames = socket.read_until(|frame| ids(slice::from_ref(frame)).last() == posted.last()).await;
        received.extend(ids(&frames));
        cursor = last_cursor(&frames, &cursor);
        record = next;
    }
    assert_eq!(received, posted, "each message arrives once and in order");
    background.stopping().cancel();
}

#[sqlx::test(migrations = false)]
async fn the_marker_of_a_closed_part_is_not_published_and_leaves_the_queue(pool: PgPool) {
    let mut nats = Nats::start().await;
    nats.keep_stream("monolith").await;
    let flack = Monolith::start(&pool, nats.events().await, None, None, WRITES_MAX).await;
    flack.register("ada").await;
    let published = async || {
        eventually("the queue is empty", async || {
            let rows: i64 =
                sqlx::query_scalar("select count(*) from journal_queue").fetch_one(&pool).await.expect("a count");
            rows == 0
        })
        .await;
        let stream = nats.jetstream().await.get_stream("MONOLITH").await.expect("the stream");
        stream.cached_info().state.messages
    };
    let before = published().await;
    sqlx::query("select close_part('users', 5)").execute(&pool).await.expect("closed");
    assert_eq!(published().await, before);
}
