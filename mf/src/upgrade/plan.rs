//! The start of an upgrade: which instances are replaced. A pure function of what runs.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Utc;
use flack_catalogue::Service;
use flack_supervisor::ProcessStatus;

use super::options::Options;
use super::record::{Audience, Judgement, Kind, Member, MemberState, Phase, Record, Side, UsersSaw};
use crate::builds::WORKSPACE_VERSION;
use crate::launch::instances_of;

/// What the operator wants.
#[derive(Debug, Clone)]
pub struct Intent {
    pub kind: Kind,
    pub to: String,
    pub audience: Option<Audience>,
    pub judgement: Judgement,
    pub options: Options,
}

/// Returns the record of a new upgrade; none if no instance has another version. The newest instances are replaced
/// last.
pub fn plan(service: &Service, intent: Intent, processes: &[ProcessStatus]) -> Option<Record> {
    let version = |name: &String| {
        let process = processes.iter().find(|process| process.name == *name);
        // Started by an mf that knew no versions.
        process.and_then(|process| process.version.clone()).unwrap_or_else(|| WORKSPACE_VERSION.to_owned())
    };
    let members: Vec<Member> = instances_of(processes, service)
        .into_iter()
        .map(|name| {
            let version = version(&name);
            let side = if version == intent.to { Side::New } else { Side::Old };
            Member::new(name, &version, side, MemberState::Serving)
        })
        .collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for member in members.iter().filter(|member| member.side == Side::Old) {
        *counts.entry(&member.version).or_insert(0) += 1;
    }
    let from = counts.into_iter().max_by_key(|(_, count)| *count)?.0.to_owned();
    let Intent { kind, to, audience, judgement, options } = intent;
    let now = Utc::now();
    Some(Record {
        service: service.name.to_owned(),
        kind,
        from,
        to,
        phase: if audience.is_some() { Phase::Trying } else { Phase::Rolling },
        reason: None,
        is_bad: false,
        judgement,
        options,
        audience,
        step: 0,
        capacity: members.len(),
        members,
        users_saw: UsersSaw::default(),
        comparison: None,
        then: Vec::new(),
        operator: String::new(),
        started: now,
        progressed: now,
        ended: None,
    })
}

/// Returns a name for a new instance: the lowest number that neither runs nor took part in this upgrade, so that the
/// counters and logs of two versions are not mixed.
pub fn free_name(service: &Service, processes: &[ProcessStatus], members: &[Member]) -> String {
    let taken: BTreeSet<&str> = processes
        .iter()
        .map(|process| process.name.as_str())
        .chain(members.iter().map(|member| member.name.as_str()))
        .collect();
    let mut names = (1..=taken.len() + 1).map(|number| format!("{service}-{number}"));
    let free = names.find(|name| !taken.contains(name.as_str()));
    free.expect("there are more names than taken ones")
}

#[cfg(test)]
mod tests {
    use flack_supervisor::{Environment, State};

    use super::*;
    use crate::upgrade::options::tests::options;

    fn process(name: &str, version: Option<&str>) -> ProcessStatus {
        ProcessStatus {
            name: name.to_owned(),
            group: name.split_once('-').expect("an instance").0.to_owned(),
            version: version.map(str::to_owned),
            own_env: Environment::default(),
            state: State::Running,
            pid: None,
            restarts: 0,
            started: Utc::now(),
            last_end: None,
        }
    }

    fn intent(to: &str) -> Intent {
        let options = options(&[]);
        Intent { kind: Kind::Roll, to: to.to_owned(), audience: None, judgement: Judgement::Traffic, options }
    }

    #[test]
    fn instances_of_other_versions_are_replaced_and_the_present_number_is_the_capacity() {
        let processes = [
            process("users-10", Some("1")),
            process("users-2", Some("1")),
            process("users-3", Some("2")),
            process("users-4", None),
            process("tokens-1", Some("1")),
        ];
        let record = plan(Service::named("users"), intent("2"), &processes).expect("an upgrade");
        assert_eq!(record.names(Side::Old, &[MemberState::Serving]), ["users-2", "users-4", "users-10"]);
        assert_eq!(record.names(Side::New, &[MemberState::Serving]), ["users-3"]);
        assert_eq!((record.capacity, record.from.as_str()), (4, "1"));
    }

    #[test]
    fn there_is_no_upgrade_if_every_instance_has_the_version() {
        assert!(plan(Service::named("users"), intent("2"), &[process("users-1", Some("2"))]).is_none());
        assert!(plan(Service::named("users"), intent("2"), &[]).is_none());
    }

    #[test]
    fn a_name_is_not_used_twice_in_an_upgrade() {
        let service = Service::named("users");
        let processes = [process("users-2", Some("1"))];
        let member = Member::new("users-1".to_owned(), "1", Side::Old, MemberState::Stopped);
        assert_eq!(free_name(service, &processes, &[member]), "users-3");
    }
}
