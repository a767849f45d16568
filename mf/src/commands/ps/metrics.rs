//! Numbers from HAProxy's statistics (CSV) and from the `/metrics` of instances (Prometheus text format).

use std::collections::BTreeMap;

/// What HAProxy reports of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Server {
    /// `UP`, `DOWN`, `DRAIN`, `MAINT`, and others.
    pub(super) status: String,
    pub(super) requests_per_second: u64,
}

/// HAProxy's statistics.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Balancer {
    /// By name of the instance.
    pub(super) servers: BTreeMap<String, Server>,
    /// Of the public listener.
    pub(super) requests_per_second: Option<u64>,
}

impl Balancer {
    pub(super) fn parse(csv: &str) -> Self {
        let mut lines = csv.lines();
        let header: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
        let mut balancer = Self::default();
        for line in lines {
            let fields: Vec<&str> = line.split(',').collect();
            let field = |name: &str| {
                let position = header.iter().position(|column| *column == name)?;
                fields.get(position).copied()
            };
            let number = |name: &str| field(name).and_then(|value| value.parse::<u64>().ok());
            match (field("pxname"), field("svname")) {
                (Some("public"), Some("FRONTEND")) => balancer.requests_per_second = number("req_rate"),
                (_, None | Some("FRONTEND" | "BACKEND")) => {}
                (_, Some(name)) => {
                    let server = balancer.servers.entry(name.to_owned()).or_default();
                    // While an instance moves from one backend to another, it is in both; one that works counts.
                    let status = field("status").unwrap_or_default();
                    if server.status.is_empty() || status.starts_with("UP") {
                        status.clone_into(&mut server.status);
                    }
                    server.requests_per_second += number("rate").unwrap_or_default();
                }
            }
        }
        balancer
    }
}

/// What an instance reports of itself since its start.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Metrics {
    /// The cumulative counts of the histogram of all requests, by upper bound in seconds.
    buckets: Vec<(f64, u64)>,
    /// Open websockets; `None` if the instance has no websockets.
    pub(super) sockets: Option<u64>,
}

impl Metrics {
    pub(super) fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            if name == "websocket_connections" {
                metrics.sockets = value.parse().ok();
            }
            let Some(labels) = name.strip_prefix("http_request_duration_seconds_bucket{") else { continue };
            let bound = labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
            // Rust parses the bound `+Inf`, too.
            let (Some(Ok(bound)), Ok(count)) = (bound.map(str::parse::<f64>), value.parse::<u64>()) else { continue };
            match metrics.buckets.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
                Some((_, sum)) => *sum += count,
                None => metrics.buckets.push((bound, count)),
            }
        }
        metrics.buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        metrics
    }

    /// Returns the time in seconds that 99 % of the requests since `before` took at most; `None` without a request.
    /// It is interpolated within a bucket, and at most the largest bound.
    pub(super) fn p99_seconds_since(&self, before: Option<&Self>) -> Option<f64> {
        let earlier = |bound: f64| {
            let buckets = before.map_or(&[][..], |before| &before.buckets);
            buckets.iter().find(|(known, _)| known.total_cmp(&bound).is_eq()).map_or(0, |(_, count)| *count)
        };
        // A restarted instance counts from zero again.
        let counts: Vec<(f64, f64)> =
            self.buckets.iter().map(|(bound, count)| (*bound, as_f64(count.saturating_sub(earlier(*bound))))).collect();
        let total = counts.last().map(|(_, count)| *count).filter(|total| *total > 0.0)?;
        let rank = total * 0.99;
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in counts {
            if count >= rank {
                let share = if count > below { (rank - below) / (count - below) } else { 1.0 };
                return Some(if bound.is_finite() { lower + (bound - lower) * share } else { lower });
            }
            (lower, below) = (bound, count);
        }
        None
    }
}

#[expect(clippy::cast_precision_loss, reason = "a quantile of more than 2^53 requests needs no exact count")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = "# pxname,svname,status,rate,req_rate,\n\
                       public,FRONTEND,OPEN,3,41,\ninternal,FRONTEND,OPEN,3,7,\n\
                       users,users-1,UP,12,,\nusers,users-2,DRAIN,0,,\nusers,BACKEND,UP,12,,\n\
                       users.canary,users-3,UP,5,,\nusers,users-3,MAINT,1,,\n";

    const METRICS: &str = "# TYPE http_request_duration_seconds histogram\n\
        http_request_duration_seconds_bucket{method=\"GET\",path=\"/a\",status=\"200\",le=\"0.001\"} 50\n\
        http_request_duration_seconds_bucket{method=\"GET\",path=\"/a\",status=\"200\",le=\"0.01\"} 90\n\
        http_request_duration_seconds_bucket{method=\"GET\",path=\"/a\",status=\"200\",le=\"+Inf\"} 90\n\
        http_request_duration_seconds_bucket{method=\"PUT\",path=\"/a\",status=\"200\",le=\"0.001\"} 0\n\
        http_request_duration_seconds_bucket{method=\"PUT\",path=\"/a\",status=\"200\",le=\"0.01\"} 8\n\
        http_request_duration_seconds_bucket{method=\"PUT\",path=\"/a\",status=\"200\",le=\"+Inf\"} 10\n\
        http_request_duration_seconds_count{method=\"PUT\",path=\"/a\",status=\"200\"} 10\n\
        websocket_connections 17\n";

    #[test]
    fn servers_have_their_state_and_their_requests_per_second() {
        let balancer = Balancer::parse(CSV);
        assert_eq!(balancer.requests_per_second, Some(41));
        let server = |name: &str| {
            let server = &balancer.servers[name];
            (server.status.as_str(), server.requests_per_second)
        };
        assert_eq!(server("users-1"), ("UP", 12));
        assert_eq!(server("users-2"), ("DRAIN", 0));
        assert_eq!(server("users-3"), ("UP", 6), "an instance that is in two backends");
        assert_eq!(balancer.servers.len(), 3);
        assert_eq!(Balancer::parse(""), Balancer::default());
    }

    #[test]
    fn the_p99_is_that_of_all_requests_together() {
        let metrics = Metrics::parse(METRICS);
        assert_eq!(metrics.sockets, Some(17));
        // 100 requests: 50 below 1 ms, 98 below 10 ms, 2 above.
        assert_eq!(metrics.p99_seconds_since(None), Some(0.01), "above the largest bound");
        assert_eq!(Metrics::parse("").p99_seconds_since(None), None);
        let half = Metrics { buckets: vec![(0.001, 0), (0.01, 100), (f64::INFINITY, 100)], sockets: None };
        let p99 = half.p99_seconds_since(None).expect("requests");
        assert!((p99 - 0.009_91).abs() < 1e-9, "{p99}");
    }

    #[test]
    fn only_the_requests_since_the_earlier_numbers_count() {
        let before = Metrics { buckets: vec![(0.001, 0), (0.01, 100), (f64::INFINITY, 100)], sockets: None };
        let now = Metrics { buckets: vec![(0.001, 100), (0.01, 200), (f64::INFINITY, 200)], sockets: None };
        let p99 = now.p99_seconds_since(Some(&before)).expect("requests");
        assert!(p99 <= 0.001, "{p99}");
        assert_eq!(now.p99_seconds_since(Some(&now)), None, "no request since then");
        assert_eq!(before.p99_seconds_since(Some(&now)), None, "a restarted instance without a request");
    }
}
