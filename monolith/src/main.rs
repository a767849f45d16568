//! The monolith as a process.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A list of 50 messages makes some hundred allocations. The C library's allocator takes a tenth more processor time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    flack_monolith::main().await
}
