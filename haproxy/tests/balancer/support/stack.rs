use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use flack_common::registry::{Registry, Route, keys};
use flack_handover::{
    Entry, Part, Record,
    protocol::{Acknowledged, BALANCER},
};
use flack_haproxy::admin_socket::AdminSocket;
use flack_testing::{Etcd, eventually};
use reqwest::Response;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::{Mutex, MutexGuard},
};

use super::Instance;

/// One test at a time.
static TURN: Mutex<()> = Mutex::const_new(());

pub struct Stack {
    pub registry: Registry,
    pub admin: AdminSocket,
    pub http: reqwest::Client,
    pub public: String,
    pub internal: String,
    pub stats: String,
    pub etcd: Etcd,
    pub dir: TempDir,
    settings: Vec<(String, String)>,
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
        let etcd = Etcd::start().await;
        let [public, internal, stats] = [(); 3].map(|()| format!("127.0.0.1:{}", free_port()));
        let mut settings: Vec<(String, String)> = [
            ("ETCD_URL", etcd.url().to_owned()),
            ("HAPROXY_DIR", dir.path().display().to_string()),
            ("PUBLIC_LISTEN", public.clone()),
            ("INTERNAL_LISTEN", internal.clone()),
            ("STATS_LISTEN", stats.clone()),
            // `Load` sends more than the defaults from one address.
            ("LIMIT_REQUESTS_PER_10S", "10000000".to_owned()),
            ("LIMIT_WRITES_PER_10S", "10000000".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut stack = Self {
            registry: etcd.registry(),
            admin: AdminSocket::new(dir.path().join("admin.sock")),
            http: flack_common::http::client(),
            public: format!("http://{public}"),
            internal: format!("http://{internal}"),
            stats: format!("http://{stats}"),
            etcd,
            dir,
            settings,
            agent: None,
            haproxy: None,
            _turn: turn,
        };
        stack.start_agent();
        let configuration = stack.dir.path().join("haproxy.cfg");
        eventually("the agent writes a configuration", async || configuration.exists()).await;
        stack.start_haproxy().await;
        stack
    }

    /// Starts a program in the stack's folder. Its output goes to `<name>.log` and `<name>.err` there.
    fn spawn(&self, name: &str, mut command: Command) -> Child {
        let log = |extension| {
            let path = self.dir.path().join(format!("{name}.{extension}"));
            File::options().create(true).append(true).open(path).expect("a log file")
        };
        let command = command.current_dir(self.dir.path()).stdout(log("log")).stderr(log("err"));
        command.kill_on_drop(true).spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"))
    }

    pub fn start_agent(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flack-haproxy-agent"));
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        self.agent = Some(self.spawn("agent", command));
    }

    /// Changes an environment variable of the next agent.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    pub async fn kill_agent(&mut self) {
        kill(self.agent.take()).await;
    }

    pub async fn start_haproxy(&mut self) {
        let program =
            ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"].into_iter().find(|path| Path::new(path).exists());
        let mut command = Command::new(program.unwrap_or("haproxy"));
        command.args(["-W", "-S", "unix@master.sock", "-f", "haproxy.cfg"]);
        self.haproxy = Some(self.spawn("haproxy", command));
        eventually("HAProxy answers", async || {
            self.get_url(format!("{}/health", self.stats)).await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    }

    pub async fn kill_haproxy(&mut self) {
        kill(self.haproxy.take()).await;
        // The worker ends when it notices that its master has ended.
        eventually("HAProxy ends", async || self.get_url(format!("{}/health", self.stats)).await.is_err()).await;
    }

    pub async fn route(&self, service: &str, percentage: u8) {
        let route = Route { owner: service.to_owned(), percentage };
        let route = serde_json::to_string(&route).expect("a route is plain data");
        self.registry.put(&keys::route(service), route, None).await.expect("etcd answers");
    }

    /// Writes the record of a part.
    pub async fn record(&self, part: Part, record: Record) {
        let entry = Entry { part, record, updated_at: None, updated_by: None };
        self.registry.put(&keys::authority(part.service().name), entry.encode(), None).await.expect("etcd answers");
    }

    /// Waits until the agent has acknowledged the record of a part.
    pub async fn wait_for_acknowledgement(&self, part: Part, record: Record) {
        let key = keys::acknowledged(BALANCER, BALANCER);
        eventually("the agent acknowledges the record", async || {
            let value = self.registry.get(&key).await.ok().flatten().unwrap_or_default();
            let acknowledged: Acknowledged = serde_json::from_str(&value).unwrap_or_default();
            acknowledged.get(&part) == Some(&record.acknowledgement())
        })
        .await;
    }

    /// Writes the split of `users`, as JSON.
    pub async fn split(&self, split: &str) {
        self.registry.put(&keys::split("users"), split, None).await.expect("etcd answers");
    }

    /// Sends `GET` to the public listener.
    pub async fn get(&self, path: &str) -> reqwest::Result<Response> {
        self.get_url(format!("{}{path}", self.public)).await
    }

    pub async fn get_url(&self, url: String) -> reqwest::Result<Response> {
        self.http.get(url).send().await
    }

    /// Waits until this instance answers a path at the public listener.
    pub async fn wait_for_instance(&self, path: &str, instance: &str) {
        self.wait_for_instance_at(&self.public, path, instance).await;
    }

    pub async fn wait_for_instance_at(&self, listener: &str, path: &str, instance: &str) {
        let url = format!("{listener}{path}");
        eventually(&format!("{instance} answers {url}"), async || {
            self.get_url(url.clone()).await.is_ok_and(|answer| answered_by(&answer) == instance)
        })
        .await;
    }

    /// Waits until the public listener answers with this status.
    pub async fn wait_for_status(&self, path: &str, status: u16) {
        eventually(&format!("{path} answers {status}"), async || {
            self.get(path).await.is_ok_and(|answer| answer.status() == status)
        })
        .await;
    }

    pub async fn has_server(&self, server: &str) -> bool {
        let state = self.admin.send("show servers state").await.unwrap_or_default();
        state.contains(&format!(" {server} "))
    }

    /// Returns how many connections the public listener has from this address.
    pub async fn connections(&self, source: Ipv4Addr) -> usize {
        let table = self.admin.send("show table addresses").await.expect("HAProxy answers");
        let entry = table.lines().find(|line| line.contains(&format!("{source} "))).unwrap_or_default();
        let mut fields = entry.split_whitespace();
        fields.find_map(|field| field.strip_prefix("conn_cur=")?.parse().ok()).unwrap_or(0)
    }

    pub fn haproxy_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("haproxy.log")).expect("HAProxy has a log")
    }
}

/// The instance that answered. Empty when HAProxy answered itself.
pub fn answered_by(answer: &Response) -> &str {
    seen(answer, "x-flack-instance")
}

/// A header of the answer: what the instance has seen of the request.
pub fn seen<'answer>(answer: &'answer Response, name: &str) -> &'answer str {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A token without a valid signature. The balancer reads only its user.
pub fn token(user: usize) -> String {
    format!("e30.{}.x", BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"{user}"}}"#)))
}

/// Sends SIGKILL.
async fn kill(child: Option<Child>) {
    child.expect("the process runs").kill().await.expect("it can be killed");
}
