//! `mf supervise`: the stack's supervisor. `mf up` starts it; nobody types it.

use crate::failure::Result;
use crate::home::Home;
use crate::supervisor;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub async fn run() -> Result<()> {
    supervisor::run(Home::from_environment()?).await
}
