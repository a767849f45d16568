//! `mf build ls`: the versions, and who uses them.

use crate::builds;
use crate::failure::Result;
use crate::help::examples;
use crate::output::{or_dash, print_json, table};
use crate::runtime::{self, Runtime};
use crate::settings::Settings;

/// List the versions, the newest first, and which instances and settings use them
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&["mfbuild ls", "mfbuild ls --json | jq -r '.[].version'"]))]
pub(super) struct Args {
    /// As a JSON array
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> Result<()> {
    let (home, runtime) = runtime::find().await?;
    let builds = match &runtime {
        Some(Runtime::Containers(containers)) => containers.builds().await?,
        _ => builds::list(&home)?,
    };
    let settings = Settings::load(&home)?;
    let mut users = builds::users(&home, runtime.as_ref(), settings.as_ref()).await?;
    let rows = builds.into_iter().map(|build| {
        let used_by = users.remove(&build.version).unwrap_or_default();
        (build, used_by)
    });
    if args.json {
        let rows = rows.map(|(build, used_by)| {
            let mut row = serde_json::to_value(build).expect("a build is plain data");
            row["used_by"] = used_by.into_iter().collect();
            row
        });
        print_json(&rows.collect::<Vec<_>>());
        return Ok(());
    }
    let mut table = table(["VERSION", "COMMIT", "BUILT", "PROFILE", "ENVIRONMENT", "USED BY"]);
    for (build, used_by) in rows {
        let env: Vec<String> = build.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        table.add_row([
            build.version,
            or_dash(build.commit),
            build.built.format("%F %R").to_string(),
            if build.release { "release" } else { "debug" }.to_owned(),
            joined_or_dash(env),
            joined_or_dash(used_by),
        ]);
    }
    print_line!("{table}");
    Ok(())
}

fn joined_or_dash(texts: impl IntoIterator<Item = String>) -> String {
    let texts: Vec<String> = texts.into_iter().collect();
    or_dash((!texts.is_empty()).then(|| texts.join(", ")))
}
