//! `mf test`: every test, with a temporary database; or only the database, for plain `cargo test`.

mod report;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::statvfs::{FsFlags, statvfs};
use tokio::process::Command;

use crate::failure::{Exit, Result};
use crate::help::examples;
use crate::home::repository;
use crate::infra::postgres::TemporaryServer;
use crate::infra::programs;
use crate::signals::interrupted;
use report::{Environment, Report};

/// Run every test: format, lints, unit tests, each service on a real database, whole stacks, the browser, fuzz targets
///
/// Starts a temporary PostgreSQL, and stops it afterwards. Tests that need a stack start their own. With --database it
/// runs no test: it prints the `DATABASE_URL` that plain `cargo test` needs.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mftest                       # everything",
    "mftest --fast                # without fuzz targets and the tests of conformance that need a stack",
    "mftest a_revoked_token       # tests whose names contain this",
    "eval \"$(mftest --database)\" && cargo test -p flack-users",
    "mftest --database --stop",
]))]
pub struct Args {
    /// Only tests whose names contain this; format and lints are left out
    filter: Option<String>,
    /// Leave out the fuzz targets and the tests of conformance that need a stack
    #[arg(long)]
    fast: bool,
    /// Only start a PostgreSQL for tests, and print its address as a shell line; it runs until --stop
    #[arg(long, conflicts_with_all = ["filter", "fast"])]
    database: bool,
    /// Stop the PostgreSQL that --database started
    #[arg(long, requires = "database")]
    stop: bool,
}

const CLIPPY: [&str; 6] = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
/// Builds the fuzz targets with libFuzzer; `fuzz/instrument` adds what it needs to our own crates.
const BUILD_FUZZ: [&str; 6] = [
    "build",
    "--workspace",
    "--example=flack-fuzz",
    "--features=flack-fuzz/libfuzzer",
    "--config",
    "build.rustc-workspace-wrapper = 'fuzz/instrument'",
];
/// Enough to reach what the seeds do not. A longer run is in fuzz/README.md.
const FUZZ_SECONDS_PER_TARGET: u32 = 10;
/// An input that takes longer fails.
const FUZZ_INPUT_SECONDS_MAX: u32 = 10;

/// Of main memory. A test's stack has 0.3 GB of data, and each core runs one.
const MEMORY_FOLDER: &str = "/dev/shm";
const MEMORY_AVAILABLE_KIB_MIN: u64 = 8 * 1024 * 1024;

/// The package whose tests start whole stacks.
const STACK_TESTS: &str = "flack-conformance";

pub async fn run(args: Args) -> Result<ExitCode> {
    if args.database {
        return database(args.stop).await.map(|()| ExitCode::SUCCESS);
    }
    let began = Instant::now();
    let server = TemporaryServer::start().await?;
    let mut report = Report::default();
    let result = tokio::select! {
        result = steps(&args, &server, &mut report) => result,
        () = interrupted() => Err(failure!(Interrupted, "interrupted")),
    };
    server.stop().await;
    result?;
    print_line!("\nTime by part:");
    // `bin/mf` builds before it starts this program.
    let built = std::env::var_os("MF_BUILD_SECONDS").and_then(|seconds| seconds.to_str()?.parse().ok());
    let built = built.map(|seconds| ("build by bin/mf".to_owned(), Duration::from_secs(seconds)));
    for (part, time) in built.into_iter().chain(report.parts) {
        print_line!("{:8.1} s  {part}", time.as_secs_f64());
    }
    let seconds = began.elapsed().as_secs_f64();
    print_line!("\n{} passed, {} failed in {seconds:.0} s", report.passed, report.failed);
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(Exit::TestsFailed as u8) })
}

async fn database(stop: bool) -> Result<()> {
    if !stop {
        let server = TemporaryServer::start_in_background().await?;
        print_line!("export DATABASE_URL='{}'", server.url()?);
        eprintln!("mf: the PostgreSQL for tests runs until: mftest --database --stop");
        return Ok(());
    }
    let server = TemporaryServer::in_background()?;
    let was_running = server.is_running().await;
    server.stop().await;
    print_line!("{}", if was_running { "The PostgreSQL for tests is stopped." } else { "It was not running." });
    Ok(())
}

/// Runs every step, also after one has failed, so that one run reports everything that is wrong.
async fn steps(args: &Args, server: &TemporaryServer, report: &mut Report) -> Result<()> {
    if args.filter.is_none() {
        report.check("fmt", &["fmt", "--all", "--check"]).await?;
    }
    // The stack tests start these programs; cargo builds only some of them for the tests by itself. Programs and tests
    // in one build, because another choice of packages is another choice of features, and would build everything twice.
    if !report.check("build", &["build", "--workspace", "--bins", "--tests"]).await? {
        return Ok(());
    }
    let environment = Environment { database_url: server.url()?, folder: temporary_folder() };
    print_line!("\nTemporary files of tests are in {}.", environment.folder.display());
    let mut tests = vec!["test", "--workspace", "--no-fail-fast"];
    if args.fast {
        // Of its tests, these need no stack.
        let without_stack = ["--test", "language", "--test", "call_graph", "--test", "deploy"];
        report.tests(&[&tests[..], &without_stack].concat(), &environment, &[]).await?;
        tests.extend(["--exclude", STACK_TESTS]);
    }
    tests.extend(args.filter.as_deref());
    let checks: &[(&str, &[&str])] = match (&args.filter, args.fast) {
        (Some(_), _) => &[],
        (None, true) => &[("clippy", &CLIPPY)],
        (None, false) => &[("clippy", &CLIPPY), ("fuzz, build", &BUILD_FUZZ)],
    };
    let is_fuzz_built = report.tests(&tests, &environment, checks).await?;
    if is_fuzz_built && args.filter.is_none() && !args.fast {
        fuzz(report).await?;
    }
    Ok(())
}

/// Returns the folder for the data of the stacks that tests start. They write to the disk durably, as a stack must, and
/// wait for it; in memory it takes no time. Not if programs cannot be executed there: tests copy some.
fn temporary_folder() -> PathBuf {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.strip_suffix("kB"));
    let available_kib = available.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let is_usable = statvfs(MEMORY_FOLDER).is_ok_and(|folder| {
        let free_kib = folder.blocks_available().saturating_mul(folder.fragment_size()) / 1024;
        !folder.flags().contains(FsFlags::ST_NOEXEC) && free_kib.min(available_kib) >= MEMORY_AVAILABLE_KIB_MIN
    });
    if is_usable { MEMORY_FOLDER.into() } else { std::env::temp_dir() }
}

/// Runs each fuzz target for some seconds. New inputs are kept in the target folder, and one that fails beside the
/// seeds, to be committed.
async fn fuzz(report: &mut Report) -> Result<()> {
    let corpus = repository().join("fuzz/corpus");
    let mut targets: Vec<String> = fs::read_dir(&corpus)
        .with_context(|| format!("cannot list {}", corpus.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    targets.sort();
    for target in targets {
        let (seeds, found) = (format!("fuzz/corpus/{target}"), format!("target/fuzz/{target}"));
        let folder = repository().join(&found);
        fs::create_dir_all(&folder).with_context(|| format!("cannot write {}", folder.display()))?;
        let mut command = Command::new(programs::mf()?.with_file_name("examples").join("flack-fuzz"));
        command
            .current_dir(repository())
            .kill_on_drop(true)
            .args(["-verbosity=0", "-print_final_stats=1", &format!("-timeout={FUZZ_INPUT_SECONDS_MAX}")])
            .arg(format!("-max_total_time={FUZZ_SECONDS_PER_TARGET}"))
            .arg(format!("-artifact_prefix={seeds}/"))
            .args([found, seeds]);
        report.run(&format!("fuzz, {target}"), command).await?;
    }
    Ok(())
}
