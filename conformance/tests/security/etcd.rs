//! etcd: both listeners, without a certificate and with one that is not meant for them.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use etcd_client::{AlarmAction, AlarmType, Client, ConnectOptions, GetOptions, Identity, TlsOptions};
use flack_conformance::{
    cases,
    client::Auth,
    stack::Stack,
    suite::{Case, World},
};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use crate::attacker::{self, Certificate};

pub fn cases() -> Vec<Case> {
    cases![
        etcd_answers_no_http_request_without_a_certificate,
        etcd_accepts_no_grpc_request_without_a_certificate,
        a_proposal_sent_to_etcds_peer_listener_writes_nothing,
        a_services_certificate_cannot_change_accounts_or_read_everything,
        the_monolith_may_not_write_signing_keys_and_revocations_while_tokens_owns_them,
    ]
}

const TIMEOUT: Duration = Duration::from_secs(5);
const JWKS: &str = "/flack/jwks/";
const REVOKED: &str = "/flack/revoked/";

/// The client certificate of an account, as a process of the stack gets it.
struct Account {
    certificate: PathBuf,
    key: PathBuf,
}

impl Account {
    fn of(stack: &Stack, service: &str) -> Result<Self> {
        let environment: Value = serde_json::from_str(&stack.mf_ok(&["env", service, "--json"])?)?;
        let file = |name: &str| environment[name].as_str().map(PathBuf::from).with_context(|| format!("no {name}"));
        Ok(Self { certificate: file("ETCD_CERT_FILE")?, key: file("ETCD_KEY_FILE")? })
    }

    /// The account of `mf`.
    fn root(stack: &Stack) -> Self {
        let file = |name| stack.home().join("secrets/etcd").join(name);
        Self { certificate: file("root.pem"), key: file("root.key") }
    }

    fn as_certificate(&self) -> Certificate<'_> {
        Certificate { certificate: &self.certificate, key: &self.key }
    }

    async fn connect(&self, stack: &Stack) -> Result<Client> {
        let identity = Identity::from_pem(std::fs::read(&self.certificate)?, std::fs::read(&self.key)?);
        connect(stack, Some(identity)).await
    }
}

/// Connects with TLS. The client connects at its first request.
async fn connect(stack: &Stack, identity: Option<Identity>) -> Result<Client> {
    let ca = std::fs::read(stack.home().join("secrets/etcd/ca.pem"))?;
    let mut tls = TlsOptions::new().ca_certificate(etcd_client::Certificate::from_pem(ca));
    if let Some(identity) = identity {
        tls = tls.identity(identity);
    }
    let options = ConnectOptions::new().with_tls(tls).with_connect_timeout(TIMEOUT).with_timeout(TIMEOUT);
    Ok(Client::connect([format!("https://127.0.0.1:{}", stack.etcd_port())], Some(options)).await?)
}

async fn etcd_answers_no_http_request_without_a_certificate(World { stack, .. }: World) -> Result<()> {
    for port in [stack.etcd_port(), stack.etcd_peer_port()] {
        for scheme in ["http", "https"] {
            for path in ["/health", "/metrics", "/version", "/members", "/raft", "/v3/kv/range", "/debug/vars"] {
                let url = format!("{scheme}://127.0.0.1:{port}{path}");
                let answer = attacker::request(Method::GET, &url, None, &[], Vec::new()).await?;
                // HTTP to a TLS port may be answered, by the TLS library, with 400.
                let is_refused = answer.as_ref().is_none_or(|answer| answer.status == 400);
                ensure!(is_refused, "{url}: {answer:?}");
            }
        }
    }
    Ok(())
}

async fn etcd_accepts_no_grpc_request_without_a_certificate(World { stack, .. }: World) -> Result<()> {
    let plain = ConnectOptions::new().with_connect_timeout(TIMEOUT).with_timeout(TIMEOUT);
    let plain = Client::connect([format!("http://127.0.0.1:{}", stack.etcd_port())], Some(plain)).await?;
    for mut client in [plain, connect(&stack, None).await?] {
        ensure!(client.get("/flack/", None).await.is_err(), "a read was accepted");
        ensure!(client.compact(1, None).await.is_err(), "a compaction was accepted");
        ensure!(client.lease_grant(60, None).await.is_err(), "a lease was granted");
        let alarm = client.alarm(AlarmAction::Activate, AlarmType::Nospace, None).await;
        ensure!(alarm.is_err(), "an alarm was accepted, which stops all writes");
    }
    Ok(())
}

/// A peer may do everything: its proposals name any user. The attack of issue 10 wrote a signing key in this way.
async fn a_proposal_sent_to_etcds_peer_listener_writes_nothing(World { stack, .. }: World) -> Result<()> {
    let key = format!("{JWKS}{}", Uuid::new_v4());
    let ports = [stack.etcd_peer_port(), stack.etcd_port()];
    for (scheme, port) in ["http", "https"].into_iter().flat_map(|scheme| ports.map(|port| (scheme, port))) {
        propose(&format!("{scheme}://127.0.0.1:{port}"), None, &key).await?;
    }
    let (users, root) = (Account::of(&stack, "users")?, Account::root(&stack));
    for account in [&users, &root] {
        for port in ports {
            propose(&format!("https://127.0.0.1:{port}"), Some(account.as_certificate()), &key).await?;
        }
    }
    // A write of ours comes after every proposal before it.
    let mut root = root.connect(&stack).await?;
    root.put("/flack-test", "", None).await?;
    ensure!(root.get(key.as_str(), None).await?.count() == 0, "an attacker wrote {key}");
    Ok(())
}

/// Sends the proposal; fails when it is accepted.
async fn propose(base: &str, certificate: Option<Certificate<'_>>, key: &str) -> Result<()> {
    // The peer listener gives everybody the ids that a proposal needs.
    let url = format!("{base}/members");
    let members = attacker::request(Method::GET, &url, certificate, &[], Vec::new()).await?;
    let (cluster, member) = members.as_ref().and_then(ids).unwrap_or_default();
    let headers = [
        ("x-etcd-cluster-id", cluster),
        ("x-server-version", "3.4.0".to_owned()),
        ("x-min-cluster-version", "3.0.0".to_owned()),
    ];
    let url = format!("{base}/raft");
    let answer = attacker::request(Method::POST, &url, certificate, &headers, proposal(member, key)).await?;
    let is_refused = answer.as_ref().is_none_or(|answer| matches!(answer.status, 400 | 404));
    ensure!(is_refused, "{url}: {answer:?}");
    Ok(())
}

/// Returns the ids of the cluster and of its first member.
fn ids(members: &attacker::Answer) -> Option<(String, u64)> {
    let cluster = members.headers.get("x-etcd-cluster-id")?.to_str().ok()?.to_owned();
    let members: Value = serde_json::from_slice(&members.body).ok()?;
    Some((cluster, members[0]["id"].as_u64()?))
}

/// Returns a raft message (`raftpb.Message`) with a proposal to write a key as root.
fn proposal(member: u64, key: &str) -> Vec<u8> {
    const MESSAGE_TYPE_PROPOSAL: u64 = 2;
    /// Larger than every revision of etcd's accounts, so that it is not refused as old.
    const AUTH_REVISION: u64 = 1 << 40;
    let header = [number(1, 1), bytes(2, b"root"), number(3, AUTH_REVISION)].concat();
    let put = [bytes(1, key.as_bytes()), bytes(2, b"{}")].concat();
    let request = [bytes(100, &header), bytes(4, &put)].concat();
    let entry = bytes(4, &request);
    [number(1, MESSAGE_TYPE_PROPOSAL), number(2, member), number(3, member), bytes(7, &entry)].concat()
}

/// Encodes a number as a field of a protobuf message.
fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// Encodes bytes or a nested message as a field of a protobuf message.
fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut encoded = Vec::new();
    while value >= 0x80 {
        encoded.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    encoded.push((value & 0x7f) as u8);
    encoded
}

async fn a_services_certificate_cannot_change_accounts_or_read_everything(World { stack, .. }: World) -> Result<()> {
    let mut users = Account::of(&stack, "users")?.connect(&stack).await?;
    users.get("/flack/routes/users", None).await.context("a service reads routes")?;
    ensure!(users.get("", Some(GetOptions::new().with_all_keys())).await.is_err(), "users reads every key");
    ensure!(users.user_grant_role("users", "root").await.is_err(), "users becomes root");
    ensure!(users.auth_disable().await.is_err(), "users disables authentication");
    let snapshot = async { users.snapshot().await?.message().await };
    ensure!(snapshot.await.is_err(), "users reads a snapshot of the whole data");
    for key in ["/flack/authority/tokens", "/flack/routes/users", JWKS, "/flack/services/tokens/tokens-1"] {
        ensure!(users.put(key, "{}", None).await.is_err(), "users writes {key}");
    }
    Ok(())
}

async fn the_monolith_may_not_write_signing_keys_and_revocations_while_tokens_owns_them(
    World { stack, client }: World,
) -> Result<()> {
    let mut monolith = Account::of(&stack, "monolith")?.connect(&stack).await?;
    for prefix in [JWKS, REVOKED] {
        let key = format!("{prefix}{}", Uuid::new_v4());
        let error = monolith.put(key.as_str(), "{}", None).await.err().with_context(|| format!("it wrote {key}"))?;
        ensure!(error.to_string().contains("permission denied"), "{error}");
    }
    let deleted = monolith.delete(JWKS, Some(etcd_client::DeleteOptions::new().with_prefix())).await;
    ensure!(deleted.is_err(), "the monolith deletes the keys of tokens");

    // tokens signs and revokes, and the monolith reads both.
    let person = client.person("signer").await?;
    let revoke = client.request(Method::DELETE, "/api/tokens", Auth::Token(&person.token));
    client.send(revoke, StatusCode::NO_CONTENT).await?;
    for prefix in [JWKS, REVOKED] {
        let entries = monolith.get(prefix, Some(GetOptions::new().with_prefix())).await?;
        ensure!(entries.count() > 0, "tokens has written nothing below {prefix}");
    }
    Ok(())
}
