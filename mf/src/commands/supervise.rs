//! `mf supervise`: the stack's supervisor. `mf up` starts it; it is not for people.

use crate::failure::Result;
use crate::home::Home;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub async fn run() -> Result<()> {
    Ok(flack_supervisor::run(Home::from_environment()?.supervisor()?).await?)
}
