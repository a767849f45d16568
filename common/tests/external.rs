//! Engines of somebody else: a cluster of etcd, and a PostgreSQL with TLS.

use std::{
    fs::{self, File},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use flack_common::{
    config::{DatabaseConfig, RegistryConfig},
    database,
    registry::Registry,
};
use flack_testing::{eventually, free_port};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const MEMBERS: usize = 3;

/// A process that is killed at the end of a test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Etcd {
    folder: TempDir,
    clients: [u16; MEMBERS],
    peers: [u16; MEMBERS],
    processes: [Option<Process>; MEMBERS],
}

impl Etcd {
    fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let ports = || [(); MEMBERS].map(|()| free_port());
        let mut etcd = Self { folder, clients: ports(), peers: ports(), processes: [const { None }; MEMBERS] };
        for member in 0..MEMBERS {
            etcd.run(member);
        }
        etcd
    }

    fn run(&mut self, member: usize) {
        let url = |port| format!("http://127.0.0.1:{port}");
        let (client, peer) = (url(self.clients[member]), url(self.peers[member]));
        let all: Vec<String> = (0..MEMBERS).map(|other| format!("m{other}={}", url(self.peers[other]))).collect();
        let mut command = Command::new("etcd");
        command
            .args(["--name", &format!("m{member}"), "--data-dir"])
            .arg(self.folder.path().join(member.to_string()))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &all.join(","), "--unsafe-no-fsync"])
            .stdout(Stdio::null())
            .stderr(File::create(self.folder.path().join(format!("{member}.log"))).expect("a log"));
        self.processes[member] = Some(Process(command.spawn().expect("this test needs etcd: install etcd-server")));
    }

    fn registry(&self) -> Registry {
        let urls: Vec<String> = self.clients.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        Registry::open_lazily(&RegistryConfig::without_credentials(urls.join(",")), CancellationToken::new())
    }
}

#[tokio::test]
async fn the_registry_works_while_any_one_member_of_a_cluster_is_down() {
    let mut etcd = Etcd::start();
    let (writer, reader) = (etcd.registry(), etcd.registry());
    eventually("the cluster", async || writer.put("/flack/routes/a", "0", None).await.is_ok()).await;
    let mirror = reader.mirror("/flack/routes/").await.expect("a copy");
    for member in 0..MEMBERS {
        etcd.processes[member] = None;
        let value = format!("without {member}");
        // The other two may elect a leader first.
        eventually("a write", async || writer.put("/flack/routes/a", value.as_str(), None).await.is_ok()).await;
        eventually("the copy", async || mirror.snapshot().get("/flack/routes/a") == Some(&value)).await;
        assert_eq!(reader.get("/flack/routes/a").await.expect("an answer"), Some(value));
        etcd.run(member);
        let port = etcd.clients[member];
        let rejoined = async || {
            let member = RegistryConfig::without_credentials(format!("http://127.0.0.1:{port}"));
            Registry::open_lazily(&member, CancellationToken::new()).get("/flack/routes/a").await.is_ok()
        };
        eventually("the member", rejoined).await;
    }
}

/// Starts a PostgreSQL with TLS, as the user `postgres` if the test runs as root.
fn postgres(folder: &Path, port: u16) -> Process {
    let programs = fs::read_dir("/usr/lib/postgresql").expect("this test needs PostgreSQL: install postgresql");
    let programs = programs.map(|version| version.expect("a version").path().join("bin")).max().expect("a version");
    let is_root = nix::unistd::geteuid().is_root();
    let command = |program: &str| {
        let program: PathBuf = programs.join(program);
        let mut command = Command::new(if is_root { Path::new("setpriv") } else { &program });
        if is_root {
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(&program);
        }
        command.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    if is_root {
        let owned = Command::new("chown").arg("-R").arg("postgres:postgres").arg(folder).status();
        assert!(owned.expect("chown").success());
    }
    let created = command("initdb").args(["--auth=trust", "--no-sync", "--username=users", "-D", "data"]).status();
    assert!(created.expect("initdb").success());
    fs::write(folder.join("data/pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust\n").expect("written");
    let mut server = command("postgres");
    server.args(["-D", "data", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "ssl=on"]);
    server.args([
        "-c",
        "ssl_cert_file=../server.pem",
        "-c",
        "ssl_key_file=../server.key",
        "-c",
        &format!("port={port}"),
    ]);
    Process(server.spawn().expect("postgres"))
}

/// Issues a certificate for `localhost`; returns the path of its CA's.
fn issue(folder: &Path, name: &str) -> PathBuf {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let file = folder.join(format!("{name}-ca.pem"));
    fs::write(&file, params.self_signed(&key).expect("a certificate").pem()).expect("written");
    let ca = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &ca).expect("a certificate").pem();
    fs::write(folder.join(format!("{name}.pem")), certificate).expect("written");
    let private = folder.join(format!("{name}.key"));
    fs::write(&private, key.serialize_pem()).expect("written");
    fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).expect("permissions");
    file
}

#[tokio::test]
async fn a_database_with_tls_is_used_only_if_its_certificate_is_right() {
    let folder = TempDir::new().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let ca = issue(folder.path(), "server");
    let other_ca = issue(folder.path(), "other");
    let port = free_port();
    let _server = postgres(folder.path(), port);
    eventually("PostgreSQL", async || TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let connect = async |host: &str, options: String| {
        let url = format!("postgres://users@{host}:{port}/postgres?{options}");
        let config = DatabaseConfig { url: url.into(), connections_max: 1 };
        database::connect(&config).await.map_err(|error| format!("{error:#}"))
    };
    let verified = |ca: &Path| format!("sslmode=verify-full&sslrootcert={}", ca.display());

    let pool = connect("localhost", verified(&ca)).await.expect("a connection");
    let query = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    assert!(sqlx::query_scalar::<_, bool>(query).fetch_one(&pool).await.expect("an answer"));

    let refused = |result: Result<sqlx::PgPool, String>| result.expect_err("it is refused");
    let error = refused(connect("localhost", verified(&other_ca)).await);
    assert!(error.contains("invalid peer certificate"), "{error}");
    // The certificate is for another name.
    let error = refused(connect("127.0.0.1", verified(&ca)).await);
    assert!(error.contains("not valid for name"), "{error}");
    let error = refused(connect("localhost", "sslmode=disable".to_owned()).await);
    assert!(error.contains("no encryption"), "{error}");
}
