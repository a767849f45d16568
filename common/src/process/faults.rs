//! Faults for tests and workshops: a version that is bad in a known way (`FLACK_FAULTS=errors=10%,slow=5x`).
//!
//! Owns the syntax, and how each fault shows. Faults are set by the environment of a process only; nobody can switch
//! them on from outside.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use axum::{
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use flack_api::Problem;
use tokio::time::{Instant, sleep};
use tracing::error;

use super::App;

/// No fault lasts longer, so that a mistake in the unit is noticed.
const DURATION_MAX: Duration = Duration::from_mins(10);
const SLOW_TIMES_MAX: u32 = 1_000;
const EXIT_CODE: i32 = 1;

/// The faults of a process. The default has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// `errors=10%`: this share of the requests gets the answer 500.
    errors_percent: u8,
    slow: Option<Slow>,
    /// `exit=3s`: the process ends with exit code 1 after this time.
    exit: Option<Duration>,
    /// `not-ready`: `/ready` answers 503, and the instance does not register.
    not_ready: bool,
    /// `migration`: the start fails where the migrations of the database would run.
    migration: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slow {
    /// `slow=50ms`: each request takes this much longer.
    By(Duration),
    /// `slow=5x`: each request takes this many times as long.
    Times(u32),
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut faults = Self::default();
        for fault in text.split(',').map(str::trim) {
            match fault.split_once('=').unwrap_or((fault, "")) {
                ("errors", share) => faults.errors_percent = parse_percent(share)?,
                ("slow", slow) => faults.slow = Some(parse_slow(slow)?),
                ("exit", time) => faults.exit = Some(parse_duration(time)?),
                ("not-ready", "") => faults.not_ready = true,
                ("migration", "") => faults.migration = true,
                _ => {
                    return Err(format!(
                        "`{fault}` is not a fault; faults are errors=10%, slow=50ms, slow=5x, exit=3s, not-ready, \
                         migration"
                    ));
                }
            }
        }
        Ok(faults)
    }
}

fn parse_percent(text: &str) -> Result<u8, String> {
    text.strip_suffix('%')
        .and_then(|number| number.parse().ok())
        .filter(|percent| (1..=100).contains(percent))
        .ok_or_else(|| format!("`{text}` is not a share; use 1% to 100%"))
}

fn parse_slow(text: &str) -> Result<Slow, String> {
    let Some(number) = text.strip_suffix('x') else { return parse_duration(text).map(Slow::By) };
    let times = number.parse().ok().filter(|times| (2..=SLOW_TIMES_MAX).contains(times));
    times.map(Slow::Times).ok_or_else(|| format!("`{text}` is not a multiple; use 2x to {SLOW_TIMES_MAX}x"))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = if let Some(number) = text.strip_suffix("ms") {
        number.parse().map(Duration::from_millis).ok()
    } else {
        text.strip_suffix('s').and_then(|number| number.parse().map(Duration::from_secs).ok())
    };
    duration.filter(|duration| *duration <= DURATION_MAX).ok_or_else(|| {
        format!("`{text}` is not a time; use ms or s, such as 50ms, and at most {} s", DURATION_MAX.as_secs())
    })
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = (self.errors_percent > 0).then(|| format!("errors={}%", self.errors_percent));
        let slow = self.slow.map(|slow| match slow {
            Slow::By(time) => format!("slow={}ms", time.as_millis()),
            Slow::Times(times) => format!("slow={times}x"),
        });
        let exit = self.exit.map(|time| format!("exit={}ms", time.as_millis()));
        let not_ready = self.not_ready.then(|| "not-ready".to_owned());
        let migration = self.migration.then(|| "migration".to_owned());
        let all: Vec<String> = [errors, slow, exit, not_ready, migration].into_iter().flatten().collect();
        formatter.write_str(&all.join(","))
    }
}

impl Faults {
    /// Fails in the place of the migrations, with `migration`.
    pub(super) fn fail_migration(self) -> anyhow::Result<()> {
        if self.migration {
            bail!("the own migrations failed: FLACK_FAULTS has `migration`");
        }
        Ok(())
    }

    /// Returns the app with these faults. Probes have none: `/health` and `/metrics` show the faults of the others.
    pub(super) fn inject(self, mut app: App) -> App {
        if let Some(time) = self.exit {
            tokio::spawn(async move {
                sleep(time).await;
                error!("this process ends now: FLACK_FAULTS has `exit`");
                std::process::exit(EXIT_CODE);
            });
        }
        if self.not_ready {
            app.readiness = app.readiness.check("faults", async || bail!("FLACK_FAULTS has `not-ready`"));
        }
        if self.errors_percent > 0 || self.slow.is_some() {
            let requests = Arc::new(AtomicU64::new(0));
            app.router = app.router.layer(from_fn_with_state((self, requests), misbehave));
        }
        app
    }

    /// Whether request number `number` fails. The failures are distributed evenly: of any 100 requests in a row,
    /// exactly `errors_percent` fail.
    fn fails(self, number: u64) -> bool {
        let percent = u64::from(self.errors_percent);
        number % 100 * percent % 100 < percent
    }
}

async fn misbehave(
    State((faults, requests)): State<(Faults, Arc<AtomicU64>)>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    if faults.fails(requests.fetch_add(1, Ordering::Relaxed)) {
        return Problem::internal().into_response();
    }
    let response = next.run(request).await;
    match faults.slow {
        Some(Slow::By(time)) => sleep(time).await,
        Some(Slow::Times(times)) => sleep(began.elapsed() * (times - 1)).await,
        None => {}
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, routing::get};
    use http::StatusCode;
    use tower::ServiceExt;

    use super::*;
    use crate::process::Readiness;

    fn faults(text: &str) -> Faults {
        text.parse().expect("they are faults")
    }

    fn app(text: &str) -> App {
        let router = Router::new().route("/", get(async || "fine")).route(
            "/10ms",
            get(async || {
                sleep(Duration::from_millis(10)).await;
                "fine"
            }),
        );
        faults(text).inject(App { router, readiness: Readiness::new() })
    }

    async fn status(app: &App) -> StatusCode {
        status_of(app, "/").await
    }

    async fn status_of(app: &App, path: &str) -> StatusCode {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        app.router.clone().oneshot(request).await.expect("it answers").status()
    }

    #[test]
    fn faults_are_written_as_they_are_read() {
        let all = "errors=10%,slow=50ms,exit=3000ms,not-ready,migration";
        assert_eq!(faults(all).to_string(), all);
        assert_eq!(faults("slow=5x").to_string(), "slow=5x");
        assert_eq!(faults("exit=3s, errors=100%").to_string(), "errors=100%,exit=3000ms");
    }

    #[test]
    fn the_error_for_an_unknown_fault_or_value_names_it() {
        for (text, why) in [
            ("", "`` is not a fault; faults are errors=10%"),
            ("error=10%", "`error=10%` is not a fault"),
            ("not-ready=yes", "`not-ready=yes` is not a fault"),
            ("errors=0%", "`0%` is not a share"),
            ("errors=10", "`10` is not a share"),
            ("errors=101%", "`101%` is not a share"),
            ("slow=50", "`50` is not a time"),
            ("slow=-1s", "`-1s` is not a time"),
            ("slow=1x", "`1x` is not a multiple"),
            ("exit=601s", "at most 600 s"),
        ] {
            let error = text.parse::<Faults>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn exactly_the_share_of_the_requests_fails() {
        for percent in [1, 7, 10, 50, 99, 100] {
            let app = app(&format!("errors={percent}%"));
            let mut failed = 0;
            for _ in 0..200 {
                failed += i32::from(status(&app).await == StatusCode::INTERNAL_SERVER_ERROR);
            }
            assert_eq!(failed, 2 * percent);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_request_waits_when_the_process_is_slow() {
        let app = app("slow=50ms");
        let began = Instant::now();
        assert_eq!(status(&app).await, StatusCode::OK);
        assert!(began.elapsed() >= Duration::from_millis(50), "{:?}", began.elapsed());

        let (app, began) = (self::app("slow=5x"), Instant::now());
        assert_eq!(status_of(&app, "/10ms").await, StatusCode::OK);
        assert!(began.elapsed() >= Duration::from_millis(50), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_process_with_the_fault_is_not_ready_or_fails_its_migration() {
        let (check, error) = app("not-ready").readiness.failing().await.expect("it is not ready");
        assert_eq!(check, "faults");
        assert!(error.contains("FLACK_FAULTS"), "{error}");
        assert!(app("slow=1ms").readiness.failing().await.is_none());
        faults("not-ready").fail_migration().expect("it has another fault");
        let error = faults("migration").fail_migration().expect_err("it fails");
        assert!(error.to_string().contains("migrations failed"), "{error}");
    }
}
