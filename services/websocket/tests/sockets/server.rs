//! An instance of the service on a free port.

use std::{net::SocketAddr, sync::Arc};

use flack_common::{
    authority::Ownership,
    process::{Background, BoundedListener, CONNECTIONS_MAX},
};
use flack_testing::Nats;
use flack_websocket::{Limits, Retention, start};
use serde_json::json;
use sqlx::PgPool;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{client::Client, peers::MockPeers};

pub struct Server {
    pub address: SocketAddr,
    pub peers: Arc<MockPeers>,
    pub background: Background,
    serving: JoinHandle<()>,
}

impl Server {
    pub async fn start(nats: &Nats) -> Self {
        Self::with_limits(nats, Limits::default()).await
    }

    pub async fn with_limits(nats: &Nats, limits: Limits) -> Self {
        Self::with(nats, limits, None).await
    }

    pub async fn with_inbox(nats: &Nats, retention: Retention, pool: &PgPool) -> Self {
        Self::with(nats, Limits { retention, ..Limits::default() }, Some(pool.clone())).await
    }

    async fn with(nats: &Nats, limits: Limits, inbox: Option<PgPool>) -> Self {
        let background = Background::default();
        let peers = Arc::new(MockPeers::default());
        let events = nats.events().await;
        let ownership = Ownership::always();
        let app = start("websocket", &events, peers.as_peers(), inbox, limits, &ownership, &background);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = BoundedListener::new(listener, CONNECTIONS_MAX);
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, peers, background, serving }
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Connects, and signs in as a user.
    pub async fn user(&self, id: i64) -> Client {
        let mut client = self.connect().await;
        client.hello(json!({ "token": format!("token-{id}") })).await;
        client
    }

    /// Connects with version 2, and signs in as a user.
    pub async fn user_of_version_2(&self, id: i64) -> Client {
        let mut client = self.connect().await;
        client.hello(json!({ "token": format!("token-{id}"), "version": 2 })).await;
        client
    }

    /// Connects without a token.
    pub async fn anonymous(&self) -> Client {
        let mut client = self.connect().await;
        client.hello(json!({})).await;
        client
    }
}

/// Starts a nats-server and an instance, and connects a client without a token.
pub async fn start_with_anonymous() -> (Nats, Server, Client) {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let client = server.anonymous().await;
    (nats, server, client)
}

/// Starts a nats-server and an instance, and signs a user in.
pub async fn start_with_user(id: i64) -> (Nats, Server, Client) {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let client = server.user(id).await;
    (nats, server, client)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.background.stopping().cancel();
        self.serving.abort();
    }
}
