//! Settings of a stack: its port, its stage, how many instances of each service, in which version. They are in
//! `stack.json` in the state folder.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use flack_catalogue::{MONOLITH, SERVICES, Service, extracted};
use serde::{Deserialize, Serialize};

use crate::builds::WORKSPACE_VERSION;
use crate::failure::Result;
use crate::home::{self, Home};
use crate::services;

pub const PORT_DEFAULT: u16 = 8080;
/// Limited by PostgreSQL's connections; see `SIZE` in `infra/postgres/server.rs`.
pub const INSTANCES_MAX: u16 = 16;

/// Who owns the data and the routes when a stack is created: before or after the migration. `mf migrate` changes it
/// part by part; the stage of the stack stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The monolith owns everything; services run beside it only when a part moves.
    Monolith,
    /// Each service owns its data; the monolith is the default backend.
    Services,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("no stage is hidden").get_name())
    }
}

/// Instance counts by service name, written `users=2,websocket=2`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instances(BTreeMap<String, u16>);

impl Instances {
    /// Returns services with their counts, in start order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Service, u16)> {
        SERVICES.iter().filter_map(|service| Some((service, *self.0.get(service.name)?)))
    }

    /// Whether a service belongs to the stack, perhaps with no instance at present.
    pub fn contains(&self, service: &Service) -> bool {
        self.0.contains_key(service.name)
    }

    /// Adds a service with one instance, unless it belongs to the stack already.
    pub fn add(&mut self, service: &Service) {
        self.0.entry(service.name.to_owned()).or_insert(1);
    }
}

impl FromStr for Instances {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut counts = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, count) =
                part.split_once('=').ok_or_else(|| format!("`{part}` has no count; write it like users=2"))?;
            let service = services::parse(name.trim())?;
            if service.name == MONOLITH {
                return Err("the monolith always has one instance; only services take a count".to_owned());
            }
            let count: u16 = count.trim().parse().map_err(|_| format!("`{count}` is not a count of {service}"))?;
            if count > INSTANCES_MAX {
                return Err(format!("at most {INSTANCES_MAX} instances of {service}, not {count}"));
            }
            if counts.insert(service.name.to_owned(), count).is_some() {
                return Err(format!("{service} is given twice"));
            }
        }
        if counts.is_empty() {
            return Err("no instances given; write them like users=2,websocket=2".to_owned());
        }
        Ok(Self(counts))
    }
}

impl fmt::Display for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.iter().map(|(service, count)| format!("{service}={count}")).collect();
        f.write_str(&parts.join(","))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub port: u16,
    pub stage: Stage,
    pub instances: Instances,
    /// The version of a service's new instances, by the service's name; absent: the workspace's own programs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, String>,
}

/// Options of `mf up`. An absent option means "as before".
#[derive(Debug, Clone, Default)]
pub struct UpOptions {
    pub port: Option<u16>,
    pub stage: Option<Stage>,
    pub instances: Option<Instances>,
    /// Whether a stack of services has the services that are no parts, which the chat works without. As containers they
    /// need a PostgreSQL each, so there only `instances` adds them.
    pub extras: bool,
}

impl Settings {
    pub fn load(home: &Home) -> Result<Option<Self>> {
        home::read_json(&home.settings())
    }

    pub fn save(&self, home: &Home) -> Result<()> {
        home::write_json(&home.settings(), self)
    }

    /// Returns the version of a service's new instances.
    pub fn version(&self, service: &Service) -> &str {
        self.versions.get(service.name).map_or(WORKSPACE_VERSION, String::as_str)
    }

    /// Returns the settings before, changed by the options.
    pub fn merge(before: Option<&Self>, options: &UpOptions) -> Result<Self> {
        if let (Some(before), Some(stage)) = (before, options.stage)
            && before.stage != stage
        {
            return Err(failure!(
                Contradiction,
                "this stack was created with --stage {}: it cannot be started with --stage {stage}.\n\
                     Use another state folder and port (MF_HOME=.mf-{stage} mfup --stage {stage} --port 9080), or \
                     delete this one (mfdown --purge).",
                before.stage
            ));
        }
        let stage = options.stage.or(before.map(|before| before.stage)).unwrap_or(Stage::Services);
        let mut instances = before.map(|before| before.instances.clone()).unwrap_or_default();
        if stage == Stage::Services {
            for service in extracted().filter(|service| service.has_authority || options.extras) {
                instances.add(service);
            }
        }
        if let Some(changed) = &options.instances {
            instances.0.extend(changed.0.clone());
        }
        let port = options.port.or(before.map(|before| before.port)).unwrap_or(PORT_DEFAULT);
        let versions = before.map(|before| before.versions.clone()).unwrap_or_default();
        Ok(Self { port, stage, instances, versions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_parsed_in_any_order_and_with_spaces() {
        let counts: Instances = "websocket=3, users=2".parse().expect("two counts");
        assert_eq!(counts.to_string(), "users=2,websocket=3");
    }

    #[test]
    fn the_error_for_a_bad_count_names_the_problem() {
        for (text, why) in [
            ("usres=2", "there is no service `usres`; did you mean `users`? Services are monolith, ui, users"),
            ("users", "write it like users=2"),
            ("users=two", "`two` is not a count of users"),
            ("users=-1", "`-1` is not a count of users"),
            ("users=17", "at most 16 instances of users"),
            ("users=1,users=2", "users is given twice"),
            ("monolith=2", "the monolith always has one instance"),
            ("", "no instances given"),
        ] {
            let error = text.parse::<Instances>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_new_stack_has_one_instance_of_each_service() {
        let options = UpOptions { extras: true, ..UpOptions::default() };
        let settings = Settings::merge(None, &options).expect("settings");
        let one_of_each: Vec<_> = extracted().map(|service| format!("{service}=1")).collect();
        assert_eq!(settings.instances.to_string(), one_of_each.join(","));
        let containers = Settings::merge(None, &UpOptions::default()).expect("settings");
        assert!(containers.instances.iter().all(|(service, _)| service.has_authority), "{}", containers.instances);
        let stage = Some(Stage::Monolith);
        let monolith = Settings::merge(None, &UpOptions { stage, ..options }).expect("settings");
        assert_eq!(monolith.instances, Instances::default());
        assert_eq!((settings.port, settings.stage), (PORT_DEFAULT, Stage::Services));
    }

    #[test]
    fn settings_without_an_option_stay_as_they_were() {
        let counts = |text: &str| Some(text.parse().expect("a count"));
        let options = UpOptions { port: Some(18_080), instances: counts("users=2"), ..UpOptions::default() };
        let mut before = Settings::merge(None, &options).expect("settings");
        before.versions.insert("users".to_owned(), "2".to_owned());
        let options = UpOptions { instances: counts("ui=0"), ..UpOptions::default() };
        let after = Settings::merge(Some(&before), &options).expect("settings");
        assert_eq!(after.instances.to_string(), before.instances.to_string().replace("ui=1", "ui=0"));
        assert!(after.instances.to_string().starts_with("ui=0,users=2,"));
        assert_eq!(after.port, 18_080);
        assert_eq!(after.version(Service::named("users")), "2");
        assert_eq!(after.version(Service::named("ui")), WORKSPACE_VERSION);
    }

    #[test]
    fn settings_of_an_earlier_version_without_versions_are_read() {
        let text = r#"{"port": 8080, "stage": "services", "instances": {"users": 2}}"#;
        let settings: Settings = serde_json::from_str(text).expect("settings");
        assert_eq!(settings.version(Service::named("users")), WORKSPACE_VERSION);
        assert!(!serde_json::to_string(&settings).expect("JSON").contains("versions"));
    }

    #[test]
    fn the_stage_of_a_stack_cannot_be_changed() {
        let with = |stage| UpOptions { stage: Some(stage), ..UpOptions::default() };
        let before = Settings::merge(None, &with(Stage::Monolith)).expect("settings");
        let failure = Settings::merge(Some(&before), &with(Stage::Services)).expect_err("another stage");
        assert_eq!(failure.exit, crate::failure::Exit::Contradiction);
    }
}
