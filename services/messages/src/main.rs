//! The messages service as a process.

use std::process::ExitCode;

use flack_catalogue::Service;
use flack_common::{config::ServiceConfig, process};
use flack_messages::{SERVICE, build};
use mimalloc::MiMalloc;

/// A list of 50 messages makes some hundred allocations. The C library's allocator takes a tenth more processor time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    process::main(Service::named(SERVICE), |config: &ServiceConfig| config, build).await
}
