//! Prints routes, versions and splits.

use std::collections::BTreeMap;

use flack_catalogue::{MONOLITH, SERVICES};
use flack_common::registry::Split;
use flack_handover::Entry;
use serde::Serialize;

use super::notes;
use crate::output::{self, print_json};
use crate::registry::{Route, Snapshot};
use crate::splits::Audience;

#[derive(Debug, Serialize)]
struct View<'a> {
    services: Vec<Row<'a>>,
    /// Splits that have no effect, and why.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    service: &'static str,
    route: Option<&'a Route>,
    /// The owner of its data.
    authority: Option<&'a Entry>,
    /// The instances that are not about to stop, by version.
    versions: BTreeMap<String, Vec<String>>,
    split: Option<&'a Split>,
}

pub(super) fn run(snapshot: &Snapshot, json: bool) {
    let rows = SERVICES.iter().map(|service| Row {
        service: service.name,
        route: snapshot.routes.get(service.name),
        authority: snapshot.authority.get(service.name),
        versions: snapshot.versions(service),
        split: snapshot.splits.get(service.name),
    });
    let with_split = SERVICES.iter().filter_map(|service| Some((service, snapshot.splits.get(service.name)?)));
    let problems = with_split.flat_map(|(service, split)| notes(snapshot, service, split)).collect();
    let view = View { services: rows.collect(), problems };
    if json {
        print_json(&view);
    } else {
        print(&view);
    }
}

fn print(view: &View) {
    let mut table = output::table(["SERVICE", "ROUTE", "DATA", "VERSION", "INSTANCES", "GETS"]);
    for row in &view.services {
        let mut first = [row.service.to_owned(), route(row), owner(row)];
        if row.versions.is_empty() {
            let [service, route, owner] = first.clone();
            table.add_row([service, route, owner, "-".to_owned(), "-".to_owned(), "-".to_owned()]);
        }
        for (version, instances) in &row.versions {
            let [service, route, owner] = std::mem::take(&mut first);
            table.add_row([service, route, owner, version.clone(), instances.join(", "), gets(row, version)]);
        }
    }
    print_line!("{table}");
    for problem in &view.problems {
        print_line!("\n{problem}");
    }
}

fn route(row: &Row) -> String {
    match row.route {
        _ if row.service == MONOLITH => "all other paths".to_owned(),
        Some(route) if route.owner != MONOLITH => format!("{} {} %", route.owner, route.percentage),
        _ => MONOLITH.to_owned(),
    }
}

fn owner(row: &Row) -> String {
    row.authority.map_or_else(String::new, |entry| entry.owner().to_owned())
}

fn gets(row: &Row, version: &str) -> String {
    match row.split {
        Some(split) if split.version == version && row.versions.len() > 1 => Audience(split).to_string(),
        Some(split) if row.versions.contains_key(&split.version) && row.versions.len() > 1 => "the rest".to_owned(),
        _ => "all".to_owned(),
    }
}
