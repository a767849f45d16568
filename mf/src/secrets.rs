//! The passwords of a stack: made once, kept in one file (0600), handed on by environment or private files, never on a command line.

use std::collections::BTreeMap;
use std::fmt;

use flack_catalogue::SERVICES;
use rand::Rng;
use rand::distr::Alphanumeric;
use serde::{Deserialize, Serialize};

use crate::failure::{Exit, Failure, Result};
use crate::home::{self, Home};

/// 40 letters and digits are 238 bits; no character needs quoting anywhere.
const PASSWORD_CHARACTERS: usize = 40;

#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Secrets {
    /// PostgreSQL's superuser.
    pub postgres: String,
    /// Etcd's root: what `mf` itself uses.
    pub etcd: String,
    /// Of each service in PostgreSQL, etcd and NATS; the balancer's agent and the operator have one too.
    pub accounts: BTreeMap<String, Account>,
}

#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Account {
    pub postgres: String,
    pub etcd: String,
    pub nats: String,
}

/// The name of the agent's account in etcd.
pub const AGENT: &str = "balancer";
/// The operator's account in NATS.
pub const OPERATOR: &str = "mf";

impl Secrets {
    /// Reads the stack's secrets, and makes those that are missing (a service that is new since the stack was made).
    pub fn load_or_make(home: &Home) -> Result<Self> {
        let before = Self::load(home)?;
        let mut secrets = before.clone().unwrap_or_else(|| Self {
            postgres: password(),
            etcd: password(),
            accounts: BTreeMap::new(),
        });
        for name in SERVICES.iter().map(|service| service.name).chain([AGENT, OPERATOR]) {
            secrets.accounts.entry(name.to_owned()).or_insert_with(|| Account {
                postgres: password(),
                etcd: password(),
                nats: password(),
            });
        }
        if before.as_ref() != Some(&secrets) {
            home::write_private(
                &home.secrets(),
                &serde_json::to_string_pretty(&secrets).expect("secrets are plain data"),
            )?;
        }
        Ok(secrets)
    }

    pub fn load(home: &Home) -> Result<Option<Self>> {
        let path = home.secrets();
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|_| {
                // Not the parser's own words: they may quote the file.
                Failure::new(
                    Exit::Contradiction,
                    format!("{} is not what mf wrote; `mfdown --purge` starts from nothing", path.display()),
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(Failure::new(Exit::CannotWrite, format!("{} cannot be read: {error}", path.display())))
            }
        }
    }

    pub fn account(&self, name: &str) -> &Account {
        self.accounts.get(name).expect("load_or_make gives every name an account")
    }
}

fn password() -> String {
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
