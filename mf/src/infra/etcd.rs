//! Etcd: the registry. Both of its listeners accept only clients with a certificate of this stack. Each service has an
//! account that may write its own keys and read all of `/flack/`.

mod certificates;
mod accounts;

use std::fs;
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use flack_supervisor::Spec;

use crate::home::Home;
use crate::infra::programs;
use crate::ports::Ports;
use crate::probe;
use crate::supervisor::{self, inherited_environment, priority};

pub use accounts::{allow_signing, retire_passwords, set_up};
use certificates::{Files, ca};
pub use certificates::{expiries as certificate_expiries, issue as issue_certificates};

/// The account of `mf`, which may do everything.
const ROOT: &str = "root";
const DEADLINE: Duration = Duration::from_secs(5);

pub fn spec(home: &Home, ports: &Ports) -> Spec {
    let (client, peer) = (url(ports), format!("https://127.0.0.1:{}", ports.etcd_peer));
    let (server_files, peer_files) = (Files::server(home), Files::peer(home));
    let args = [
        "--name=flack",
        &format!("--data-dir={}", home.etcd().display()),
        &format!("--listen-client-urls={client}"),
        &format!("--advertise-client-urls={client}"),
        "--client-cert-auth",
        &format!("--trusted-ca-file={}", ca(home).display()),
        &format!("--cert-file={}", server_files.certificate.display()),
        &format!("--key-file={}", server_files.key.display()),
        // One member needs no peers, but etcd always listens for them, and a peer may do everything.
        &format!("--listen-peer-urls={peer}"),
        &format!("--initial-advertise-peer-urls={peer}"),
        &format!("--initial-cluster=flack={peer}"),
        "--peer-client-cert-auth",
        &format!("--peer-trusted-ca-file={}", peer_files.certificate.display()),
        &format!("--peer-cert-file={}", peer_files.certificate.display()),
        &format!("--peer-key-file={}", peer_files.key.display()),
        // The JSON gateway is not used.
        "--enable-grpc-gateway=false",
        // Leases change all the time; no watcher is disconnected for longer than an hour.
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=1h",
        "--logger=zap",
        "--log-outputs=stderr",
        "--log-level=warn",
    ];
    let mut env = inherited_environment();
    if cfg!(target_arch = "aarch64") {
        // Debian 12's etcd does not start on this architecture without it.
        env = env.with("ETCD_UNSUPPORTED_ARCH", "arm64");
    }
    Spec {
        args: args.iter().map(ToString::to_string).collect(),
        env,
        ..supervisor::spec("etcd", priority::STORE, programs::path("etcd"), home.path().to_path_buf())
    }
}

fn url(ports: &Ports) -> String {
    format!("https://127.0.0.1:{}", ports.etcd)
}

/// Returns the variables with which an account's process connects.
pub fn client_environment(home: &Home, ports: &Ports, account: &str) -> [(&'static str, String); 4] {
    let files = Files::client(home, account);
    [
        ("ETCD_URL", url(ports)),
        ("ETCD_CA_FILE", ca(home).display().to_string()),
        ("ETCD_CERT_FILE", files.certificate.display().to_string()),
        ("ETCD_KEY_FILE", files.key.display().to_string()),
    ]
}

/// Returns the reason if etcd cannot answer requests yet.
pub async fn ready(home: &Home, ports: &Ports) -> Result<(), String> {
    let status = async { connect(home, ports).await?.status().await };
    match status.await {
        Ok(status) if status.leader() == 0 => Err("it has elected no leader".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether an etcd runs that an earlier version of `mf` has started.
pub async fn runs_without_tls(ports: &Ports) -> bool {
    probe::is_ok(&format!("127.0.0.1:{}", ports.etcd), "/health").await
}

/// Returns a client with root's certificate. It connects at its first request.
pub async fn connect(home: &Home, ports: &Ports) -> Result<Client, Error> {
    let files = Files::client(home, ROOT);
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(fs::read(ca(home))?))
        .identity(Identity::from_pem(fs::read(files.certificate)?, fs::read(files.key)?));
    let options = ConnectOptions::new().with_tls(tls).with_connect_timeout(DEADLINE).with_timeout(DEADLINE);
    Client::connect([url(ports)], Some(options)).await
}
