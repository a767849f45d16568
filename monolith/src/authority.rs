//! Who owns which data: the guard before everything that this process does with users, tokens and messages.
//!
//! Two owners of one resource would both write, and nobody could ever put their histories together again. So the guard
//! says no whenever it does not know: a resource belongs to the monolith only where the registry says so in as many
//! words. A monolith without a registry is alone and owns everything.
//!
//! When the registry goes away, what it said last holds on: owners change hands only through the registry, and one
//! that is away hands over nothing.

mod guarded;

use flack_api::Problem;
use flack_common::registry::{self, Mirror, keys};
use http::StatusCode;

pub use guarded::Guarded;

/// The owner's name that stands for this process.
const MONOLITH: &str = "monolith";

/// What can change hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Users,
    Tokens,
    Messages,
}

impl Resource {
    pub fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Tokens => "tokens",
            Self::Messages => "messages",
        }
    }
}

/// What the registry says about who owns what; cheap to clone.
#[derive(Debug, Clone)]
pub enum Authority {
    /// No registry: this process is all there is.
    Alone,
    /// A copy of `/flack/authority/`, always current.
    Shared(Mirror),
}

impl Authority {
    /// The owner of `resource`; none when nobody was named.
    pub fn owner(&self, resource: Resource) -> Option<String> {
        match self {
            Self::Alone => Some(MONOLITH.to_owned()),
            Self::Shared(mirror) => {
                let entries = mirror.snapshot();
                let entry = entries.get(&keys::authority(resource.name()))?;
                serde_json::from_str::<registry::Authority>(entry).ok().map(|authority| authority.owner)
            }
        }
    }

    pub fn owns(&self, resource: Resource) -> bool {
        self.owner(resource).as_deref() == Some(MONOLITH)
    }

    /// 503 unless `resource` is the monolith's.
    pub fn check(&self, resource: Resource) -> Result<(), Problem> {
        match self.owner(resource) {
            Some(owner) if owner == MONOLITH => Ok(()),
            owner => Err(not_the_owner(resource, owner.as_deref())),
        }
    }
}

/// How long until the balancer sends such a request to the owner: routes follow within milliseconds.
const RETRY_AFTER_SECONDS: u32 = 1;

fn not_the_owner(resource: Resource, owner: Option<&str>) -> Problem {
    let resource = resource.name();
    let detail = match owner {
        Some(owner) => format!(
            "{resource} belongs to {owner} now; the monolith does not touch it: try again in a moment"
        ),
        None => format!("nobody has been named as the owner of {resource} yet; try again in a moment"),
    };
    let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-the-owner", "Not the owner", detail);
    problem.retry_after_seconds = Some(RETRY_AFTER_SECONDS);
    problem
}
