//! The verdict on a new version: its requests are compared with those of the old version in the same seconds.
//!
//! Both versions get the same mix of requests, because the balancer distributes them, so a difference is one of the
//! versions. What is bad for both, such as a slow database, does not count against the new one.

use std::fmt;

use super::counters::{Counters, Times, as_f64};

/// The share of failed requests that a version may always have.
const FAILED_SHARE_MAX: f64 = 0.01;
/// How many standard deviations the share of failed requests must be above that of the old version: chance alone
/// exceeds this in one of twenty comparisons.
const FAILED_DEVIATIONS_MIN: f64 = 1.645;
/// With fewer requests to the old version, its share of failed requests says too little to excuse the new one's.
const OLD_REQUESTS_MIN: u64 = 30;
/// The average time may be this many times that of the old version, and this much longer.
const MEAN_RATIO_MAX: f64 = 2.0;
const MEAN_DIFFERENCE_SECONDS_MAX: f64 = 0.005;
/// Of an operation of a version that is slower on average, the third quartile is at least this many times as long. A
/// new process opens its connections with its first requests, and a busy machine delays single ones: both change only
/// the average.
const QUARTILE_RATIO_MIN: f64 = 1.5;
/// The same for the median of an operation. It shows a slow version also where requests take less than a millisecond,
/// and slow first requests of a new process do not change it.
const MEDIAN_RATIO_MAX: f64 = 3.0;
const MEDIAN_DIFFERENCE_SECONDS_MAX: f64 = 0.001;
/// The same for the 99th percentile of an operation.
const P99_RATIO_MAX: f64 = 1.2;
const P99_DIFFERENCE_SECONDS_MAX: f64 = 0.05;
/// With fewer requests of an operation on either side, its average and its median are not compared.
const MEAN_REQUESTS_MIN: u64 = 50;
/// With fewer, the 99th percentile is the time of one or two requests.
const P99_REQUESTS_MIN: u64 = 500;

/// What one version did since the observation began.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    pub counters: Counters,
    pub times: Times,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// The reason is a clause, such as `10.2 % of its requests fail`.
    Bad(String),
    NotEnough {
        requests: u64,
        needed: u64,
    },
}

impl Sample {
    /// Returns the verdict on this sample of the new version.
    pub fn judge(&self, old: &Self, requests_min: u64) -> Verdict {
        let requests = self.counters.requests();
        if requests < requests_min {
            return Verdict::NotEnough { requests, needed: requests_min };
        }
        match self.fails_more(old).or_else(|| self.is_slower(old)) {
            Some(reason) => Verdict::Bad(reason),
            None => Verdict::Good,
        }
    }

    /// The same for a service that holds connections: there are few requests, and their times mean nothing.
    pub fn judge_connections(&self, old: &Self) -> Verdict {
        self.fails_more(old).map_or(Verdict::Good, Verdict::Bad)
    }

    fn fails_more(&self, old: &Self) -> Option<String> {
        let (new, old) = (self.counters, old.counters);
        let share = share(new.failed(), new.requests());
        if share <= FAILED_SHARE_MAX {
            return None;
        }
        if old.requests() >= OLD_REQUESTS_MIN {
            // The test of two proportions.
            let pooled = self::share(new.failed() + old.failed(), new.requests() + old.requests());
            let variance = pooled * (1.0 - pooled) * (1.0 / as_f64(new.requests()) + 1.0 / as_f64(old.requests()));
            let difference = share - self::share(old.failed(), old.requests());
            if difference <= FAILED_DEVIATIONS_MIN * variance.sqrt() {
                return None;
            }
        }
        Some(format!(
            "{} of its {} requests failed ({:.1} %), with the old version {} of {}",
            new.failed(),
            new.requests(),
            share * 100.0,
            old.failed(),
            old.requests()
        ))
    }

    fn is_slower(&self, old: &Self) -> Option<String> {
        let compared: Vec<_> =
            self.times.iter().filter_map(|(name, new)| Some((name, new, old.times.get(name)?))).collect();
        // The averages of all operations together, as if the old version had answered the requests of the new one.
        let (mut new_seconds, mut old_seconds, mut requests, mut are_many_slower) = (0.0, 0.0, 0, false);
        for (_, new, old) in &compared {
            if new.count.min(old.count) >= MEAN_REQUESTS_MIN {
                are_many_slower |= new.percentile_seconds(75) > old.percentile_seconds(75) * QUARTILE_RATIO_MIN;
                new_seconds += new.seconds;
                old_seconds += old.mean_seconds() * as_f64(new.count);
                requests += new.count;
            }
        }
        if are_many_slower {
            let (new, old) = (new_seconds / as_f64(requests), old_seconds / as_f64(requests));
            if new > old * MEAN_RATIO_MAX && new - old > MEAN_DIFFERENCE_SECONDS_MAX {
                return Some(format!("its requests take {} on average, those of the old version {}", ms(new), ms(old)));
            }
        }
        compared.iter().find_map(|(name, new, old)| {
            let count = new.count.min(old.count);
            [
                ("median", 50, MEAN_REQUESTS_MIN, MEDIAN_RATIO_MAX, MEDIAN_DIFFERENCE_SECONDS_MAX),
                ("99th percentile", 99, P99_REQUESTS_MIN, P99_RATIO_MAX, P99_DIFFERENCE_SECONDS_MAX),
            ]
            .into_iter()
            .filter(|(_, _, requests_min, ..)| count >= *requests_min)
            .find_map(|(what, percent, _, ratio_max, difference_max)| {
                let (new, old) = (new.percentile_seconds(percent), old.percentile_seconds(percent));
                let is_slower = new > old * ratio_max && new - old > difference_max;
                is_slower.then(|| format!("its {what} of {name} is {}, that of the old version {}", ms(new), ms(old)))
            })
        })
    }
}

fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { as_f64(part) / as_f64(of) }
}

fn ms(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1_000.0)
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("good"),
            Self::Bad(reason) => write!(f, "bad: {reason}"),
            Self::NotEnough { requests, needed } => {
                write!(f, "not enough traffic: hold ({requests} of {needed} requests)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade::counters::tests::histogram;

    fn counted(responses: u64, errors: u64) -> Sample {
        Sample { counters: Counters { responses, errors, ..Counters::default() }, times: Times::new() }
    }

    fn timed(requests: &[(u64, u64)]) -> Sample {
        let histogram = histogram(requests);
        let counters = Counters { responses: histogram.count, ..Counters::default() };
        Sample { counters, times: Times::from([("GET /api/users 200".to_owned(), histogram)]) }
    }

    fn reason(verdict: Verdict) -> String {
        match verdict {
            Verdict::Bad(reason) => reason,
            other => panic!("not bad, but {other}"),
        }
    }

    #[test]
    fn too_few_requests_are_no_verdict() {
        let verdict = counted(99, 99).judge(&counted(1_000, 0), 100);
        assert_eq!(verdict, Verdict::NotEnough { requests: 99, needed: 100 });
        assert_eq!(verdict.to_string(), "not enough traffic: hold (99 of 100 requests)");
    }

    #[test]
    fn a_version_that_fails_a_tenth_of_its_requests_is_bad() {
        let reason = reason(counted(100, 10).judge(&counted(100, 0), 100));
        assert!(reason.starts_with("10 of its 100 requests failed (10.0 %)"), "{reason}");
    }

    #[test]
    fn one_failure_in_a_hundred_is_allowed() {
        assert_eq!(counted(100, 1).judge(&counted(200, 0), 100), Verdict::Good);
    }

    #[test]
    fn failures_that_both_versions_have_do_not_count_against_the_new_one() {
        assert_eq!(counted(100, 12).judge(&counted(200, 20), 100), Verdict::Good);
        reason(counted(1_000, 200).judge(&counted(2_000, 200), 100));
    }

    #[test]
    fn without_traffic_to_the_old_version_only_failures_count() {
        reason(counted(100, 5).judge(&counted(0, 0), 100));
        assert_eq!(timed(&[(900, 100)]).judge(&counted(0, 0), 100), Verdict::Good);
    }

    #[test]
    fn broken_connections_are_failures_also_when_the_balancer_repeated_the_request() {
        let counters = Counters { responses: 90, errors: 0, broken: 10, repeated: 10 };
        let new = Sample { counters, times: Times::new() };
        reason(new.judge(&counted(100, 0), 100));
        reason(new.judge_connections(&counted(3, 0)));
    }

    #[test]
    fn a_version_that_is_several_times_slower_is_bad() {
        let reason = reason(timed(&[(50, 100)]).judge(&timed(&[(10, 100)]), 100));
        assert!(reason.contains("50.0 ms on average") && reason.contains("10.0 ms"), "{reason}");
        assert_eq!(timed(&[(18, 100)]).judge(&timed(&[(10, 100)]), 100), Verdict::Good);
    }

    #[test]
    fn a_version_that_is_several_times_slower_is_bad_also_when_it_is_fast() {
        let reason = reason(timed(&[(4, 100)]).judge(&timed(&[(1, 100)]), 100));
        assert!(reason.contains("median of GET /api/users 200"), "{reason}");
    }

    #[test]
    fn a_slower_millisecond_and_slow_first_requests_are_no_reason() {
        assert_eq!(timed(&[(2, 100)]).judge(&timed(&[(1, 100)]), 100), Verdict::Good);
        assert_eq!(timed(&[(1, 80), (20, 20)]).judge(&timed(&[(1, 100)]), 100), Verdict::Good);
    }

    #[test]
    fn first_requests_that_open_connections_and_a_request_that_was_delayed_are_no_reason() {
        let old = timed(&[(4, 300)]);
        assert_eq!(timed(&[(4, 107), (90, 10)]).judge(&old, 100), Verdict::Good);
        assert_eq!(timed(&[(4, 120), (900, 1)]).judge(&old, 100), Verdict::Good);
        let reason = reason(timed(&[(4, 70), (90, 40)]).judge(&old, 100));
        assert!(reason.contains("on average"), "{reason}");
    }

    #[test]
    fn a_slow_hundredth_is_bad_when_there_are_enough_requests_to_see_it() {
        let reason = reason(timed(&[(30, 980), (900, 20)]).judge(&timed(&[(30, 995), (50, 5)]), 100));
        assert!(reason.contains("99th percentile of GET /api/users 200"), "{reason}");
    }

    #[test]
    fn another_mix_of_operations_is_not_slower() {
        let with = |fast: u64, slow: u64| Sample {
            counters: Counters { responses: fast + slow, ..Counters::default() },
            times: Times::from([
                ("GET / 200".to_owned(), histogram(&[(1, fast)])),
                ("POST /api/tokens 200".to_owned(), histogram(&[(100, slow)])),
            ]),
        };
        assert_eq!(with(60, 200).judge(&with(300, 60), 100), Verdict::Good);
    }
}
