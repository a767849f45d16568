//! HAProxy and its agent. They are two processes, so that HAProxy works without the agent.

use flack_supervisor::Spec;

use crate::failure::Result;
use crate::home::Home;
use crate::infra::{etcd, programs};
use crate::ports::Ports;
use crate::secrets::AGENT;
use crate::supervisor::{self, inherited_environment, priority};

const AGENT_PROGRAM: &str = "flack-haproxy-agent";

/// The agent. It writes `haproxy.cfg` into the working directory of both, so that socket paths are relative and short.
pub fn agent(home: &Home, ports: &Ports) -> Result<Spec> {
    let program = programs::own(AGENT_PROGRAM)?;
    let folder = home.haproxy();
    let etcd = etcd::client_environment(home, ports, AGENT);
    let env = etcd
        .into_iter()
        .fold(inherited_environment(), |env, (name, value)| env.with(name, value))
        .with("HAPROXY_DIR", folder.display().to_string())
        .with("HAPROXY_BIN", programs::path("haproxy").display().to_string())
        .with("PUBLIC_LISTEN", format!("127.0.0.1:{}", ports.public))
        .with("INTERNAL_LISTEN", format!("127.0.0.1:{}", ports.internal))
        .with("STATS_LISTEN", format!("127.0.0.1:{}", ports.stats));
    Ok(Spec { env, ..supervisor::spec("agent", priority::AGENT, program, folder) })
}

/// HAProxy as master and worker: the agent reloads it through the master's socket.
pub fn balancer(home: &Home) -> Spec {
    Spec {
        args: ["-W", "-S", "unix@master.sock", "-f", "haproxy.cfg"].map(str::to_owned).to_vec(),
        ..supervisor::spec("haproxy", priority::BALANCER, programs::path("haproxy"), home.haproxy())
    }
}
