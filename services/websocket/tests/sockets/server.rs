//! An instance of the service on a free port.

use std::{net::SocketAddr, sync::Arc};

use flack_common::process::Background;
use flack_websocket::{Hub, Inbox, Limits, Memory, keeper, router};
use sqlx::PgPool;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{client::Client, nats::Nats, peers::Peers};

pub struct Server {
    pub address: SocketAddr,
    pub peers: Arc<Peers>,
    pub background: Background,
    serving: JoinHandle<()>,
}

impl Server {
    pub async fn start(nats: &Nats) -> Self {
        Self::with_limits(nats, Limits::default()).await
    }

    pub async fn with_limits(nats: &Nats, limits: Limits) -> Self {
        Self::with(nats, limits, Memory::default(), None).await
    }

    /// With little memory, and an inbox that it keeps.
    pub async fn with_inbox(nats: &Nats, memory: Memory, pool: &PgPool) -> Self {
        let inbox = Inbox::new(pool.clone());
        let server = Self::with(nats, Limits::default(), memory, Some(inbox.clone())).await;
        let stopping = server.background.stopping();
        server.background.spawn("inbox", keeper::keep(inbox, nats.events().await, stopping));
        server
    }

    async fn with(nats: &Nats, limits: Limits, memory: Memory, inbox: Option<Inbox>) -> Self {
        let background = Background::default();
        let peers = Arc::new(Peers::default());
        let hub = Hub::start("websocket", &nats.events().await, memory, inbox, &background);
        let app = router(hub, peers.seams(), limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, peers, background, serving }
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Connected, and greeted as a user's.
    pub async fn user(&self, id: i64) -> Client {
        let mut client = self.connect().await;
        client.hello(serde_json::json!({ "token": format!("token-{id}") })).await;
        client
    }

    /// Connected without a token.
    pub async fn listener(&self) -> Client {
        let mut client = self.connect().await;
        client.hello(serde_json::json!({})).await;
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.background.stopping().cancel();
        self.serving.abort();
    }
}
