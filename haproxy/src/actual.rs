//! The actual state of HAProxy: its servers, its maps, and the structure that it was started with.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
};

use crate::{
    ServerName,
    admin_socket::AdminSocket,
    maps::{self, Maps},
    servers::UNAVAILABLE,
};

/// `srv_admin_state`: bits that HAProxy's management guide lists under "show servers state".
const ADMIN_MAINT: u32 = 0x01 | 0x02 | 0x04 | 0x20;
const ADMIN_DRAIN: u32 = 0x08 | 0x10;
/// `srv_op_state` of a server that is down.
const OPERATION_STOPPED: u32 = 0;
/// `srv_check_state`: checks are enabled.
const CHECK_ENABLED: u32 = 0x04;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    /// `FLACK_STRUCTURE` of the running HAProxy.
    pub structure: String,
    pub servers: BTreeMap<ServerName, ActualServer>,
    pub maps: Maps,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActualServer {
    pub address: Option<SocketAddr>,
    pub weight: u16,
    pub admin_state: AdminState,
    /// The result of the health checks.
    pub healthy: bool,
    /// Whether health checks are enabled.
    pub checked: bool,
    pub sessions: u32,
}

/// The administrative state of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminState {
    Ready,
    /// Receives no new requests; current requests continue.
    Drain,
    Maint,
}

impl Actual {
    /// Reads everything through the admin socket: in one connection, because each one waits for its turn in HAProxy.
    pub async fn read(admin: &AdminSocket) -> io::Result<Self> {
        let mut command = "show env FLACK_STRUCTURE; show servers state; show stat -1 4 -1".to_owned();
        for file in maps::FILES {
            command.push_str("; show map ");
            command.push_str(file);
        }
        let text = admin.send(&command).await?;
        let mut answers = answers(&text);
        let mut next =
            || answers.next().ok_or_else(|| io::Error::new(ErrorKind::UnexpectedEof, "an answer is missing"));
        let structure = next()?.trim_start_matches("FLACK_STRUCTURE=").to_owned();
        let servers = servers(next()?, next()?);
        let maps = maps::FILES.into_iter().map(|file| Ok((file, map_entries(next()?)))).collect::<io::Result<_>>()?;
        Ok(Self { structure, servers, maps })
    }
}

/// Splits the answers to several commands. Each ends with an empty line, and an empty answer is only that line.
fn answers(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (answer, more) = rest.strip_prefix('\n').map(|more| ("", more)).or_else(|| rest.split_once("\n\n"))?;
        rest = more;
        Some(answer)
    })
}

/// Returns the rows of a table as maps from column to value. The line that starts with `# ` names the columns.
fn rows(table: &str, separator: char) -> impl Iterator<Item = HashMap<&str, &str>> {
    let mut lines = table.lines();
    let columns = lines.by_ref().find_map(|line| line.strip_prefix("# ")).unwrap_or_default();
    lines.map(move |line| columns.split(separator).zip(line.split(separator)).collect())
}

fn servers(state: &str, stat: &str) -> BTreeMap<ServerName, ActualServer> {
    let sessions: HashMap<ServerName, u32> = rows(stat, ',')
        .filter_map(|row| {
            Some((format!("{}/{}", row.get("pxname")?, row.get("svname")?), row.get("scur")?.parse().ok()?))
        })
        .collect();
    let server = |row: HashMap<&str, &str>| {
        let name = format!("{}/{}", row.get("be_name")?, row.get("srv_name")?);
        let number = |column| row.get(column).and_then(|text| text.parse::<u32>().ok()).unwrap_or_default();
        let ip = row.get("srv_addr").and_then(|address| address.parse::<IpAddr>().ok());
        let port = row.get("srv_port").and_then(|port| port.parse().ok());
        let server = ActualServer {
            address: ip.zip(port).map(SocketAddr::from),
            weight: u16::try_from(number("srv_uweight")).unwrap_or(u16::MAX),
            admin_state: admin_state(number("srv_admin_state")),
            healthy: number("srv_op_state") != OPERATION_STOPPED,
            checked: number("srv_check_state") & CHECK_ENABLED != 0,
            sessions: sessions.get(&name).copied().unwrap_or_default(),
        };
        Some((name, server))
    };
    let is_instance = |row: &HashMap<&str, &str>| row.get("srv_name") != Some(&UNAVAILABLE);
    rows(state, ' ').filter(is_instance).filter_map(server).collect()
}

fn admin_state(bits: u32) -> AdminState {
    if bits & ADMIN_MAINT != 0 {
        AdminState::Maint
    } else if bits & ADMIN_DRAIN != 0 {
        AdminState::Drain
    } else {
        AdminState::Ready
    }
}

/// Parses lines of the form `<pointer> <key> <value>`.
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
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state \
bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr \
srv_agent_port
4 users 1 users-1 127.0.0.1 2 0 100 100 0 1 0 1 6 0 0 0 - 9001 - 0 0 - - 0
4 users 2 users-2 127.0.0.1 0 8 90 100 0 1 0 1 2 0 0 0 - 9002 - 0 0 - - 0
5 ui 1 ui-1 127.0.0.1 0 1 1 1 0 1 0 0 2 0 0 0 - 9003 - 0 0 - - 0

";
    const STAT: &str = "# pxname,svname,qcur,qmax,scur,smax
users,users-1,0,0,3,4
users,users-2,0,0,0,4
";

    #[test]
    fn servers_are_parsed_from_the_output_of_haproxy_2_6() {
        let servers = servers(STATE, STAT);
        let first = ActualServer {
            address: Some(SocketAddr::from(([127, 0, 0, 1], 9001))),
            weight: 100,
            admin_state: AdminState::Ready,
            healthy: true,
            checked: true,
            sessions: 3,
        };
        assert_eq!(servers["users/users-1"], first);
        let second = &servers["users/users-2"];
        assert!(second.admin_state == AdminState::Drain && !second.healthy && !second.checked);
        assert_eq!(second.weight, 90);
        assert_eq!(servers["ui/ui-1"].admin_state, AdminState::Maint);
        assert_eq!(servers.len(), 3);
    }

    #[test]
    fn the_answers_to_several_commands_are_separated_though_some_are_empty() {
        let text = "FLACK_STRUCTURE=1\n\n\n0x55 /x y\n\n\n";
        assert_eq!(answers(text).collect::<Vec<_>>(), ["FLACK_STRUCTURE=1", "", "0x55 /x y", ""]);
    }

    #[test]
    fn a_map_is_parsed_without_its_pointers() {
        let entries = map_entries("0x7fdc3c043d30 /api/users/ users\n0x7fdc3c043d31 /ws/ websocket\n\n");
        assert_eq!(entries["/api/users/"], "users");
        assert_eq!(entries.len(), 2);
    }
}
