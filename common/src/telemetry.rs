//! Logs: one JSON object a line on standard output, for whoever collects them.
//!
//! A line has `ts`, `level`, `service`, `instance`, `message` and the fields of the event; inside a request it
//! carries the fields of the request's span too, first of all `correlation_id`. Levels come from `RUST_LOG`.
//! Metrics are not here: `process` counts requests, and whoever has more to count uses `metrics::` directly.

mod lines;

use std::{
    io::stdout,
    panic::set_hook,
    sync::{OnceLock, PoisonError, RwLock},
};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

pub use lines::JsonLines;

/// Ours in full; of the libraries only what needs a person.
const LEVELS: &str =
    "info,hyper=warn,sqlx=warn,etcd_client=warn,async_nats=warn,tower=warn,h2=warn,tonic=warn";

static SERVICE: OnceLock<&'static str> = OnceLock::new();
static INSTANCE: RwLock<Option<String>> = RwLock::new(None);

/// Starts logging; the first thing that a process does. A panic anywhere becomes a log line like any other.
pub fn init(service: &'static str) {
    // A second call, in tests, keeps the first service: there is one standard output.
    let _ = SERVICE.set(service);
    let levels = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LEVELS));
    let lines = JsonLines::new(stdout);
    // Fails when a test has set a subscriber of its own: then that one is wanted.
    let _ = tracing_subscriber::registry().with(levels).with(lines).try_init();
    set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, cause = panic.payload_as_str(), "a defect: this task panicked");
    }));
}

/// From here on every line names the instance. `process::run` calls it once it knows.
pub(crate) fn set_instance(instance: &str) {
    *INSTANCE.write().unwrap_or_else(PoisonError::into_inner) = Some(instance.to_owned());
}

/// What this process calls itself towards databases and pipelines: the instance, else the service.
pub fn process_name() -> String {
    instance().unwrap_or_else(|| service().to_owned())
}

fn service() -> &'static str {
    SERVICE.get().copied().unwrap_or("flack")
}

fn instance() -> Option<String> {
    INSTANCE.read().unwrap_or_else(PoisonError::into_inner).clone()
}
