//! The monolith as a process.

use std::process::ExitCode;

use flack_catalogue::Service;
use flack_common::{config, process, telemetry};
use flack_monolith::{SERVICE, build, config::Config};
use mimalloc::MiMalloc;

/// A list of 50 messages makes some hundred allocations. The C library's allocator takes a tenth more processor time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    telemetry::init(SERVICE);
    let config: Config = config::parse_or_exit();
    let (process, registry) = (config.process(), config.registry.clone());
    process::run(Service::named(SERVICE), &process, registry.as_ref(), |background, registry| {
        build(config, background, registry)
    })
    .await
}
