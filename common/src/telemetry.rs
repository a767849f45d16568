//! Logs: one JSON object per line on standard output.
//!
//! A line has `ts`, `level`, `service`, `instance`, `message` and the fields of the event, and within a request also
//! the fields of its span, such as `correlation_id`. `RUST_LOG` sets the levels. Metrics are recorded with the
//! `metrics` crate where they occur.

mod lines;

use std::{
    io::stdout,
    panic::set_hook,
    sync::{OnceLock, PoisonError, RwLock},
};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

pub use lines::JsonLines;

/// Level info and above; of these libraries only warnings and errors.
const LEVELS: &str = "info,hyper=warn,sqlx=warn,etcd_client=warn,async_nats=warn,tower=warn,h2=warn,tonic=warn";

static SERVICE: OnceLock<&'static str> = OnceLock::new();
static INSTANCE: RwLock<Option<String>> = RwLock::new(None);

/// Starts logging, and logs panics. Every process calls it first.
pub fn init(service: &'static str) {
    // A test process may call this several times; the first name stays.
    let _ = SERVICE.set(service);
    let levels = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LEVELS));
    let lines = JsonLines::new(stdout);
    // An error means that a test has installed its own subscriber.
    let _ = tracing_subscriber::registry().with(levels).with(lines).try_init();
    set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(location, cause = panic.payload_as_str(), "panicked");
    }));
}

/// Adds the instance to every further line.
pub(crate) fn set_instance(instance: &str) {
    *INSTANCE.write().unwrap_or_else(PoisonError::into_inner) = Some(instance.to_owned());
}

/// Returns the name under which PostgreSQL lists this process: the instance if it is known, else the service.
pub fn process_name() -> String {
    instance().unwrap_or_else(|| service().to_owned())
}

fn service() -> &'static str {
    SERVICE.get().copied().unwrap_or("flack")
}

fn instance() -> Option<String> {
    INSTANCE.read().unwrap_or_else(PoisonError::into_inner).clone()
}
