//! Events in a cluster of three nats-servers with TLS, and streams with three replicas.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
};

use async_nats::{ConnectOptions, jetstream};
use flack_common::{
    config::EventsConfig,
    events::{Events, JetStream, StartOffset, prepare_stream},
};
use flack_testing::{eventually_within, free_port};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sqlx::PgPool;
use tempfile::TempDir;

use crate::things::{WAIT_MAX, database, insert, next_name, queue_length, read, relay};

const SERVERS: usize = 3;
const EVENTS_PER_FAULT: usize = 50;

struct Cluster {
    folder: TempDir,
    ports: [u16; SERVERS],
    processes: [Option<Child>; SERVERS],
}

impl Cluster {
    fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        issue_certificates(folder.path());
        let (ports, cluster): ([u16; SERVERS], [u16; SERVERS]) =
            ([(); _].map(|()| free_port()), [(); _].map(|()| free_port()));
        let path = folder.path().display();
        for server in 0..SERVERS {
            let routes = cluster.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
            let configuration = format!(
                "server_name: nats-{server}\nlisten: \"127.0.0.1:{}\"\n\
                 tls {{ cert_file: \"{path}/server.pem\", key_file: \"{path}/server.key\" }}\n\
                 jetstream {{ store_dir: \"{path}/{server}\" }}\n\
                 cluster {{ name: test, listen: \"127.0.0.1:{}\", routes: [{routes}], no_advertise: true }}\n",
                ports[server], cluster[server]
            );
            fs::write(folder.path().join(format!("{server}.conf")), configuration).expect("written");
        }
        let mut cluster = Self { folder, ports, processes: [const { None }; SERVERS] };
        for server in 0..SERVERS {
            cluster.run(server);
        }
        cluster
    }

    fn run(&mut self, server: usize) {
        let log = File::create(self.folder.path().join(format!("{server}.log"))).expect("a log");
        let mut command = Command::new("nats-server");
        command.arg("-c").arg(self.folder.path().join(format!("{server}.conf"))).stdout(Stdio::null()).stderr(log);
        self.processes[server] = Some(command.spawn().expect("this test needs nats-server: install nats-server"));
    }

    fn kill(&mut self, server: usize) {
        if let Some(mut process) = self.processes[server].take() {
            process.kill().expect("a running child");
            process.wait().expect("it ends");
        }
    }

    fn urls(&self) -> String {
        self.ports.map(|port| format!("tls://127.0.0.1:{port}")).join(",")
    }

    async fn events(&self) -> Events {
        let config = EventsConfig {
            ca_file: Some(self.folder.path().join("ca.pem")),
            ..EventsConfig::without_credentials(self.urls())
        };
        Events::JetStream(JetStream::connect(&config).await.expect("valid addresses"))
    }

    async fn administrator(&self) -> async_nats::Client {
        let options = ConnectOptions::new().add_root_certificates(self.folder.path().join("ca.pem"));
        let urls: Vec<String> = self.urls().split(',').map(str::to_owned).collect();
        options.require_tls(true).retry_on_initial_connect().connect(urls).await.expect("valid addresses")
    }

    /// The server that leads the stream; none during an election.
    async fn leader(&self, administrator: &async_nats::Client) -> Option<usize> {
        let stream = jetstream::new(administrator.clone()).get_stream("THINGS").await.ok()?;
        let leader = stream.cached_info().cluster.as_ref()?.leader.clone()?;
        (0..SERVERS).find(|server| leader == format!("nats-{server}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in 0..SERVERS {
            self.kill(server);
        }
    }
}

fn issue_certificates(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    fs::write(folder.join("ca.pem"), params.self_signed(&key).expect("a certificate").pem()).expect("written");
    let ca = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    fs::write(folder.join("server.pem"), params.signed_by(&key, &ca).expect("a certificate").pem()).expect("written");
    fs::write(folder.join("server.key"), key.serialize_pem()).expect("written");
}

#[sqlx::test(migrations = false)]
async fn every_event_arrives_once_and_in_order_while_each_server_of_a_cluster_is_killed(pool: PgPool) {
    database(&pool).await;
    let mut cluster = Cluster::start();
    let administrator = cluster.administrator().await;
    eventually_within(WAIT_MAX, "the stream", async || prepare_stream(&administrator, "things", SERVERS).await.is_ok())
        .await;
    let events = cluster.events().await;
    relay(&pool, &events);
    let (mut all, mut filtered) =
        (read(&events), events.subscribe("things", Some("thing_changed"), StartOffset::Earliest));

    let mut expected = Vec::new();
    // The leader first, then the one after it, and so on: after three faults each one was killed.
    eventually_within(WAIT_MAX, "a leader", async || cluster.leader(&administrator).await.is_some()).await;
    let first = cluster.leader(&administrator).await.expect("a leader");
    for fault in 0..SERVERS {
        let server = (first + fault) % SERVERS;
        for number in 0..EVENTS_PER_FAULT {
            if number == EVENTS_PER_FAULT / 2 {
                cluster.kill(server);
            }
            let name = format!("{fault}-{number}");
            insert(&pool, &name).await;
            expected.push(name);
        }
        eventually_within(WAIT_MAX, "the events to be stored", async || queue_length(&pool).await == 0).await;
        cluster.run(server);
        let others = async || {
            let stream = jetstream::new(administrator.clone()).get_stream("THINGS").await;
            stream.is_ok_and(|stream| {
                let replicas = stream.cached_info().cluster.as_ref().map(|cluster| cluster.replicas.clone());
                replicas.is_some_and(|replicas| {
                    replicas.len() == SERVERS - 1 && replicas.iter().all(|replica| replica.current && !replica.offline)
                })
            })
        };
        eventually_within(WAIT_MAX, "all replicas to be current", others).await;
    }
    for name in &expected {
        assert_eq!(&next_name(&mut all).await, name);
        assert_eq!(&next_name(&mut filtered).await, name);
    }
    // A subscription that begins now requests everything from the leader.
    let mut later = read(&events);
    for name in &expected {
        assert_eq!(&next_name(&mut later).await, name);
    }
}

#[tokio::test]
async fn a_server_whose_certificate_is_signed_by_another_ca_is_not_used() {
    let (cluster, other) = (Cluster::start(), TempDir::new().expect("a folder"));
    issue_certificates(other.path());
    let stranger = ConnectOptions::new().add_root_certificates(other.path().join("ca.pem")).require_tls(true);
    let trusted = cluster.administrator().await;
    eventually_within(WAIT_MAX, "a connection", async || {
        trusted.connection_state() == async_nats::connection::State::Connected
    })
    .await;
    let url = cluster.urls().split(',').next().expect("a URL").to_owned();
    let error = stranger.connect(url).await.expect_err("its certificate is not trusted");
    assert!(format!("{error:?}").contains("InvalidCertificate"), "{error:?}");
}
