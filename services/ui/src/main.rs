//! The ui service as a process.

use std::process::ExitCode;

use flack_catalogue::Service;
use flack_common::{config::ServiceConfig, process};
use flack_ui::{SERVICE, build};

#[tokio::main]
async fn main() -> ExitCode {
    process::main(Service::named(SERVICE), |config: &ServiceConfig| config, build).await
}
