//! Etcd: the registry. Both of its listeners accept only clients with a certificate of this stack. Each service has an
//! account that may write its own keys and read all of `/flack/`.

mod certificates;
mod accounts;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use flack_supervisor::Spec;

use crate::failure::Failure;
use crate::home::Home;
use crate::infra::programs;
use crate::ports::Ports;
use crate::probe;
use crate::supervisor::{self, inherited_environment, priority};

pub use accounts::{allow_signing, grant_signing, retire_passwords, set_up};
use certificates::{Files, ca};
pub use certificates::{expiries as certificate_expiries, issue as issue_certificates};

/// The account of `mf`, which may do everything.
const ROOT: &str = "root";
const DEADLINE: Duration = Duration::from_secs(5);

pub fn spec(home: &Home, ports: &Ports) -> Spec {
    let (client, peer) = (ports.etcd_url(), format!("https://127.0.0.1:{}", ports.etcd_peer));
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

/// Returns the variables with which an account's process connects.
pub fn client_environment(home: &Home, ports: &Ports, account: &str) -> Vec<(&'static str, String)> {
    let files = Files::client(home, account);
    let variables = [
        ("ETCD_URL", ports.etcd_url()),
        ("ETCD_CA_FILE", ca(home).display().to_string()),
        ("ETCD_CERT_FILE", files.certificate.display().to_string()),
        ("ETCD_KEY_FILE", files.key.display().to_string()),
    ];
    let server_name = ports.etcd_server_name().map(|name| ("ETCD_SERVER_NAME", name.to_owned()));
    variables.into_iter().chain(server_name).collect()
}

/// Returns the files of an account, by their names in its container: its certificate, and the CA's.
pub fn client_files(home: &Home, account: &str) -> [(&'static str, PathBuf); 3] {
    let Files { certificate, key } = Files::client(home, account);
    [("ca.pem", ca(home)), ("client.pem", certificate), ("client.key", key)]
}

/// Returns the files of the operator, by the names of their keys in Kubernetes.
pub fn operator_files(home: &Home) -> [(&'static str, PathBuf); 3] {
    let Files { certificate, key } = Files::client(home, ROOT);
    [("ca.pem", ca(home)), ("root.pem", certificate), ("root.key", key)]
}

/// Returns the files of etcd itself, by their names in its container.
pub fn server_files(home: &Home) -> [(&'static str, PathBuf); 5] {
    let (server, peer) = (Files::server(home), Files::peer(home));
    [
        ("ca.pem", ca(home)),
        ("server.pem", server.certificate),
        ("server.key", server.key),
        ("peer.pem", peer.certificate),
        ("peer.key", peer.key),
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

/// Returns the failure of a command whose request etcd has not answered.
pub fn unreachable(address: &str, problem: &str) -> Failure {
    failure!(
        Unavailable,
        "the registry (etcd) does not respond at {address} ({problem}). mfps shows what runs; mfup starts what \
         is missing"
    )
}

/// Returns the innermost cause of an error, such as "Connection refused".
pub fn cause(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = if let Error::GRpcStatus(status) = error { status } else { error };
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Whether an etcd runs that an earlier version of `mf` has started.
pub async fn runs_without_tls(ports: &Ports) -> bool {
    probe::is_ok(&format!("127.0.0.1:{}", ports.etcd), "/health").await
}

/// Returns a client with root's certificate. It connects at its first request.
pub async fn connect(home: &Home, ports: &Ports) -> Result<Client, Error> {
    let files = Files::client(home, ROOT);
    let mut tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(fs::read(ca(home))?))
        .identity(Identity::from_pem(fs::read(files.certificate)?, fs::read(files.key)?));
    if let Some(name) = ports.etcd_server_name() {
        tls = tls.domain_name(name);
    }
    let options = ConnectOptions::new().with_tls(tls).with_connect_timeout(DEADLINE).with_timeout(DEADLINE);
    let urls = ports.etcd_url();
    Client::connect(urls.split(',').collect::<Vec<_>>(), Some(options)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_in_a_container_has_the_same_options() {
        let files =
            [include_str!("../../../docker-compose.yml"), include_str!("../../../deploy/kubernetes/base/etcd.yaml")];
        let home = Home::at(std::path::Path::new("/nowhere")).expect("a home");
        for option in spec(&home, &Ports::in_containers()).args {
            // Paths differ, and addresses on which other containers connect.
            let is_own = option.contains("/nowhere") || option.starts_with("--listen-client-urls=");
            let (name, _) = option.split_once('=').filter(|_| is_own).unwrap_or((option.as_str(), ""));
            for (index, file) in files.iter().enumerate() {
                assert!(file.contains(&format!("- {name}")), "file {index} lacks {name}");
            }
        }
    }
}
