//! Differences between two versions of a document, and their effect on clients.

use std::fmt;

/// The side of an interface that a schema describes, from the client's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Clients write it: requests and client frames. A schema that accepts less breaks them.
    Written,
    /// Clients read it: responses, events, server frames. Missing members and unknown values break them.
    Read,
}

/// Change of the set of valid values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Narrower,
    Wider,
    /// Neither set contains the other, or this is unknown.
    Other,
}

impl Role {
    pub fn is_broken_by(self, change: Change) -> bool {
        match change {
            Change::Narrower => self == Self::Written,
            Change::Wider => self == Self::Read,
            Change::Other => true,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub place: String,
    pub what: String,
    pub is_breaking: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = if self.is_breaking { "BREAKING" } else { "not breaking" };
        write!(f, "{label}: {}: {}", self.place, self.what)
    }
}

/// The differences found so far.
#[derive(Debug, Default)]
pub struct Differences(Vec<Difference>);

impl Differences {
    pub fn breaking(&mut self, place: &str, what: impl Into<String>) {
        self.add(place, what, true);
    }

    pub fn harmless(&mut self, place: &str, what: impl Into<String>) {
        self.add(place, what, false);
    }

    pub fn add(&mut self, place: &str, what: impl Into<String>, is_breaking: bool) {
        let difference = Difference { place: place.to_owned(), what: what.into(), is_breaking };
        // A schema that is used twice differs once.
        if !self.0.contains(&difference) {
            self.0.push(difference);
        }
    }

    pub fn into_vec(self) -> Vec<Difference> {
        self.0
    }
}
