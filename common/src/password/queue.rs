//! The queue of requests that wait for a core to hash a password.
//!
//! Somebody who guesses passwords sends more requests than the machine can hash. The queue then decides who is served
//! first and who gets 503. It knows nothing of passwords; the caller says where a request comes from.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use flack_api::Problem;
use tokio::{sync::oneshot, time::timeout};

/// A request that waits longer gets 503. The callers of users wait for two seconds.
const WAIT_MAX: Duration = Duration::from_millis(1_500);
/// The duration of a hash before the first one was measured.
const HASH_TIME_ASSUMED: Duration = Duration::from_millis(50);
/// A measured duration counts for one of so many parts of the mean.
const HASH_TIME_WEIGHT: u32 = 8;
/// For a machine that hashes very fast. A place needs less than 1 KiB.
const PLACES_MAX: usize = 1_024;
/// One of so many turns goes to the last class instead of the first one, so that no class waits for ever.
const TURNS_PER_LAST_CLASS: u64 = 4;
const CLASSES: [Class; 4] = [Class::Known, Class::KnownWithFailures, Class::New, Class::WithFailures];

/// How far a request is trusted, in the order in which the queue serves them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The account has signed in from this address before, and no attempt has failed there since.
    Known,
    /// The account has signed in from this address before, and attempts have failed there since.
    KnownWithFailures,
    /// A registration, or an account that is new at this address. Nobody has failed at this address for a while.
    New,
    /// An address at which attempts have failed.
    WithFailures,
}

impl Class {
    fn has_failures(self) -> bool {
        matches!(self, Self::KnownWithFailures | Self::WithFailures)
    }
}

/// Where a request comes from. Addresses take turns, and so do the accounts of an address.
#[derive(Debug, Clone)]
pub struct Origin {
    pub class: Class,
    pub address: IpAddr,
    pub account: String,
}

/// The cores, and the requests that wait for one.
#[derive(Debug)]
pub struct Queue {
    cores: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free_cores: usize,
    /// Of the requests with failures. One core is kept for others, if there are several: a hash that has begun cannot
    /// be interrupted.
    free_cores_with_failures: usize,
    /// One lane for each class.
    lanes: [Lane; CLASSES.len()],
    turns: u64,
    /// The mean duration of the last hashes. It grows when other processes use the cores.
    hash_time: Duration,
}

type Turns<K, V> = VecDeque<(K, V)>;
type Waiting = oneshot::Sender<Permit>;

/// The waiting requests of one class. The first address, and its first account, is served next.
#[derive(Debug, Default)]
struct Lane(Turns<IpAddr, Turns<String, VecDeque<Waiting>>>);

/// The right to use one core. When it is dropped, the next request gets it.
#[derive(Debug)]
pub struct Permit {
    queue: &'static Queue,
    has_failures: bool,
}

impl Queue {
    pub fn new(cores: usize) -> Self {
        let state = State {
            free_cores: cores,
            free_cores_with_failures: (cores - 1).max(1),
            lanes: Default::default(),
            turns: 0,
            hash_time: HASH_TIME_ASSUMED,
        };
        Self { cores, state: Mutex::new(state) }
    }

    /// Waits for a core. Returns 503 when the wait is too long, or when the queue is full and others go first.
    pub async fn acquire(&'static self, origin: Origin) -> Result<Permit, Problem> {
        let has_failures = origin.class.has_failures();
        let Some(granted) = self.enter(origin) else { return Ok(Permit { queue: self, has_failures }) };
        match timeout(WAIT_MAX, granted).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Problem::unavailable("sign-in")),
        }
    }

    /// Takes a core, or a place in the queue. Returns nothing when a core was free.
    fn enter(&'static self, origin: Origin) -> Option<oneshot::Receiver<Permit>> {
        let mut state = self.state();
        if state.has_core_for(origin.class) {
            state.take_core(origin.class.has_failures());
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        state.lanes[origin.class as usize].push(origin.address, origin.account, sender);
        if state.length() > self.places(state.hash_time) {
            state.lanes.iter_mut().for_each(Lane::remove_abandoned);
        }
        if state.length() > self.places(state.hash_time) {
            // Its request gets 503, because its sender is dropped.
            state.lanes.iter_mut().rev().find_map(Lane::remove_last_of_longest);
        }
        Some(receiver)
    }

    /// The number of requests that can be served within `WAIT_MAX`.
    fn places(&self, hash_time: Duration) -> usize {
        let turns = WAIT_MAX.as_micros() / hash_time.as_micros().max(1);
        usize::try_from(turns).unwrap_or(PLACES_MAX).saturating_mul(self.cores).clamp(self.cores, PLACES_MAX)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn length(&self) -> usize {
        self.lanes.iter().map(Lane::length).sum()
    }

    fn has_core_for(&self, class: Class) -> bool {
        self.free_cores > 0 && (!class.has_failures() || self.free_cores_with_failures > 0)
    }

    fn take_core(&mut self, has_failures: bool) {
        self.free_cores -= 1;
        self.free_cores_with_failures -= usize::from(has_failures);
    }

    fn give_core_back(&mut self, has_failures: bool) {
        self.free_cores += 1;
        self.free_cores_with_failures += usize::from(has_failures);
    }

    /// Removes the request that is served next, and takes a core for it. Skips requests whose clients do not wait any
    /// more.
    fn next(&mut self) -> Option<(Waiting, bool)> {
        self.turns += 1;
        let mut classes = CLASSES;
        if self.turns.is_multiple_of(TURNS_PER_LAST_CLASS) {
            classes.reverse();
        }
        for class in classes {
            while self.has_core_for(class) {
                let Some(waiting) = self.lanes[class as usize].next() else { break };
                if !waiting.is_closed() {
                    self.take_core(class.has_failures());
                    return Some((waiting, class.has_failures()));
                }
            }
        }
        None
    }
}

impl Lane {
    fn push(&mut self, address: IpAddr, account: String, waiting: Waiting) {
        entry(entry(&mut self.0, address), account).push_back(waiting);
    }

    fn length(&self) -> usize {
        self.0.iter().map(|(_, accounts)| requests_of(accounts)).sum()
    }

    fn next(&mut self) -> Option<Waiting> {
        let (address, mut accounts) = self.0.pop_front()?;
        let (account, mut requests) = accounts.pop_front()?;
        let next = requests.pop_front();
        if !requests.is_empty() {
            accounts.push_back((account, requests));
        }
        if !accounts.is_empty() {
            self.0.push_back((address, accounts));
        }
        next
    }

    /// Removes requests whose clients do not wait any more.
    fn remove_abandoned(&mut self) {
        self.0.retain_mut(|(_, accounts)| {
            accounts.retain_mut(|(_, requests)| {
                requests.retain(|waiting| !waiting.is_closed());
                !requests.is_empty()
            });
            !accounts.is_empty()
        });
    }

    /// Removes the last request of the account that has the most, at the address that has the most.
    fn remove_last_of_longest(&mut self) -> Option<Waiting> {
        let (_, accounts) = self.0.iter_mut().max_by_key(|(_, accounts)| requests_of(accounts))?;
        let (_, requests) = accounts.iter_mut().max_by_key(|(_, requests)| requests.len())?;
        let removed = requests.pop_back();
        self.0.iter_mut().for_each(|(_, accounts)| accounts.retain(|(_, requests)| !requests.is_empty()));
        self.0.retain(|(_, accounts)| !accounts.is_empty());
        removed
    }
}

/// Returns the value of a key. A new key gets the last turn.
fn entry<K: PartialEq, V: Default>(turns: &mut Turns<K, V>, key: K) -> &mut V {
    let found = turns.iter().position(|(known, _)| *known == key);
    let index = found.unwrap_or_else(|| {
        turns.push_back((key, V::default()));
        turns.len() - 1
    });
    &mut turns[index].1
}

fn requests_of(accounts: &Turns<String, VecDeque<Waiting>>) -> usize {
    accounts.iter().map(|(_, requests)| requests.len()).sum()
}

impl Permit {
    /// Hashes, and measures how long it takes.
    pub fn run<T>(self, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = work();
        let mut state = self.queue.state();
        state.hash_time = (state.hash_time * (HASH_TIME_WEIGHT - 1) + started.elapsed()) / HASH_TIME_WEIGHT;
        drop(state);
        result
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.give_core_back(self.has_failures);
        let next = state.next();
        drop(state);
        if let Some((waiting, has_failures)) = next {
            // If the request has just ended, the permit is dropped here and goes to the next one.
            let _ = waiting.send(Self { queue: self.queue, has_failures });
        }
    }
}

#[cfg(test)]
mod tests;
