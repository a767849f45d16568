use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use flack_common::registry::{
    Deregistration, InstanceEntry, Registration, Registry, ServiceDefinition, keys,
};
use tokio::{net::TcpListener, runtime::Runtime, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::Stack;

/// One instance of a service, on threads of its own: these can be taken away as a crash would.
pub struct Instance {
    pub name: String,
    pub service: String,
    pub address: SocketAddr,
    ready: Arc<AtomicBool>,
    registration: Option<Registration>,
    closing: CancellationToken,
    server: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
}

/// How long an instance that leaves waits for its last requests.
const FINISH_MAX: Duration = Duration::from_secs(2);
/// How long `/slow` takes.
pub const SLOW: Duration = Duration::from_millis(300);

async fn answer(State(state): State<(String, Arc<AtomicBool>)>, request: Request) -> Response {
    let (name, ready) = state;
    let path = request.uri().path();
    let status = if path == "/ready" && !ready.load(Ordering::Relaxed) { 503 } else { 200 };
    if path.ends_with("/slow") {
        tokio::time::sleep(SLOW).await;
    }
    let status = axum::http::StatusCode::from_u16(status).expect("a status");
    let seen = |header: &str| {
        request.headers().get(header).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let body = format!("{} {}", seen("x-correlation-id"), seen("x-forwarded-for"));
    (status, [("x-flack-instance", name)], body).into_response()
}

impl Instance {
    /// Listens, but nobody knows.
    pub async fn listen(service: &str, name: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let ready = Arc::new(AtomicBool::new(true));
        let router = Router::new().fallback(answer).with_state((name.to_owned(), ready.clone()));
        let closing = CancellationToken::new();
        let closed = closing.clone().cancelled_owned();
        let (address, server) = runtime
            .spawn(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let address = listener.local_addr().expect("it is bound");
                let server = axum::serve(listener, router).with_graceful_shutdown(closed);
                (address, tokio::spawn(async { server.await.expect("it serves") }))
            })
            .await
            .expect("it listens");
        let (name, service) = (name.to_owned(), service.to_owned());
        Self {
            name,
            service,
            address,
            ready,
            registration: None,
            closing,
            server: Some(server),
            runtime: Some(runtime),
        }
    }

    /// Listens and registers.
    pub async fn start(stack: &Stack, service: &str, name: &str) -> Self {
        Self::start_as(stack, &definition(service), name).await
    }

    pub async fn start_as(stack: &Stack, definition: &ServiceDefinition, name: &str) -> Self {
        let mut instance = Self::listen(&definition.name, name).await;
        let (url, definition, name) = (stack.etcd_url.clone(), definition.clone(), name.to_owned());
        let address = instance.address.to_string();
        let registration = instance
            .runtime
            .as_ref()
            .expect("it runs")
            .spawn(async move {
                let registry = Registry::open_lazily(&url, None, CancellationToken::new());
                registry.register(&definition, &name, &address, "0.1.0").await
            })
            .await
            .expect("it registers");
        instance.registration = Some(registration);
        instance
    }

    /// Its entry, for tests that write it themselves.
    pub async fn put_entry(&self, stack: &Stack) {
        let entry = InstanceEntry {
            address: self.address.to_string(),
            version: "0.1.0".to_owned(),
            weight: 100,
            started: chrono::Utc::now(),
            draining: false,
        };
        let entry = serde_json::to_string(&entry).expect("an entry is plain data");
        stack
            .registry
            .put(&keys::instance(&self.service, &self.name), entry, None)
            .await
            .expect("etcd is there");
    }

    pub async fn delete_entry(&self, stack: &Stack) {
        stack.registry.delete(&keys::instance(&self.service, &self.name)).await.expect("etcd is there");
    }

    /// As a process does on SIGTERM: out of the registry, then the port is closed, then what is in flight is finished.
    pub async fn leave(mut self) -> Deregistration {
        let registration = self.registration.take().expect("it is registered");
        let left = self
            .runtime
            .as_ref()
            .expect("it runs")
            .spawn(registration.deregister())
            .await
            .expect("it leaves");
        self.closing.cancel();
        let server = self.server.take().expect("it serves");
        // Bounded: a connection that is kept alive may stay, and ends with the runtime.
        let _ = timeout(FINISH_MAX, server).await;
        left
    }

    /// Everything ends at once: port, connections, renewals.
    pub fn crash(self) {
        drop(self);
    }

    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn definition(service: &str) -> ServiceDefinition {
    let location = format!("/api/{service}");
    let location: &[&str] = if service == "monolith" { &[] } else { &[&location] };
    ServiceDefinition::public(service, location)
}
