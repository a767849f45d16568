//! HAProxy's map files: they decide which service gets a path, for how many users, which version of the service, and at
//! which listener.

use std::collections::BTreeMap;

use flack_catalogue::MONOLITH;
use flack_common::registry::{Exposure, PathPattern, Route, ServiceDefinition};
use flack_handover::{Part, Record};

/// Path to the name of a service or part, for exactly that path.
pub const EXACT: &str = "exact.map";
/// Path with a final slash to the name, for the path and everything below it.
pub const PREFIX: &str = "prefix.map";
/// Name to the backend that owns its paths.
pub const OWNER: &str = "owner.map";
/// Name to the percentage of users that the owner gets.
pub const PERCENT: &str = "percent.map";
/// Part to the backend of its replica, and to the percentage of users that read there.
pub const REPLICA: &str = "replica.map";
pub const READ_PERCENT: &str = "read_percent.map";
/// Backend to `internal`; other backends are public.
pub const EXPOSURE: &str = "exposure.map";
/// Service to the percentage of users that its canary backend gets. A service without a split is absent.
pub const CANARY_PERCENT: &str = "canary_percent.map";
/// `<service>/user/<id>`, `<service>/header/<name>/<value>` and `<service>/cookie/<name>/<value>` of splits.
pub const CANARY: &str = "canary.map";
pub const FILES: [&str; 9] = [EXACT, PREFIX, OWNER, PERCENT, REPLICA, READ_PERCENT, EXPOSURE, CANARY_PERCENT, CANARY];
pub(crate) const PERCENT_MAX: u8 = 100;

/// Keys and values by file name.
pub type Maps = BTreeMap<&'static str, BTreeMap<String, String>>;

/// Returns the maps for these routes and records. A part with a record needs no route: it would be a second place that
/// says who owns the part.
pub fn build(
    routes: &BTreeMap<String, Route>,
    records: &BTreeMap<Part, Record>,
    definitions: &BTreeMap<String, ServiceDefinition>,
) -> Maps {
    let mut maps: Maps = FILES.into_iter().map(|file| (file, BTreeMap::new())).collect();
    let mut set = |file, key: &str, value: &str| {
        maps.entry(file).or_default().insert(key.to_owned(), value.to_owned());
    };
    let has_record = |name: &str| Part::find(name).is_some_and(|part| records.contains_key(&part));
    let routes = routes.iter().filter(|(name, _)| !has_record(name));
    let routes = routes.map(|(name, route)| (name.as_str(), route.owner.as_str(), route.percentage));
    let owners = records.iter().map(|(part, record)| {
        let name = part.service().name;
        (name, record.owner.service_name(*part), PERCENT_MAX)
    });
    for (name, owner, percentage) in routes.chain(owners) {
        // HAProxy sends a path whose backend does not exist to the monolith, which does not own the data.
        let Some(definition) = definitions.get(name).filter(|_| definitions.contains_key(owner)) else {
            continue;
        };
        // The monolith is the default.
        if owner != MONOLITH {
            set(OWNER, name, owner);
            set(PERCENT, name, &percentage.to_string());
        } else if !has_record(name) {
            continue;
        }
        for pattern in &definition.paths {
            match pattern {
                PathPattern::Exact(path) => set(EXACT, path, name),
                PathPattern::Prefix(path) => set(PREFIX, &format!("{}/", path.trim_end_matches('/')), name),
            }
        }
    }
    let is_shifted =
        |(part, record): &(&Part, &Record)| part.has_data() && record.stage.is_followed() && record.read_percent > 0;
    for (part, record) in records.iter().filter(is_shifted) {
        let name = part.service().name;
        set(REPLICA, name, record.owner.other().service_name(*part));
        set(READ_PERCENT, name, &record.read_percent.min(PERCENT_MAX).to_string());
    }
    for (name, _) in definitions.iter().filter(|(_, definition)| definition.exposure == Exposure::Internal) {
        set(EXPOSURE, name, "internal");
    }
    maps
}
