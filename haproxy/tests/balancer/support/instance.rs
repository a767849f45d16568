use std::{
    net::{Shutdown, SocketAddr},
    os::fd::AsFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    serve::ListenerExt as _,
};
use flack_common::{
    config::RegistryConfig,
    registry::{Deregistration, InstanceEntry, Registration, Registry, ServiceDefinition, keys},
};
use tokio::{net::TcpListener, runtime::Runtime, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::Stack;

/// How long a draining instance waits for its last requests.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
const NOT_SENT: HeaderValue = HeaderValue::from_static("-");
/// How long `/slow` takes.
const SLOW: Duration = Duration::from_millis(300);

/// An instance of a service. It has its own runtime, so that a test can stop its threads as a crash does.
pub struct Instance {
    pub name: String,
    pub service: String,
    pub address: SocketAddr,
    ready: Arc<AtomicBool>,
    /// The correlation ids of the requests that it has received with the method `POST`.
    pub posts: Arc<Mutex<Vec<String>>>,
    registration: Option<Registration>,
    closing: CancellationToken,
    server: JoinHandle<()>,
    /// The listening socket, as the type of the standard library that can shut it down.
    port: std::net::TcpStream,
    connections: Arc<Mutex<Vec<std::net::TcpStream>>>,
    runtime: Option<Runtime>,
}

type Shared = (String, Arc<AtomicBool>, Arc<Mutex<Vec<String>>>);

async fn answer(State((name, ready, posts)): State<Shared>, request: Request) -> Response {
    let headers = request.headers();
    let [correlation_id, forwarded_for] = ["x-correlation-id", "x-forwarded-for"]
        .map(|name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned());
    if request.method() == "POST" {
        posts.lock().expect("no request panicked").push(correlation_id.clone());
    }
    let seen = ["x-flack-read", "x-flack-epoch"].map(|name| headers.get(name).cloned().unwrap_or(NOT_SENT));
    let path = request.uri().path();
    let is_ready = path != "/ready" || ready.load(Ordering::Relaxed);
    let mut status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if let Some(chosen) = request.headers().get("x-answer") {
        status = StatusCode::from_bytes(chosen.as_bytes()).expect("a status");
    }
    if path.ends_with("/slow") {
        tokio::time::sleep(SLOW).await;
    }
    let body = format!("{correlation_id} {forwarded_for}");
    let [read, epoch] = seen;
    let path = HeaderValue::from_str(path).expect("plain characters");
    let name = HeaderValue::from_str(&name).expect("plain characters");
    let seen = [("x-flack-instance", name), ("x-seen-path", path), ("x-seen-read", read), ("x-seen-epoch", epoch)];
    (status, seen, body).into_response()
}

impl Instance {
    /// Listens without registering.
    pub async fn listen(service: &str, name: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let ready = Arc::new(AtomicBool::new(true));
        let posts = Arc::default();
        let router = Router::new().fallback(answer).with_state((name.to_owned(), ready.clone(), Arc::clone(&posts)));
        let closing = CancellationToken::new();
        let closed = closing.clone().cancelled_owned();
        let listener = runtime.spawn(TcpListener::bind("127.0.0.1:0")).await.expect("no panic").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let port = socket_of(&listener);
        let connections = Arc::<Mutex<Vec<_>>>::default();
        let accepted = Arc::clone(&connections);
        let listener = listener.tap_io(move |connection| {
            accepted.lock().expect("no connection panicked").push(socket_of(connection));
        });
        let server = runtime.spawn(async {
            axum::serve(listener, router).with_graceful_shutdown(closed).await.expect("the server runs");
        });
        let (name, service) = (name.to_owned(), service.to_owned());
        Self {
            name,
            service,
            address,
            ready,
            posts,
            registration: None,
            closing,
            server,
            port,
            connections,
            runtime: Some(runtime),
        }
    }

    /// Listens and registers.
    pub async fn start(stack: &Stack, service: &str, name: &str) -> Self {
        Self::start_as(stack, &definition(service), name).await
    }

    pub async fn start_version(stack: &Stack, service: &str, name: &str, version: &str) -> Self {
        Self::register(stack, &definition(service), name, version).await
    }

    pub async fn start_as(stack: &Stack, definition: &ServiceDefinition, name: &str) -> Self {
        Self::register(stack, definition, name, "0.1.0").await
    }

    async fn register(stack: &Stack, definition: &ServiceDefinition, name: &str, version: &str) -> Self {
        let mut instance = Self::listen(&definition.name, name).await;
        let (url, definition, name) = (stack.etcd.url().to_owned(), definition.clone(), name.to_owned());
        let version = version.to_owned();
        let address = instance.address.to_string();
        let register = async move {
            let registry = Registry::open_lazily(&RegistryConfig::without_credentials(url), CancellationToken::new());
            registry.register(&definition, &name, InstanceEntry::new(address, version)).await
        };
        instance.registration = Some(instance.runtime().spawn(register).await.expect("it registers"));
        instance
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("the instance runs")
    }

    /// Writes its registry entry without a lease.
    pub async fn put_entry(&self, stack: &Stack) {
        let entry = InstanceEntry::new(self.address.to_string(), "0.1.0");
        let entry = serde_json::to_string(&entry).expect("an entry is plain data");
        let key = keys::instance(&self.service, &self.name);
        stack.registry.put(&key, entry, None).await.expect("etcd answers");
    }

    pub async fn delete_entry(&self, stack: &Stack) {
        stack.registry.delete(&keys::instance(&self.service, &self.name)).await.expect("etcd answers");
    }

    /// Stops as a process does on SIGTERM: drains, closes its port, finishes current requests.
    pub async fn stop(mut self) -> Deregistration {
        let registration = self.registration.take().expect("the instance is registered");
        let result = self.runtime().spawn(registration.deregister()).await.expect("it deregisters");
        self.closing.cancel();
        self.close_port();
        // A connection that the client keeps alive may remain; it ends with the runtime.
        let _ = timeout(DRAIN_TIMEOUT, &mut self.server).await;
        result
    }

    /// Ends the port, then at once the connections and the lease renewals. The kernel closes a killed process in this
    /// order, and without a pause: a connection that outlives others would end a retry of HAProxy, which closes the
    /// client's connection without an answer when that was the last retry.
    pub fn crash(self) {
        self.close_port();
        for connection in self.connections.lock().expect("no connection panicked").drain(..) {
            // It may have ended already.
            let _ = connection.shutdown(Shutdown::Both);
        }
        drop(self);
    }

    fn close_port(&self) {
        self.port.shutdown(Shutdown::Both).expect("the port is open");
    }

    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }
}

/// Returns a second handle of a socket.
fn socket_of(socket: &impl AsFd) -> std::net::TcpStream {
    socket.as_fd().try_clone_to_owned().expect("a file descriptor is free").into()
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A service that answers `/api/<name>`.
fn definition(service: &str) -> ServiceDefinition {
    let location = format!("/api/{service}");
    let location: &[&str] = if service == "monolith" { &[] } else { &[&location] };
    ServiceDefinition::public(service, location)
}
