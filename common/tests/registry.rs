//! The registry client against a real etcd with authentication. A restart of etcd makes its tokens invalid; callers
//! must not get an error for that.

use std::{
    fs,
    net::TcpListener,
    process::Stdio,
    time::{Duration, Instant},
};

use etcd_client::{Client, Permission};
use flack_common::registry::{Credentials, Deregistration, Registry, ServiceDefinition, keys};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

const WAIT_MAX: Duration = Duration::from_secs(20);

async fn wait_for<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < WAIT_MAX, "waited {WAIT_MAX:?} for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Etcd {
    dir: TempDir,
    client: String,
    peer: String,
    child: Option<Child>,
}

fn free_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("it is bound"))
}

impl Etcd {
    /// Starts etcd with one user, `users`, that has the permissions of a service.
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut etcd = Self { dir, client: free_url(), peer: free_url(), child: None };
        etcd.run();
        let open = etcd.as_user(None);
        wait_for("etcd to answer", async || open.get("/flack/").await.is_ok()).await;
        etcd.add_users().await.expect("etcd accepts users");
        etcd
    }

    fn run(&mut self) {
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.dir.path().join("etcd"))
            .args(["--listen-client-urls", &self.client, "--advertise-client-urls", &self.client])
            .args(["--listen-peer-urls", &self.peer, "--initial-advertise-peer-urls", &self.peer])
            .args(["--initial-cluster", &format!("default={}", self.peer), "--unsafe-no-fsync"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.dir.path().join("etcd.log")).expect("a log file"))
            .kill_on_drop(true)
            .spawn()
            .expect("etcd is installed");
        self.child = Some(child);
    }

    async fn kill(&mut self) {
        self.child.take().expect("it runs").kill().await.expect("it can be killed");
    }

    async fn add_users(&self) -> Result<(), etcd_client::Error> {
        let mut client = Client::connect([&self.client], None).await?;
        client.role_add("users").await?;
        for permission in [
            Permission::read("/flack/").with_prefix(),
            Permission::read_write(keys::service("users")),
            Permission::read_write(format!("{}/", keys::service("users"))).with_prefix(),
        ] {
            client.role_grant_permission("users", permission).await?;
        }
        for name in ["root", "users"] {
            client.user_add(name, format!("{name}-password"), None).await?;
            client.user_grant_role(name, name).await?;
        }
        client.auth_enable().await?;
        Ok(())
    }

    fn as_user(&self, user: Option<&str>) -> Registry {
        self.as_user_until(user, CancellationToken::new())
    }

    fn as_user_until(&self, user: Option<&str>, stopping: CancellationToken) -> Registry {
        let credentials =
            user.map(|user| Credentials { user: user.to_owned(), password: format!("{user}-password").into() });
        Registry::open_lazily(&self.client, credentials, stopping)
    }
}

fn users() -> ServiceDefinition {
    ServiceDefinition::public("users", &["/api/users"])
}

#[tokio::test]
async fn mirror_registration_and_requests_work_again_after_a_kill_of_etcd_and_the_loss_of_its_tokens() {
    let mut etcd = Etcd::start().await;
    let root = etcd.as_user(Some("root"));
    let registry = etcd.as_user(Some("users"));
    let registration = registry.register(&users(), "users-1", "127.0.0.1:1", "1").await;
    assert!(registration.is_registered());
    let mirror = registry.mirror(keys::SERVICES).await.expect("etcd is there");
    assert_eq!(mirror.snapshot().len(), 2, "the service and its instance");

    etcd.kill().await;
    wait_for("the loss to be detected", async || !mirror.is_current() && !registration.is_registered()).await;
    assert_eq!(mirror.snapshot().len(), 2, "the last copy is kept");
    let error = registry.get(keys::ROOT).await.expect_err("etcd is unavailable");
    assert!(error.to_string().contains("is unavailable"), "{error}");

    etcd.run();
    wait_for("the mirror to be current", async || mirror.is_current()).await;
    wait_for("the instance to be registered again", async || registration.is_registered()).await;
    root.put(&keys::service("ui"), "{}", None).await.expect("etcd is back");
    wait_for("the mirror to follow", async || mirror.snapshot().contains_key(&keys::service("ui"))).await;
    registry.get(keys::ROOT).await.expect("the client gets a new token");
}

#[tokio::test]
async fn an_instance_whose_lease_has_expired_registers_again() {
    let etcd = Etcd::start().await;
    let registry = etcd.as_user(Some("users"));
    let _registration = registry.register(&users(), "users-1", "127.0.0.1:1", "1").await;
    let options = etcd_client::ConnectOptions::new().with_user("root", "root-password");
    let mut root = Client::connect([&etcd.client], Some(options)).await.expect("etcd is there");
    let lease = root.get(keys::instance("users", "users-1"), None).await.expect("it is readable").kvs()[0].lease();
    root.lease_revoke(lease).await.expect("root has the permission");
    let key = keys::instance("users", "users-1");
    wait_for("the entry to exist again", async || registry.get(&key).await.is_ok_and(|entry| entry.is_some())).await;
}

#[tokio::test]
async fn a_draining_instance_waits_for_the_balancer_although_its_process_is_stopping() {
    let etcd = Etcd::start().await;
    let root = etcd.as_user(Some("root"));
    let stopping = CancellationToken::new();
    let registry = etcd.as_user_until(Some("users"), stopping.clone());
    let registration = registry.register(&users(), "users-1", "127.0.0.1:1", "1").await;
    let acknowledgement = keys::balancer("users", "users-1");
    root.put(&acknowledgement, r#"{"state":"up"}"#, None).await.expect("root has the permission");

    stopping.cancel();
    let deregistering = tokio::spawn(registration.deregister());
    let key = keys::instance("users", "users-1");
    wait_for("the entry to be draining", async || {
        root.get(&key).await.is_ok_and(|entry| entry.is_some_and(|entry| entry.contains("draining")))
    })
    .await;
    assert!(!deregistering.is_finished(), "the balancer still sends requests");
    root.delete(&acknowledgement).await.expect("root has the permission");
    assert_eq!(deregistering.await.expect("no panic"), Deregistration::Confirmed);
    assert_eq!(root.get(&key).await.expect("etcd is there"), None);
}

#[tokio::test]
async fn a_write_without_permission_is_refused_with_the_reason() {
    let etcd = Etcd::start().await;
    let registry = etcd.as_user(Some("users"));
    let error = registry.put(&keys::route("users"), "{}", None).await.expect_err("a service may not write routes");
    assert!(error.to_string().contains("permission denied"), "{error}");
}
