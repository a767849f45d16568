//! HAProxy and its agent. They are two processes, so that HAProxy works without the agent.

use std::path::PathBuf;

use flack_supervisor::{Spec, Stop, StopSignal};

use crate::failure::Result;
use crate::home::Home;
use crate::infra::{etcd, programs};
use crate::ports::Ports;
use crate::secrets::{AGENT, Secrets};
use crate::supervisor::{inherited_environment, priority};

const AGENT_PROGRAM: &str = "flack-haproxy-agent";

/// The agent. It writes `haproxy.cfg` into the working directory of both, so that socket paths are relative and short.
pub fn agent(home: &Home, ports: &Ports, secrets: &Secrets) -> Result<Spec> {
    let program = programs::own(AGENT_PROGRAM)?;
    let folder = home.haproxy();
    let env = inherited_environment()
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
        group: "agent".to_owned(),
        priority: priority::AGENT,
        program,
        args: Vec::new(),
        env,
        working_directory: folder,
        stop: Stop { signal: StopSignal::Terminate, seconds_max: 10 },
    })
}

/// HAProxy as master and worker: the agent reloads it through the master's socket.
pub fn balancer(home: &Home) -> Spec {
    Spec {
        name: "haproxy".to_owned(),
        group: "haproxy".to_owned(),
        priority: priority::BALANCER,
        program: haproxy(),
        args: ["-W", "-S", "unix@master.sock", "-f", "haproxy.cfg"].map(str::to_owned).to_vec(),
        env: inherited_environment(),
        working_directory: home.haproxy(),
        stop: Stop { signal: StopSignal::Terminate, seconds_max: 10 },
    }
}

fn haproxy() -> PathBuf {
    programs::find("haproxy").unwrap_or_else(|| "haproxy".into())
}
