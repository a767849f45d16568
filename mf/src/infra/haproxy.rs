//! HAProxy and its agent: two processes, so that the balancer goes on when the agent does not.

use std::path::PathBuf;

use crate::failure::Result;
use crate::home::Home;
use crate::infra::{etcd, programs};
use crate::ports::Ports;
use crate::secrets::{AGENT, Secrets};
use crate::supervisor::spec::{Environment, Spec, Stop, StopSignal, Tier};

const AGENT_PROGRAM: &str = "flack-haproxy-agent";

/// The agent writes `haproxy.cfg` into the folder that both work in; socket paths in there are relative, and so short enough.
pub fn agent(home: &Home, ports: &Ports, secrets: &Secrets) -> Result<Spec> {
    let program = programs::own(AGENT_PROGRAM)?;
    let folder = home.haproxy();
    let env = Environment::inherited()
        .with("ETCD_URL", etcd::url(ports))
        .with("ETCD_USER", AGENT)
        .with("ETCD_PASSWORD", &secrets.account(AGENT).etcd)
        .with("HAPROXY_DIR", folder.display().to_string())
        .with("HAPROXY_BIN", haproxy().display().to_string())
        .with("PUBLIC_LISTEN", format!("127.0.0.1:{}", ports.public))
        .with("INTERNAL_LISTEN", format!("127.0.0.1:{}", ports.internal))
        .with("STATS_LISTEN", format!("127.0.0.1:{}", ports.stats));
    Ok(Spec {
        name: "agent".to_owned(),
        service: "agent".to_owned(),
        tier: Tier::Agent,
        program,
        args: Vec::new(),
        env,
        folder,
        stop: Stop { signal: StopSignal::Terminate, seconds_max: 10 },
    })
}

/// As master and worker: the agent reloads it through the master's socket.
pub fn balancer(home: &Home) -> Spec {
    Spec {
        name: "haproxy".to_owned(),
        service: "haproxy".to_owned(),
        tier: Tier::Balancer,
        program: haproxy(),
        args: ["-W", "-S", "unix@master.sock", "-f", "haproxy.cfg"].map(str::to_owned).to_vec(),
        env: Environment::inherited(),
        folder: home.haproxy(),
        stop: Stop { signal: StopSignal::Terminate, seconds_max: 10 },
    }
}

fn haproxy() -> PathBuf {
    programs::find("haproxy").unwrap_or_else(|| "haproxy".into())
}
