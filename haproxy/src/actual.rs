//! What HAProxy says is: its servers, its maps, and the structure it was started with.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, SocketAddr},
};

use crate::{
    admin::Admin,
    target::{MAP_FILES, Maps},
};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    /// `FLACK_STRUCTURE` of the running HAProxy.
    pub structure: String,
    pub backends: BTreeMap<String, BTreeMap<String, ActualServer>>,
    pub maps: Maps,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActualServer {
    pub address: Option<SocketAddr>,
    pub weight: u16,
    pub duty: Duty,
    /// As far as its health checks have found out.
    pub healthy: bool,
    /// Health checks run.
    pub checked: bool,
    pub sessions: u32,
}

/// What somebody told a server to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    Ready,
    /// Nothing new; what runs may finish.
    Draining,
    Maintenance,
}

/// `srv_admin_state`: bits of src/server of HAProxy's management guide, "show servers state".
const ADMIN_MAINTENANCE: u32 = 0x01 | 0x02 | 0x04 | 0x20;
const ADMIN_DRAIN: u32 = 0x08 | 0x10;
/// `srv_op_state` of a server that is down.
const OPERATION_STOPPED: u32 = 0;
/// `srv_check_state`: checks are enabled.
const CHECK_ENABLED: u32 = 0x04;

impl Actual {
    /// Asks HAProxy for everything.
    pub async fn read(admin: &Admin) -> io::Result<Self> {
        let structure = admin.ask("show env FLACK_STRUCTURE").await?;
        let state = admin.ask("show servers state").await?;
        let stat = admin.ask("show stat -1 4 -1").await?;
        let mut maps = Maps::new();
        for file in MAP_FILES {
            maps.insert(file, map_entries(&admin.ask(&format!("show map {file}")).await?));
        }
        Ok(Self {
            structure: structure.trim().trim_start_matches("FLACK_STRUCTURE=").to_owned(),
            backends: servers(&state, &stat),
            maps,
        })
    }
}

fn servers(state: &str, stat: &str) -> BTreeMap<String, BTreeMap<String, ActualServer>> {
    let sessions = sessions(stat);
    let mut lines = state.lines();
    // The first line is the version of the format, the second names the columns.
    let columns: Vec<&str> =
        lines.by_ref().find_map(|line| line.strip_prefix("# ")).unwrap_or_default().split(' ').collect();
    let mut backends: BTreeMap<String, BTreeMap<String, ActualServer>> = BTreeMap::new();
    for line in lines {
        let row: HashMap<&str, &str> = columns.iter().copied().zip(line.split(' ')).collect();
        let number =
            |column: &str| row.get(column).and_then(|text| text.parse::<u32>().ok()).unwrap_or_default();
        let (Some(backend), Some(name)) = (row.get("be_name"), row.get("srv_name")) else { continue };
        let address = row
            .get("srv_addr")
            .and_then(|address| address.parse::<IpAddr>().ok())
            .zip(row.get("srv_port").and_then(|port| port.parse().ok()))
            .map(SocketAddr::from);
        let server = ActualServer {
            address,
            weight: u16::try_from(number("srv_uweight")).unwrap_or(u16::MAX),
            duty: duty(number("srv_admin_state")),
            healthy: number("srv_op_state") != OPERATION_STOPPED,
            checked: number("srv_check_state") & CHECK_ENABLED != 0,
            sessions: sessions.get(&(*backend, *name)).copied().unwrap_or_default(),
        };
        backends.entry((*backend).to_owned()).or_default().insert((*name).to_owned(), server);
    }
    backends
}

fn duty(admin: u32) -> Duty {
    if admin & ADMIN_MAINTENANCE != 0 {
        Duty::Maintenance
    } else if admin & ADMIN_DRAIN != 0 {
        Duty::Draining
    } else {
        Duty::Ready
    }
}

/// `scur` by backend and server.
fn sessions(stat: &str) -> HashMap<(&str, &str), u32> {
    let mut lines = stat.lines();
    let columns: Vec<&str> =
        lines.by_ref().find_map(|line| line.strip_prefix("# ")).unwrap_or_default().split(',').collect();
    let position = columns.iter().position(|column| *column == "scur").unwrap_or_default();
    lines
        .filter_map(|line| {
            let row: Vec<&str> = line.split(',').collect();
            Some(((*row.first()?, *row.get(1)?), row.get(position)?.parse().ok()?))
        })
        .collect()
}

/// `0x7f.. key value` a line.
fn map_entries(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port
4 users 1 users-1 127.0.0.1 2 0 100 100 0 1 0 1 6 0 0 0 - 9001 - 0 0 - - 0
4 users 2 users-2 127.0.0.1 0 8 90 100 0 1 0 1 2 0 0 0 - 9002 - 0 0 - - 0
5 ui 1 ui-1 127.0.0.1 0 1 1 1 0 1 0 0 2 0 0 0 - 9003 - 0 0 - - 0

";
    const STAT: &str = "# pxname,svname,qcur,qmax,scur,smax
users,users-1,0,0,3,4
users,users-2,0,0,0,4
";

    #[test]
    fn servers_are_read_as_haproxy_2_6_writes_them() {
        let backends = servers(STATE, STAT);
        let first = &backends["users"]["users-1"];
        assert_eq!(first.address, Some("127.0.0.1:9001".parse().expect("an address")));
        assert!(first.duty == Duty::Ready && first.healthy && first.checked);
        assert_eq!(first.sessions, 3);
        let second = &backends["users"]["users-2"];
        assert!(second.duty == Duty::Draining && !second.healthy && !second.checked);
        assert_eq!(second.weight, 90);
        assert_eq!(backends["ui"]["ui-1"].duty, Duty::Maintenance);
    }

    #[test]
    fn a_map_is_read_without_its_pointers() {
        let entries = map_entries("0x7fdc3c043d30 /api/users/ users\n0x7fdc3c043d31 /ws/ websocket\n\n");
        assert_eq!(entries["/api/users/"], "users");
        assert_eq!(entries.len(), 2);
    }
}
