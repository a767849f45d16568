//! `mf build prune`: deletes old versions.

use crate::builds::{self, WORKSPACE_VERSION};
use crate::failure::Result;
use crate::help::examples;
use crate::runtime::{self, Runtime};
use crate::settings::Settings;

/// Delete old versions, except those that an instance, a setting or the last upgrade of a service uses
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&["mfbuild prune", "mfbuild prune --keep 0"]))]
pub(super) struct Args {
    /// How many of the newest unused versions to keep
    #[arg(long, default_value_t = 3)]
    keep: usize,
}

pub(super) async fn run(args: &Args) -> Result<()> {
    let (home, runtime) = runtime::find().await?;
    if !home.exists() {
        print_line!("No version was deleted.");
        return Ok(());
    }
    // A command that starts an instance of a version must not run at the same time.
    let _lock = home.lock("build prune")?;
    let settings = Settings::load(&home)?;
    let users = builds::users(&home, runtime.as_ref(), settings.as_ref()).await?;
    let builds = match &runtime {
        Some(Runtime::Containers(containers)) => containers.builds().await?,
        _ => builds::list(&home)?,
    };
    let unused =
        builds.into_iter().filter(|build| build.version != WORKSPACE_VERSION && !users.contains_key(&build.version));
    let mut deleted = Vec::new();
    for build in unused.skip(args.keep) {
        match &runtime {
            Some(Runtime::Containers(containers)) => containers.remove_version(&build.version).await?,
            _ => builds::remove(&home, &build.version)?,
        }
        deleted.push(build.version);
    }
    if deleted.is_empty() {
        print_line!("No version was deleted.");
    } else {
        print_line!("deleted {}", deleted.join(", "));
    }
    Ok(())
}
