//! The users service as a process.

use std::process::ExitCode;

use flack_catalogue::Service;
use flack_common::process;
use flack_users::{SERVICE, build, config::Config};

#[tokio::main]
async fn main() -> ExitCode {
    process::main(Service::named(SERVICE), |config: &Config| &config.service, build).await
}
