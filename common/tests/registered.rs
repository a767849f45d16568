//! A registered process, with a real etcd; the test acts as the balancer.

use std::{
    net::TcpListener as StdListener,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::Router;
use chrono::Utc;
use flack_api::VerifyToken;
use flack_catalogue::Service;
use flack_common::{
    auth::{SigningKey, Verifier},
    config::RegistryConfig,
    process::{App, Background, Identity, Readiness, serve},
    registry::{InstanceEntry, Registry, ServiceDefinition, keys},
};
use flack_testing::eventually_within;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// The limit of each wait.
const WAIT_MAX: Duration = Duration::from_mins(1);
/// The time after which every process refuses a revoked token.
const REVOKED_WITHIN: Duration = Duration::from_millis(250);

/// An etcd for one test.
struct Etcd {
    config: RegistryConfig,
    _process: Child,
    _folder: TempDir,
}

impl Etcd {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = || StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (client, peer) = (format!("http://{}", free()), format!("http://{}", free()));
        let process = Command::new("etcd")
            .args(["--unsafe-no-fsync", "--log-level", "error", "--data-dir"])
            .arg(folder.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("etcd is needed for this test: install etcd-server");
        let config = RegistryConfig::without_credentials(client);
        Self { config, _process: process, _folder: folder }
    }

    async fn registry(&self, background: &Background) -> Registry {
        let connected = async {
            loop {
                match Registry::connect(&self.config, background).await {
                    Ok(registry) => return registry,
                    Err(_) => sleep(Duration::from_millis(50)).await,
                }
            }
        };
        timeout(WAIT_MAX, connected).await.expect("etcd did not start")
    }
}

#[tokio::test]
async fn an_instance_registers_when_it_is_ready_and_stops_when_the_balancer_sends_no_more_requests() {
    let etcd = Etcd::start();
    let observer = etcd.registry(&Background::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let identity = Identity {
        version: "2".to_owned(),
        commit: Some("4e57a53".to_owned()),
        weight: 7,
        ..Identity::new(ServiceDefinition::of(Service::named("users")), "users-1")
    };

    let (can_serve, config) = (Arc::new(AtomicBool::new(false)), etcd.config.clone());
    let gate = Arc::clone(&can_serve);
    let readiness = Readiness::new().check("gate", move || {
        let open = gate.load(Ordering::Relaxed);
        async move { if open { Ok(()) } else { anyhow::bail!("closed") } }
    });
    let process = tokio::spawn(serve(listener, shutdown.clone(), identity, |background| async move {
        let registry = Registry::connect(&config, &background).await?;
        Ok((App { router: Router::new(), readiness }, Some(registry)))
    }));

    let entry = keys::instance("users", "users-1");
    let ready = format!("http://{address}/ready");
    let http = flack_common::http::client();
    eventually_within(WAIT_MAX, "it serves", async || {
        http.get(&ready).send().await.is_ok_and(|answer| answer.status() == 503)
    })
    .await;
    assert_eq!(observer.get(&entry).await.unwrap(), None, "registered before it was ready");

    can_serve.store(true, Ordering::Relaxed);
    eventually_within(WAIT_MAX, "it is registered", async || observer.get(&entry).await.unwrap().is_some()).await;
    let registered = observer.get(&entry).await.unwrap();
    let value: InstanceEntry = serde_json::from_str(registered.as_ref().unwrap()).unwrap();
    assert_eq!((value.address, value.version, value.weight), (address.to_string(), "2".to_owned(), 7));
    assert_eq!(value.commit.as_deref(), Some("4e57a53"));
    let health = http.get(format!("http://{address}/health")).send().await.unwrap().json::<Value>().await.unwrap();
    assert_eq!((&health["version"], &health["commit"]), (&"2".into(), &"4e57a53".into()));

    let balancer = keys::balancer("users", "users-1");
    observer.put(&balancer, r#"{"state":"up"}"#, None).await.unwrap();
    shutdown.cancel();
    eventually_within(WAIT_MAX, "it is draining", async || observer.get(&entry).await.unwrap() != registered).await;
    let answer = http.get(&ready).send().await.expect("it answers while it drains");
    // For HAProxy 404 is not a failure: see `http-check disable-on-404` in haproxy.cfg.
    assert_eq!(answer.status(), 404);
    assert!(!process.is_finished());

    observer.delete(&balancer).await.unwrap();
    timeout(WAIT_MAX, process).await.expect("it did not end").unwrap().unwrap();
    assert_eq!(observer.get(&entry).await.unwrap(), None);
}

#[tokio::test]
async fn a_verifier_with_a_registry_follows_new_keys_and_revoked_tokens_at_once() {
    let etcd = Etcd::start();
    let background = Background::default();
    let registry = etcd.registry(&background).await;
    let verifier = Verifier::from_registry(&registry, &background).await.unwrap();

    let key = SigningKey::generate().unwrap();
    let hour = Duration::from_hours(1);
    let (token, token_id, _) = key.issue(17, Utc::now().timestamp(), hour);
    registry.put(&keys::jwk(key.key_id()), key.public_jwk().to_string(), None).await.unwrap();
    // Without a wait: a token can arrive before the event of its key.
    assert_eq!(verifier.verify_token(&token).await.unwrap().user_id, 17);

    registry.put(&keys::revoked(&token_id.to_string()), "{}", Some(hour)).await.unwrap();
    let revoked_at = Instant::now();
    eventually_within(WAIT_MAX, "the token is refused", async || verifier.verify_token(&token).await.is_err()).await;
    assert!(revoked_at.elapsed() < REVOKED_WITHIN, "it took {:?}", revoked_at.elapsed());

    let (other, ..) = key.issue(17, Utc::now().timestamp(), hour);
    verifier.verify_token(&other).await.unwrap();
}

#[tokio::test]
async fn an_instance_acknowledges_the_records_that_it_follows_until_it_deregisters() {
    let (etcd, background) = (Etcd::start(), Background::default());
    let registry = etcd.registry(&background).await;
    registry.acknowledge(r#"{"users":"1"}"#.to_owned());
    let service = ServiceDefinition::of(Service::named("users"));
    let registration = registry.register(&service, "users-1", InstanceEntry::new("127.0.0.1:1", "1")).await;
    let acknowledged = async || registry.get(&keys::acknowledged("users", "users-1")).await.unwrap();
    assert_eq!(acknowledged().await.as_deref(), Some(r#"{"users":"1"}"#), "before the balancer sends requests");
    registry.acknowledge(r#"{"users":"2"}"#.to_owned());
    eventually_within(WAIT_MAX, "the next record", async || {
        acknowledged().await.as_deref() == Some(r#"{"users":"2"}"#)
    })
    .await;
    registration.deregister().await;
    assert_eq!(acknowledged().await, None);
}
