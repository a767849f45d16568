//! The supervisor's own log, on its standard output.

use std::io::Write;

use chrono::Utc;

/// Writes one JSON line. Errors are ignored: a full disk must not stop the supervisor.
pub(crate) fn log(process: &str, message: &str) {
    let line = serde_json::json!({"timestamp": Utc::now(), "level": "INFO", "message": message, "process": process});
    let _ = writeln!(std::io::stdout(), "{line}");
}
