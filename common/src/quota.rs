//! Quotas: how much one client or user may do per time, counted in the memory of this process.
//!
//! The generic cell rate algorithm: a client's state is one time, at which its quota is whole again. A quota that is
//! whole can be used at once; it then comes back evenly during the window.
//!
//! Each instance counts alone: with n instances a user has up to n quotas. The limits that must not depend on the
//! number of instances, those of credentials, are counted in the database of users.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use flack_api::{Invocation, Layer, Output, Problem, RateLimit};

use crate::config::LimitsConfig;

/// The window of the quotas of users.
const WINDOW: Duration = Duration::from_secs(10);
/// Users with a quota that is not whole. One takes about 30 bytes.
const USERS_MAX: usize = 100_000;

/// The size of a quota.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    pub units_max: u32,
    /// In which a used quota comes back.
    pub window: Duration,
}

/// A client's state. It begins with a whole quota.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    whole_at: Instant,
}

impl Bucket {
    pub fn new(now: Instant) -> Self {
        Self { whole_at: now }
    }

    /// Uses up to `units` of the quota, or returns the time until there are enough.
    pub fn take(&mut self, rate: Rate, units: u32, now: Instant) -> Result<(), Duration> {
        // More than the whole quota would never be possible.
        let cost = rate.window * units.min(rate.units_max) / rate.units_max;
        let used = self.until_whole(now) + cost;
        match used.checked_sub(rate.window) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                self.whole_at = now + used;
                Ok(())
            }
        }
    }

    fn until_whole(&self, now: Instant) -> Duration {
        self.whole_at.saturating_duration_since(now)
    }

    fn units_left(&self, rate: Rate, now: Instant) -> u32 {
        let left = rate.window.saturating_sub(self.until_whole(now));
        let units = left.as_nanos() * u128::from(rate.units_max) / rate.window.as_nanos();
        u32::try_from(units).unwrap_or(rate.units_max)
    }
}

/// A quota that every user has.
#[derive(Debug)]
pub struct UserQuota {
    /// The name in `RateLimit-Policy`.
    policy: &'static str,
    rate: Rate,
    users: Mutex<HashMap<i64, Bucket>>,
}

impl UserQuota {
    pub fn per_10_seconds(policy: &'static str, units_max: u32) -> Self {
        Self { policy, rate: Rate { units_max, window: WINDOW }, users: Mutex::default() }
    }

    /// Uses `units` of the user's quota. 429 when too little of it is left. Also returns what is left.
    pub fn take(&self, user_id: i64, units: u32) -> (RateLimit, Result<(), Problem>) {
        self.take_at(user_id, units, Instant::now())
    }

    fn take_at(&self, user_id: i64, units: u32, now: Instant) -> (RateLimit, Result<(), Problem>) {
        let (rate, policy) = (self.rate, self.policy);
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= USERS_MAX {
            users.retain(|_, bucket| bucket.whole_at > now);
            // So many active users are an attack; checking all of them at each request would be a part of it.
            if users.len() > USERS_MAX / 2 {
                users.clear();
            }
        }
        let bucket = users.entry(user_id).or_insert_with(|| Bucket::new(now));
        let taken = bucket.take(rate, units, now);
        let rate_limit = RateLimit {
            policy,
            units_max: rate.units_max,
            window_seconds: rate.window.as_secs(),
            units_left: bucket.units_left(rate, now),
            reset_seconds: seconds(bucket.until_whole(now)),
        };
        let result = taken.map_err(|wait| {
            let seconds = u32::try_from(seconds(wait)).unwrap_or(u32::MAX);
            let detail = format!(
                "a user has {} {policy} in {} s; try again in {seconds} s",
                rate.units_max, rate_limit.window_seconds
            );
            Problem::too_many_requests(detail, seconds)
        });
        (rate_limit, result)
    }
}

/// Rounds up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// The limit of each user's writes: a layer around the APIs of a process, so that no handler needs to count, and calls
/// between parts of the process are counted once, as requests are. A request that the other side of a part has passed
/// on was counted there.
#[derive(Debug, Clone)]
pub struct WriteLimit(Arc<UserQuota>);

impl WriteLimit {
    pub fn new(limits: &LimitsConfig) -> Self {
        Self(Arc::new(UserQuota::per_10_seconds("writes", limits.writes_per_user_per_10s)))
    }
}

impl<Api: ?Sized + Send + Sync + 'static> Layer<Api> for WriteLimit {
    async fn call<T: Output>(&self, inner: &Arc<Api>, invocation: Invocation<Api, T>) -> Result<T, Problem> {
        if let Some(user_id) = invocation.user_id
            && !invocation.operation.is_read()
            && invocation.context.forwarded_epoch.is_none()
        {
            let (rate_limit, taken) = self.0.take(user_id, 1);
            invocation.context.rate_limits.report(rate_limit);
            taken?;
        }
        invocation.run(inner).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(quota: &UserQuota, user_id: i64, units: u32, now: Instant) -> bool {
        quota.take_at(user_id, units, now).1.is_ok()
    }

    #[test]
    fn a_quota_can_be_used_at_once_and_comes_back_evenly() {
        let (quota, start) = (UserQuota::per_10_seconds("writes", 20), Instant::now());
        for _ in 0..20 {
            assert!(allowed(&quota, 1, 1, start));
        }
        let (state, refused) = quota.take_at(1, 1, start);
        let problem = refused.expect_err("the quota is used");
        assert_eq!((problem.status, problem.retry_after_seconds), (429, Some(1)));
        assert_eq!((state.units_left, state.reset_seconds), (0, 10));
        let later = start + Duration::from_millis(1_010);
        assert!(allowed(&quota, 1, 1, later) && allowed(&quota, 1, 1, later) && !allowed(&quota, 1, 1, later));
    }

    #[test]
    fn each_user_has_a_quota() {
        let (quota, start) = (UserQuota::per_10_seconds("writes", 1), Instant::now());
        assert!(allowed(&quota, 1, 1, start) && !allowed(&quota, 1, 1, start));
        assert!(allowed(&quota, 2, 1, start));
    }

    #[test]
    fn a_refused_request_uses_nothing() {
        let (quota, start) = (UserQuota::per_10_seconds("bytes", 100), Instant::now());
        assert!(allowed(&quota, 1, 60, start) && !allowed(&quota, 1, 60, start) && allowed(&quota, 1, 40, start));
    }

    #[test]
    fn more_than_a_whole_quota_needs_a_whole_quota() {
        let (quota, start) = (UserQuota::per_10_seconds("bytes", 100), Instant::now());
        assert!(allowed(&quota, 1, 1_000_000, start) && !allowed(&quota, 1, 1, start));
        assert!(allowed(&quota, 1, 1_000_000, start + WINDOW));
    }

    #[test]
    fn the_number_of_users_in_memory_is_bounded() {
        let (quota, start) = (UserQuota::per_10_seconds("writes", 200), Instant::now());
        for user_id in 0..250_000 {
            let at = start + Duration::from_micros(u64::try_from(user_id).unwrap());
            assert!(allowed(&quota, user_id, 1, at));
        }
        assert!(quota.users.lock().unwrap().len() <= USERS_MAX);
    }
}
