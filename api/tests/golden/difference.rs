//! What a difference between two versions of a document does to those who use it.

use std::fmt;

/// Which side of an interface a schema describes, seen from those who cannot change in step with us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Others write it and we read it: requests and client frames. To accept less breaks them.
    Written,
    /// We write it and others read it: answers, events, server frames. To tell less, or what they never saw, breaks them.
    Read,
}

/// Where the set of good values went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Narrower,
    Wider,
    /// Neither holds the other, or nobody can tell.
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
