//! Logs: one JSON object per line on standard output.
//!
//! A line has `ts`, `level`, `service`, `instance`, `message` and the fields of the event, and within a request also
//! the fields of its span, such as `correlation_id`. `RUST_LOG` sets the levels of targets (`info,sqlx=debug`). Metrics
//! are recorded with the `metrics` crate where they occur.

mod lines;

use std::{
    env,
    io::stdout,
    panic::set_hook,
    sync::{OnceLock, PoisonError, RwLock},
};

use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

pub use lines::JsonLines;

/// Level info and above; of these libraries only warnings and errors.
const LEVELS: &str = "info,hyper=warn,sqlx=warn,etcd_client=warn,async_nats=warn,tower=warn,h2=warn,tonic=warn";

static SERVICE: OnceLock<&'static str> = OnceLock::new();
static INSTANCE: RwLock<Option<String>> = RwLock::new(None);

/// Starts logging, and logs panics. Every process calls it first.
pub fn init(service: &'static str) {
    // A test process may call this several times; the first name stays.
    let _ = SERVICE.set(service);
    // Not `EnvFilter`: it can select spans by their fields, and takes a lock at each poll of a request for it.
    let chosen = chosen_levels().map(|levels| levels.parse::<Targets>());
    let refused = chosen.as_ref().and_then(|levels| levels.as_ref().err()).map(ToString::to_string);
    let levels = chosen.and_then(Result::ok).unwrap_or_else(|| LEVELS.parse().expect("valid levels"));
    let lines = JsonLines::new(stdout);
    // An error means that a test has installed its own subscriber.
    let _ = tracing_subscriber::registry().with(levels).with(lines).try_init();
    if let Some(error) = refused {
        tracing::warn!(error, "RUST_LOG is not a list of targets and levels, such as info,sqlx=debug; using {LEVELS}");
    }
    set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(location, cause = panic.payload_as_str(), "panicked");
    }));
}

#[expect(clippy::disallowed_methods, reason = "a bad configuration is logged, so logging starts before it is read")]
fn chosen_levels() -> Option<String> {
    env::var("RUST_LOG").ok()
}

/// Adds the instance to every further line.
pub(crate) fn set_instance(instance: &str) {
    *INSTANCE.write().unwrap_or_else(PoisonError::into_inner) = Some(instance.to_owned());
}

/// Returns the name under which PostgreSQL lists this process: the instance if it is known, else the service.
pub fn process_name() -> String {
    let mut name = service().to_owned();
    with_instance(|instance| instance.clone_into(&mut name));
    name
}

fn service() -> &'static str {
    SERVICE.get().copied().unwrap_or("flack")
}

/// Passes the name of the instance on, if it is known.
fn with_instance(use_name: impl FnOnce(&str)) {
    if let Some(name) = INSTANCE.read().unwrap_or_else(PoisonError::into_inner).as_deref() {
        use_name(name);
    }
}
