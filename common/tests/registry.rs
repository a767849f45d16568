//! The registry client against a real etcd with authentication, by certificates or by passwords. A restart of etcd
//! makes tokens of passwords invalid; callers must not get an error for that.

use std::{fs, net::TcpListener, path::PathBuf, process::Stdio, time::Duration};

use etcd_client::{Client, Permission, UserAddOptions};
use flack_common::{
    config::RegistryConfig,
    registry::{Deregistration, InstanceEntry, Registry, ServiceDefinition, keys},
};
use flack_testing::eventually_within;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

const WAIT_MAX: Duration = Duration::from_mins(1);
const ACCOUNTS: [&str; 2] = ["root", "users"];

/// How etcd recognizes a client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Certificates,
    Passwords,
}

struct Etcd {
    dir: TempDir,
    access: Access,
    client: String,
    peer: String,
    child: Option<Child>,
}

impl Etcd {
    async fn start() -> Self {
        Self::start_with(Access::Certificates).await
    }

    /// Starts etcd with one user, `users`, that has the permissions of a service.
    async fn start_with(access: Access) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let address = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let url = |scheme: &str| format!("{scheme}://{}", address().expect("a free port"));
        let client = url(if access == Access::Certificates { "https" } else { "http" });
        let mut etcd = Self { dir, access, client, peer: url("http"), child: None };
        if access == Access::Certificates {
            etcd.issue_certificates();
        }
        etcd.run();
        let root = connect(&etcd.config(None, "root"));
        eventually_within(WAIT_MAX, "etcd to answer", async || root.get("/flack/").await.is_ok()).await;
        etcd.add_users().await.expect("etcd accepts users");
        etcd
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn issue_certificates(&self) {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        fs::write(self.file("ca.pem"), params.self_signed(&key).expect("a certificate").pem()).expect("written");
        let ca = Issuer::new(params, key);
        let issue = |name: &str, host: Option<&str>, purpose| {
            let hosts: Vec<String> = host.map(str::to_owned).into_iter().collect();
            let mut params = CertificateParams::new(hosts).expect("parameters");
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![purpose];
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &ca).expect("a certificate");
            fs::write(self.file(&format!("{name}.pem")), certificate.pem()).expect("written");
            fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).expect("written");
        };
        issue("server", Some("127.0.0.1"), ExtendedKeyUsagePurpose::ServerAuth);
        for account in ACCOUNTS {
            issue(account, None, ExtendedKeyUsagePurpose::ClientAuth);
        }
    }

    fn run(&mut self) {
        let mut command = Command::new("etcd");
        command
            .arg("--data-dir")
            .arg(self.file("etcd"))
            .args(["--listen-client-urls", &self.client, "--advertise-client-urls", &self.client])
            .args(["--listen-peer-urls", &self.peer, "--initial-advertise-peer-urls", &self.peer])
            .args(["--initial-cluster", &format!("default={}", self.peer), "--unsafe-no-fsync"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.file("etcd.log")).expect("a log file"))
            .kill_on_drop(true);
        if self.access == Access::Certificates {
            command.args(["--client-cert-auth", "--enable-grpc-gateway=false", "--trusted-ca-file"]);
            command.arg(self.file("ca.pem")).arg("--cert-file").arg(self.file("server.pem"));
            command.arg("--key-file").arg(self.file("server.key"));
        }
        self.child = Some(command.spawn().expect("etcd is installed"));
    }

    async fn kill(&mut self) {
        self.child.take().expect("it runs").kill().await.expect("it can be killed");
    }

    async fn root(&self) -> Client {
        let options = match self.access {
            Access::Passwords => etcd_client::ConnectOptions::new().with_user("root", "root-password"),
            Access::Certificates => {
                let read = |name: &str| fs::read(self.file(name)).expect("a file");
                let tls = etcd_client::TlsOptions::new()
                    .ca_certificate(etcd_client::Certificate::from_pem(read("ca.pem")))
                    .identity(etcd_client::Identity::from_pem(read("root.pem"), read("root.key")));
                etcd_client::ConnectOptions::new().with_tls(tls)
            }
        };
        Client::connect([&self.client], Some(options)).await.expect("etcd is there")
    }

    async fn add_users(&self) -> Result<(), etcd_client::Error> {
        let mut client = match self.access {
            Access::Passwords => Client::connect([&self.client], None).await?,
            Access::Certificates => self.root().await,
        };
        client.role_add("users").await?;
        for permission in [
            Permission::read("/flack/").with_prefix(),
            Permission::read_write(keys::service("users")),
            Permission::read_write(format!("{}/", keys::service("users"))).with_prefix(),
        ] {
            client.role_grant_permission("users", permission).await?;
        }
        for name in ACCOUNTS {
            match self.access {
                Access::Passwords => client.user_add(name, format!("{name}-password"), None).await?,
                Access::Certificates => client.user_add(name, "", Some(UserAddOptions::new().with_no_pwd())).await?,
            };
            client.user_grant_role(name, name).await?;
        }
        client.auth_enable().await?;
        Ok(())
    }

    fn config(&self, user: Option<&str>, certificate: &str) -> RegistryConfig {
        let file = |extension| Some(self.file(&format!("{certificate}.{extension}")));
        match self.access {
            Access::Certificates => RegistryConfig {
                ca_file: Some(self.file("ca.pem")),
                cert_file: file("pem"),
                key_file: file("key"),
                ..RegistryConfig::without_credentials(&self.client)
            },
            Access::Passwords => RegistryConfig {
                user: user.map(str::to_owned),
                password: user.map(|user| format!("{user}-password").into()),
                ..RegistryConfig::without_credentials(&self.client)
            },
        }
    }

    fn as_user(&self, user: &str) -> Registry {
        connect(&self.config(Some(user), user))
    }
}

fn connect(config: &RegistryConfig) -> Registry {
    Registry::open_lazily(config, CancellationToken::new())
}

fn users() -> ServiceDefinition {
    ServiceDefinition::public("users", &["/api/users"])
}

#[tokio::test]
async fn mirror_registration_and_requests_work_again_after_a_kill_of_etcd() {
    work_again_after_a_kill(Etcd::start().await).await;
}

#[tokio::test]
async fn mirror_registration_and_requests_work_again_after_the_loss_of_etcds_tokens() {
    work_again_after_a_kill(Etcd::start_with(Access::Passwords).await).await;
}

async fn work_again_after_a_kill(mut etcd: Etcd) {
    let root = etcd.as_user("root");
    let registry = etcd.as_user("users");
    let registration = registry.register(&users(), "users-1", InstanceEntry::new("127.0.0.1:1", "1")).await;
    assert!(registration.is_registered());
    let mirror = registry.mirror(keys::SERVICES).await.expect("etcd is there");
    assert_eq!(mirror.snapshot().len(), 2, "the service and its instance");

    etcd.kill().await;
    eventually_within(WAIT_MAX, "the loss to be detected", async || {
        !mirror.is_current() && !registration.is_registered()
    })
    .await;
    assert_eq!(mirror.snapshot().len(), 2, "the last copy is kept");
    let error = registry.get(keys::ROOT).await.expect_err("etcd is unavailable");
    assert!(error.to_string().contains("is unavailable"), "{error}");

    etcd.run();
    eventually_within(WAIT_MAX, "the mirror to be current", async || mirror.is_current()).await;
    eventually_within(WAIT_MAX, "the instance to be registered again", async || registration.is_registered()).await;
    root.put(&keys::service("ui"), "{}", None).await.expect("etcd is back");
    eventually_within(WAIT_MAX, "the mirror to follow", async || mirror.snapshot().contains_key(&keys::service("ui")))
        .await;
    registry.get(keys::ROOT).await.expect("the client connects again");
}

#[tokio::test]
async fn an_instance_whose_lease_has_expired_registers_again() {
    let etcd = Etcd::start().await;
    let registry = etcd.as_user("users");
    let _registration = registry.register(&users(), "users-1", InstanceEntry::new("127.0.0.1:1", "1")).await;
    let mut root = etcd.root().await;
    let lease = root.get(keys::instance("users", "users-1"), None).await.expect("it is readable").kvs()[0].lease();
    root.lease_revoke(lease).await.expect("root has the permission");
    let key = keys::instance("users", "users-1");
    eventually_within(WAIT_MAX, "the entry to exist again", async || {
        registry.get(&key).await.is_ok_and(|entry| entry.is_some())
    })
    .await;
}

#[tokio::test]
async fn a_draining_instance_waits_for_the_balancer_although_its_process_is_stopping() {
    let etcd = Etcd::start().await;
    let root = etcd.as_user("root");
    let stopping = CancellationToken::new();
    let registry = Registry::open_lazily(&etcd.config(Some("users"), "users"), stopping.clone());
    let registration = registry.register(&users(), "users-1", InstanceEntry::new("127.0.0.1:1", "1")).await;
    let acknowledgement = keys::balancer("users", "users-1");
    root.put(&acknowledgement, r#"{"state":"up"}"#, None).await.expect("root has the permission");

    stopping.cancel();
    let deregistering = tokio::spawn(registration.deregister());
    let key = keys::instance("users", "users-1");
    eventually_within(WAIT_MAX, "the entry to be draining", async || {
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
    let registry = etcd.as_user("users");
    let error = registry.put(&keys::route("users"), "{}", None).await.expect_err("a service may not write routes");
    assert!(error.to_string().contains("permission denied"), "{error}");
}

#[tokio::test]
async fn a_client_without_its_certificate_is_refused_and_one_with_a_renewed_certificate_needs_no_restart() {
    let etcd = Etcd::start().await;
    let config = etcd.config(Some("users"), "users");
    let registry = connect(&RegistryConfig { cert_file: None, key_file: None, ..config.clone() });
    let error = registry.get(keys::ROOT).await.expect_err("there is no certificate");
    assert!(error.to_string().contains("is unavailable"), "{error}");

    let registry = connect(&config);
    let certificate = config.cert_file.clone().expect("a certificate");
    let moved = certificate.with_extension("moved");
    fs::rename(&certificate, &moved).expect("moved");
    let error = registry.get(keys::ROOT).await.expect_err("there is no file");
    assert!(error.to_string().contains("users.pem cannot be read"), "{error}");
    fs::rename(&moved, &certificate).expect("moved");
    eventually_within(WAIT_MAX, "the client reads its files again", async || registry.get(keys::ROOT).await.is_ok())
        .await;
}

#[tokio::test]
async fn no_request_fails_while_permissions_change() {
    let etcd = Etcd::start().await;
    let (registry, mut root) = (etcd.as_user("users"), etcd.root().await);
    let key = keys::instance("users", "users-1");
    for number in 0..100 {
        let change = root.role_grant_permission("users", Permission::read(format!("/other/{number}")));
        let (change, written) = tokio::join!(change, registry.put(&key, "{}", None));
        change.expect("root has the permission");
        written.expect("it is written");
    }
}
