//! What the balancer and the instances count: requests and failures of each server from HAProxy's statistics, and times
//! of each operation from the instances' metrics.
//!
//! All values grow until a process restarts. A smaller value than before is therefore counted from zero.

use std::collections::{BTreeMap, HashMap};

/// The bound of the last bucket of a histogram, `+Inf`.
const INFINITE: u64 = u64::MAX;
const HISTOGRAM: &str = "http_request_duration_seconds";

/// The counters of one server of HAProxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Responses of the server with any status.
    pub responses: u64,
    /// Of these, responses with a status from 500 on.
    pub errors: u64,
    /// Connections that failed, and responses that were incomplete.
    pub broken: u64,
    /// Of these, requests that HAProxy repeated, so that the client saw no failure.
    pub repeated: u64,
}

/// A server of HAProxy at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub backend: String,
    pub name: String,
    /// Whether it gets new requests.
    pub is_up: bool,
    pub counters: Counters,
}

/// Parses HAProxy's statistics (CSV).
pub fn servers(csv: &str) -> Vec<Server> {
    let mut lines = csv.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let server = |line: &str| {
        let row: HashMap<&str, &str> = columns.iter().copied().zip(line.split(',')).collect();
        let number = |column| row.get(column).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let responses = ["hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "hrsp_other"].map(number);
        Some(Server {
            backend: (*row.get("pxname")?).to_owned(),
            name: (*row.get("svname")?).to_owned(),
            // Such as `UP`, `UP 1/2`; a draining server is `DRAIN` or `NOLB`.
            is_up: row.get("status")?.starts_with("UP"),
            counters: Counters {
                responses: responses.iter().sum(),
                errors: number("hrsp_5xx"),
                broken: number("econ") + number("eresp"),
                repeated: number("wretr") + number("wredis"),
            },
        })
    };
    lines.filter_map(server).filter(|server| !matches!(server.name.as_str(), "FRONTEND" | "BACKEND")).collect()
}

impl Counters {
    /// Returns what was counted since.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        if self.responses < before.responses || self.broken < before.broken {
            return *self;
        }
        Self {
            responses: self.responses - before.responses,
            errors: self.errors.saturating_sub(before.errors),
            broken: self.broken - before.broken,
            repeated: self.repeated.saturating_sub(before.repeated),
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.responses += other.responses;
        self.errors += other.errors;
        self.broken += other.broken;
        self.repeated += other.repeated;
    }

    /// Returns all requests that reached the server, or should have.
    pub fn requests(&self) -> u64 {
        self.responses + self.broken
    }

    /// Returns the requests that the server failed to answer.
    pub fn failed(&self) -> u64 {
        self.errors + self.broken
    }

    /// Returns the failures that a client saw.
    pub fn failed_for_users(&self) -> u64 {
        self.errors + self.broken.saturating_sub(self.repeated)
    }
}

/// The durations of one operation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    pub count: u64,
    pub seconds: f64,
    /// How many requests took at most so many microseconds.
    buckets: BTreeMap<u64, u64>,
}

/// Durations by operation, such as `GET /api/users 200`.
pub type Times = BTreeMap<String, Histogram>;

/// Parses the metrics of an instance. Failed requests are left out: an error is often faster than an answer.
pub fn times(metrics: &str) -> Times {
    let mut times = Times::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix(HISTOGRAM) else { continue };
        // A path may contain braces: `/api/users/{id}`.
        let Some((kind, rest)) = rest.split_once('{') else { continue };
        let Some((labels, value)) = rest.rsplit_once('}') else { continue };
        let (labels, value) = (parse_labels(labels), value.trim());
        let label = |name: &str| labels.get(name).map_or("", String::as_str);
        if label("status").starts_with('5') {
            continue;
        }
        let operation = format!("{} {} {}", label("method"), label("path"), label("status"));
        let histogram = times.entry(operation).or_default();
        match kind {
            "_count" => histogram.count = value.parse().unwrap_or(0),
            "_sum" => histogram.seconds = value.parse().unwrap_or(0.0),
            "_bucket" => {
                histogram.buckets.insert(microseconds(label("le")), value.parse().unwrap_or(0));
            }
            _ => {}
        }
    }
    times
}

/// Parses `name="value",name="value"`.
fn parse_labels(mut rest: &str) -> HashMap<String, String> {
    let mut labels = HashMap::new();
    while let Some((name, after)) = rest.split_once("=\"") {
        let (mut value, mut escaped, mut length) = (String::new(), false, after.len());
        for (position, character) in after.char_indices() {
            match character {
                _ if escaped => {
                    value.push(character);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    length = position + 1;
                    break;
                }
                _ => value.push(character),
            }
        }
        labels.insert(name.trim_start_matches(',').trim().to_owned(), value);
        rest = &after[length..];
    }
    labels
}

fn microseconds(bound: &str) -> u64 {
    match bound.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounds are positive and small")]
        Ok(seconds) if seconds.is_finite() => (seconds * 1e6).round() as u64,
        _ => INFINITE,
    }
}

impl Histogram {
    /// Returns what was measured since.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        if self.count < before.count {
            return self.clone();
        }
        let bucket = |(bound, count): (&u64, &u64)| {
            (*bound, count.saturating_sub(before.buckets.get(bound).copied().unwrap_or(0)))
        };
        Self {
            count: self.count - before.count,
            seconds: (self.seconds - before.seconds).max(0.0),
            buckets: self.buckets.iter().map(bucket).collect(),
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.seconds += other.seconds;
        for (bound, count) in &other.buckets {
            *self.buckets.entry(*bound).or_insert(0) += count;
        }
    }

    pub fn mean_seconds(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.seconds / as_f64(self.count) }
    }

    /// Estimates a percentile, linearly between the bounds of its bucket.
    pub fn percentile_seconds(&self, percent: u64) -> f64 {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let (mut lower, mut below) = (0, 0);
        for (&bound, &count) in &self.buckets {
            if count >= rank {
                // Above the last bound nothing more is known.
                let upper = if bound == INFINITE { lower } else { bound };
                let within = as_f64(rank - below) / as_f64((count - below).max(1));
                return (as_f64(lower) + (as_f64(upper) - as_f64(lower)) * within) / 1e6;
            }
            (lower, below) = (bound, count);
        }
        as_f64(lower) / 1e6
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(super) fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Requests that took at most the milliseconds of a bucket.
    pub fn histogram(requests: &[(u64, u64)]) -> Histogram {
        let mut histogram = Histogram::default();
        for bound in [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000] {
            let count = requests.iter().filter(|(ms, _)| ms * 1_000 <= bound).map(|(_, count)| count).sum();
            histogram.buckets.insert(bound, count);
        }
        for (ms, count) in requests {
            histogram.count += count;
            histogram.seconds += as_f64(ms * count) / 1_000.0;
        }
        histogram.buckets.insert(INFINITE, histogram.count);
        histogram
    }

    const CSV: &str = "# pxname,svname,stot,econ,eresp,wretr,wredis,status,weight,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,\
                       hrsp_5xx,hrsp_other,\n\
                       users,users-1,120,1,2,0,3,UP,100,0,100,5,10,2,0,\n\
                       users,users-2,0,0,0,0,0,DRAIN,100,0,0,0,0,0,0,\n\
                       users,BACKEND,120,1,2,0,3,UP,100,0,100,5,10,2,0,\n";

    #[test]
    fn servers_are_read_from_the_statistics_of_haproxy() {
        let servers = servers(CSV);
        assert_eq!(servers.len(), 2, "a backend is no server: {servers:?}");
        assert_eq!((servers[0].name.as_str(), servers[0].is_up, servers[1].is_up), ("users-1", true, false));
        let counters = servers[0].counters;
        assert_eq!((counters.requests(), counters.failed()), (120, 5));
        assert_eq!(counters.failed_for_users(), 2, "all broken requests were repeated");
    }

    #[test]
    fn a_restarted_balancer_counts_from_zero() {
        let counters = |responses, errors| Counters { responses, errors, ..Counters::default() };
        assert_eq!(counters(150, 3).since(&counters(100, 1)), counters(50, 2));
        assert_eq!(counters(20, 1).since(&counters(100, 1)), counters(20, 1));
    }

    const METRICS: &str = r#"# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{method="GET",path="/api/users/{id}",status="200",le="0.001"} 10
http_request_duration_seconds_bucket{method="GET",path="/api/users/{id}",status="200",le="0.01"} 90
http_request_duration_seconds_bucket{method="GET",path="/api/users/{id}",status="200",le="+Inf"} 100
http_request_duration_seconds_sum{method="GET",path="/api/users/{id}",status="200"} 0.5
http_request_duration_seconds_count{method="GET",path="/api/users/{id}",status="200"} 100
http_request_duration_seconds_count{method="GET",path="a\"b",status="404"} 1
http_request_duration_seconds_count{method="GET",path="/api/users/{id}",status="500"} 7
http_requests_total{method="GET",path="/api/users/{id}",status="200"} 100
"#;

    #[test]
    fn times_are_read_from_the_metrics_without_failed_requests() {
        let times = times(METRICS);
        assert_eq!(times.keys().collect::<Vec<_>>(), ["GET /api/users/{id} 200", "GET a\"b 404"]);
        let histogram = &times["GET /api/users/{id} 200"];
        assert_eq!((histogram.count, histogram.buckets.len()), (100, 3));
        assert!((histogram.mean_seconds() - 0.005).abs() < 1e-9);
    }

    #[test]
    fn a_percentile_is_estimated_within_its_bucket() {
        let histogram = histogram(&[(1, 50), (100, 50)]);
        assert!(histogram.percentile_seconds(50) <= 0.001);
        let p99 = histogram.percentile_seconds(99);
        assert!((0.01..=0.1).contains(&p99), "{p99}");
        assert!(Histogram::default().percentile_seconds(99) < 1e-9);
    }

    #[test]
    fn histograms_are_compared_from_a_moment_on() {
        let (before, after) = (histogram(&[(1, 10)]), histogram(&[(1, 10), (100, 5)]));
        let since = after.since(&before);
        assert_eq!(since.count, 5);
        assert!((since.mean_seconds() - 0.1).abs() < 1e-9);
        let mut sum = before.clone();
        sum.add(&since);
        assert_eq!(sum.count, after.count);
    }
}
