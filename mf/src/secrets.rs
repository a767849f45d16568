//! The passwords of a stack. They are generated once, kept in one private file, and passed to processes by environment
//! or private files, never on a command line.

use std::collections::BTreeMap;
use std::fmt;

use flack_catalogue::SERVICES;
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
        let mut secrets =
            before.clone().unwrap_or_else(|| Self { postgres: password(), etcd: None, accounts: BTreeMap::new() });
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
        Self { postgres: self.postgres.clone(), etcd: None, accounts: [(service.to_owned(), account)].into() }
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
