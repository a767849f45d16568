//! HAProxy's map files: they decide which service gets a path, for how many users, which version of the service, and at
//! which listener.

use std::collections::BTreeMap;

use flack_catalogue::MONOLITH;
use flack_common::registry::{Exposure, PathPattern, Route, ServiceDefinition};

/// Path to backend, for exactly that path.
pub const EXACT: &str = "exact.map";
/// Path with a final slash to backend, for the path and everything below it.
pub const PREFIX: &str = "prefix.map";
/// Backend to the percentage of users that it gets.
pub const PERCENT: &str = "percent.map";
/// Backend to `internal`; other backends are public.
pub const EXPOSURE: &str = "exposure.map";
/// Service to the percentage of users that its canary backend gets. A service without a split is absent.
pub const CANARY_PERCENT: &str = "canary_percent.map";
/// `<service>/user/<id>`, `<service>/header/<name>/<value>` and `<service>/cookie/<name>/<value>` of splits.
pub const CANARY: &str = "canary.map";
pub const FILES: [&str; 6] = [EXACT, PREFIX, PERCENT, EXPOSURE, CANARY_PERCENT, CANARY];
pub(crate) const PERCENT_MAX: u8 = 100;

/// Keys and values by file name.
pub type Maps = BTreeMap<&'static str, BTreeMap<String, String>>;

/// Returns the maps for these routes.
pub fn build(routes: &BTreeMap<String, Route>, definitions: &BTreeMap<String, ServiceDefinition>) -> Maps {
    let mut maps: Maps = FILES.into_iter().map(|file| (file, BTreeMap::new())).collect();
    let mut set = |file, key: &str, value: &str| {
        maps.entry(file).or_default().insert(key.to_owned(), value.to_owned());
    };
    let mut percents: BTreeMap<&str, u8> = BTreeMap::new();
    for (name, Route { owner, percentage }) in routes {
        // HAProxy sends a path whose backend does not exist to the monolith, which does not own the data.
        let Some(definition) = definitions.get(name).filter(|_| definitions.contains_key(owner)) else {
            continue;
        };
        if owner == MONOLITH {
            continue;
        }
        // When two routes have the same owner, the smaller percentage is safe for both.
        let percent = percents.entry(owner).or_insert(PERCENT_MAX);
        *percent = (*percent).min(*percentage);
        for pattern in &definition.paths {
            match pattern {
                PathPattern::Exact(path) => set(EXACT, path, owner),
                PathPattern::Prefix(path) => set(PREFIX, &format!("{}/", path.trim_end_matches('/')), owner),
            }
        }
    }
    for (owner, percent) in percents {
        set(PERCENT, owner, &percent.to_string());
    }
    for (name, _) in definitions.iter().filter(|(_, definition)| definition.exposure == Exposure::Internal) {
        set(EXPOSURE, name, "internal");
    }
    maps
}
