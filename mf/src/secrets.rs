//! The passwords of a stack. They are generated once, kept in one private file, and passed to processes by environment
//! or private files, never on a command line.

use std::collections::BTreeMap;
use std::fmt;

use flack_catalogue::{MONOLITH, SERVICES, Service};
use flack_handover::Part;
use rand::Rng;
use rand::distr::Alphanumeric;
use serde::{Deserialize, Serialize};

use crate::failure::Result;
use crate::home::{self, Home};

/// 40 letters and digits are 238 bits, and need no quoting.
const PASSWORD_CHARACTERS: usize = 40;

#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Secrets {
    /// Of PostgreSQL's superuser.
    pub postgres: String,
    /// Of etcd's root, in a state folder of an earlier version. etcd's clients have certificates now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etcd: Option<String>,
    /// Of each service, of the balancer's agent, of the operator, and of NATS.
    pub accounts: BTreeMap<String, Account>,
    /// By part: with its key the two sides of a part, and the operator, call each other's internal operations.
    #[serde(default)]
    handover_keys: BTreeMap<String, String>,
}

#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Account {
    pub postgres: String,
    /// As in `Secrets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etcd: Option<String>,
    pub nats: String,
}

/// The account of the balancer's agent in etcd.
pub const AGENT: &str = "balancer";
/// The account of the servers of a cluster of NATS among themselves.
pub const CLUSTER: &str = "cluster";
/// The account of `mf` in NATS.
pub const OPERATOR: &str = "mf";

impl Secrets {
    /// Reads the stack's secrets, and generates missing ones, for example of a service that was added later.
    pub fn load_or_create(home: &Home) -> Result<Self> {
        let before = Self::load(home)?;
        let mut secrets = before.clone().unwrap_or_else(|| Self {
            postgres: password(),
            etcd: None,
            accounts: BTreeMap::new(),
            handover_keys: BTreeMap::new(),
        });
        for part in Part::ALL.into_iter().filter(|part| part.has_data()) {
            secrets.handover_keys.entry(part.to_string()).or_insert_with(password);
        }
        for name in SERVICES.iter().map(|service| service.name).chain([AGENT, OPERATOR, CLUSTER]) {
            secrets.accounts.entry(name.to_owned()).or_insert_with(|| Account {
                postgres: password(),
                etcd: None,
                nats: password(),
            });
        }
        if before.as_ref() != Some(&secrets) {
            secrets.save(home)?;
        }
        Ok(secrets)
    }

    pub fn save(&self, home: &Home) -> Result<()> {
        home::write_json(&home.secrets(), self)
    }

    /// Whether an earlier version of `mf` gave passwords to etcd's accounts.
    pub fn has_etcd_passwords(&self) -> bool {
        self.etcd.is_some()
    }

    #[must_use]
    pub fn without_etcd_passwords(&self) -> Self {
        let mut secrets = self.clone();
        secrets.etcd = None;
        for account in secrets.accounts.values_mut() {
            account.etcd = None;
        }
        secrets
    }

    pub fn load(home: &Home) -> Result<Option<Self>> {
        home::read_json(&home.secrets())
    }

    /// Returns what the container of a service's PostgreSQL needs.
    #[must_use]
    pub fn of_database(&self, service: &str) -> Self {
        let account = Account { nats: String::new(), etcd: None, ..self.account(service).clone() };
        let accounts = [(service.to_owned(), account)].into();
        Self { postgres: self.postgres.clone(), etcd: None, accounts, handover_keys: BTreeMap::new() }
    }

    /// Returns the key of a part; none of a part without data.
    pub fn handover_key(&self, part: Part) -> Option<&str> {
        self.handover_keys.get(part.service().name).map(String::as_str)
    }

    /// Returns the keys that a service has: the monolith those of all parts, a service that of its own part.
    pub fn handover_keys_of(&self, service: &Service) -> Vec<(Part, &str)> {
        let is_its = |part: &Part| service.name == MONOLITH || service.name == part.service().name;
        Part::ALL.into_iter().filter(is_its).filter_map(|part| Some((part, self.handover_key(part)?))).collect()
    }

    pub fn account(&self, name: &str) -> &Account {
        self.accounts.get(name).expect("load_or_create generates an account for every name")
    }
}

pub fn password() -> String {
    rand::rng().sample_iter(Alphanumeric).take(PASSWORD_CHARACTERS).map(char::from).collect()
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account(..)")
    }
}
