use std::{fs::File, net::TcpListener, path::Path, process::Stdio};

use flack_common::registry::{Registry, Route, keys};
use flack_haproxy::admin_socket::AdminSocket;
use reqwest::Response;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::{Mutex, MutexGuard},
};
use tokio_util::sync::CancellationToken;

use super::{Instance, wait_for};

/// One test at a time.
static TURN: Mutex<()> = Mutex::const_new(());

pub struct Stack {
    pub registry: Registry,
    pub admin: AdminSocket,
    pub http: reqwest::Client,
    pub public: String,
    pub internal: String,
    pub stats: String,
    pub etcd_url: String,
    pub dir: TempDir,
    settings: Vec<(String, String)>,
    etcd_ports: (u16, u16),
    etcd: Option<Child>,
    agent: Option<Child>,
    haproxy: Option<Child>,
    _turn: MutexGuard<'static, ()>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

impl Stack {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts with the instance users-1, which gets all requests for `/api/users`.
    pub async fn start_with_users() -> (Self, Instance) {
        let stack = Self::start().await;
        stack.route("users", 100).await;
        let instance = Instance::start(&stack, "users", "users-1").await;
        stack.wait_for_instance("/api/users", "users-1").await;
        (stack, instance)
    }

    /// Starts with the instance monolith-1.
    pub async fn start_with_monolith() -> (Self, Instance) {
        let stack = Self::start().await;
        let instance = Instance::start(&stack, "monolith", "monolith-1").await;
        stack.wait_for_instance("/", "monolith-1").await;
        (stack, instance)
    }

    /// Starts with more environment variables for the agent.
    pub async fn start_with(more: &[(&str, &str)]) -> Self {
        let turn = TURN.lock().await;
        // A short name, because a socket path has at most 107 bytes.
        let dir = tempfile::Builder::new().prefix("fx").tempdir().expect("a temporary folder");
        let etcd_ports = (free_port(), free_port());
        let etcd_url = format!("http://127.0.0.1:{}", etcd_ports.0);
        let [public, internal, stats] = [(); 3].map(|()| format!("127.0.0.1:{}", free_port()));
        let mut settings: Vec<(String, String)> = [
            ("ETCD_URL", etcd_url.clone()),
            ("HAPROXY_DIR", dir.path().display().to_string()),
            ("PUBLIC_LISTEN", public.clone()),
            ("INTERNAL_LISTEN", internal.clone()),
            ("STATS_LISTEN", stats.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let registry = Registry::open_lazily(&etcd_url, None, CancellationToken::new());
        let mut stack = Self {
            registry,
            admin: AdminSocket::new(dir.path().join("admin.sock")),
            http: flack_common::http::client(),
            public: format!("http://{public}"),
            internal: format!("http://{internal}"),
            stats: format!("http://{stats}"),
            etcd_url,
            dir,
            settings,
            etcd_ports,
            etcd: None,
            agent: None,
            haproxy: None,
            _turn: turn,
        };
        stack.start_etcd().await;
        stack.start_agent();
        let configuration = stack.dir.path().join("haproxy.cfg");
        wait_for("the agent writes a configuration", async || configuration.exists()).await;
        stack.start_haproxy().await;
        stack
    }

    pub async fn start_etcd(&mut self) {
        let (client, peer) = self.etcd_ports;
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.dir.path().join("etcd"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args([
                "--initial-cluster",
                &format!("default={peer}"),
                "--unsafe-no-fsync",
                "--log-level",
                "error",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("etcd is installed");
        self.etcd = Some(child);
        wait_for("etcd answers", async || self.registry.get("/flack/").await.is_ok()).await;
    }

    pub async fn kill_etcd(&mut self) {
        kill(self.etcd.take()).await;
    }

    pub async fn wipe_etcd(&mut self) {
        self.kill_etcd().await;
        std::fs::remove_dir_all(self.dir.path().join("etcd")).expect("etcd has a folder");
    }

    pub fn start_agent(&mut self) {
        let child = Command::new(env!("CARGO_BIN_EXE_flack-haproxy-agent"))
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdout(log(self.dir.path(), "agent.log"))
            .stderr(log(self.dir.path(), "agent.err"))
            .kill_on_drop(true)
            .spawn()
            .expect("the agent was built");
        self.agent = Some(child);
    }

    pub async fn kill_agent(&mut self) {
        kill(self.agent.take()).await;
    }

    pub async fn start_haproxy(&mut self) {
        let program = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let child = Command::new(program.unwrap_or("haproxy"))
            .args(["-W", "-S", "unix@master.sock", "-f", "haproxy.cfg"])
            .current_dir(self.dir.path())
            .stdout(log(self.dir.path(), "haproxy.log"))
            .stderr(log(self.dir.path(), "haproxy.err"))
            .kill_on_drop(true)
            .spawn()
            .expect("haproxy is installed");
        self.haproxy = Some(child);
        wait_for("HAProxy answers", async || {
            self.get_url(format!("{}/health", self.stats)).await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    }

    pub async fn kill_haproxy(&mut self) {
        kill(self.haproxy.take()).await;
        // The worker ends when it notices that its master has ended.
        wait_for("HAProxy ends", async || self.get_url(format!("{}/health", self.stats)).await.is_err())
            .await;
    }

    pub async fn route(&self, service: &str, percentage: u8) {
        let route = Route { owner: service.to_owned(), percentage };
        let route = serde_json::to_string(&route).expect("a route is plain data");
        self.registry.put(&keys::route(service), route, None).await.expect("etcd answers");
    }

    /// Sends `GET` to the public listener.
    pub async fn get(&self, path: &str) -> reqwest::Result<Response> {
        self.get_url(format!("{}{path}", self.public)).await
    }

    pub async fn get_url(&self, url: String) -> reqwest::Result<Response> {
        self.http.get(url).send().await
    }

    /// Waits until this instance answers a path.
    pub async fn wait_for_instance(&self, path: &str, instance: &str) {
        wait_for(&format!("{instance} answers {path}"), async || {
            self.get(path).await.is_ok_and(|answer| answered_by(&answer) == instance)
        })
        .await;
    }

    pub async fn has_server(&self, server: &str) -> bool {
        let state = self.admin.send("show servers state").await.unwrap_or_default();
        state.contains(&format!(" {server} "))
    }

    pub fn haproxy_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("haproxy.log")).expect("HAProxy has a log")
    }
}

/// The instance that answered. Empty when HAProxy answered itself.
pub fn answered_by(answer: &Response) -> &str {
    answer.headers().get("x-flack-instance").and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn log(dir: &Path, name: &str) -> File {
    File::options().create(true).append(true).open(dir.join(name)).expect("a log file")
}

/// Sends SIGKILL.
async fn kill(child: Option<Child>) {
    child.expect("the process runs").kill().await.expect("it can be killed");
}
