//! The PostgreSQL server: which version, run by which user, how its data is created, and how it is started.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use flack_catalogue::{SERVICES, Service};
use flack_supervisor::{Spec, Stop, StopSignal};
use nix::unistd::{Uid, User, geteuid};

use super::folder;
use crate::failure::{Failure, Result};
use crate::home::Home;
use crate::infra::programs;
use crate::ports::Ports;
use crate::secrets::Secrets;
use crate::supervisor::{self, inherited_environment, priority};

/// `security_invoker`, `range_agg` and others that the migrations may use; Debian 11 has 13, Debian 12 has 15.
pub const MAJOR_MIN: u32 = 14;
/// Less than 16 instances of each service with 8 connections each: such a stack must lower `DATABASE_CONNECTIONS_MAX`.
const SIZE: Size = Size { connections_max: 500, shared_buffers_mb: 64 };

/// How much one server serves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub connections_max: u32,
    pub shared_buffers_mb: u32,
}
pub(super) const INITDB_OPTIONS: [&str; 3] = ["--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"];
/// The user that Debian's package creates.
const ACCOUNT: &str = "postgres";

#[derive(Debug, Clone)]
pub struct Server {
    folder: PathBuf,
    pub major: u32,
}

impl Server {
    /// Returns the newest installed version, or the version that created the data.
    pub fn find(home: &Home) -> Result<Self> {
        Self::find_for(&home.postgres())
    }

    pub(super) fn find_for(data: &Path) -> Result<Self> {
        let mut installed: Vec<Self> =
            folders().into_iter().filter_map(|folder| Some(Self { major: major(&folder)?, folder })).collect();
        installed.sort_by_key(|server| server.major);
        let Some(newest) = installed.last().cloned() else {
            return Err(failure!(
                Unavailable,
                "PostgreSQL is missing. Install it: apt-get install postgresql \
                 (or set MF_POSTGRES_BIN to the folder of initdb and postgres)"
            ));
        };
        if let Some(created_by) = data_major(data) {
            return installed.into_iter().rfind(|server| server.major == created_by).ok_or_else(|| {
                failure!(
                    Unavailable,
                    "the data in {} was created by PostgreSQL {created_by}, but {} is installed. \
                     Install PostgreSQL {created_by}, or delete the stack: mfdown --purge",
                    data.display(),
                    newest.major
                )
            });
        }
        if newest.major < MAJOR_MIN {
            let (major, folder) = (newest.major, newest.folder.display());
            return Err(failure!(
                Unavailable,
                "PostgreSQL {major} in {folder} is too old: {MAJOR_MIN} or newer is needed"
            ));
        }
        if geteuid().is_root() && account().is_none() {
            return Err(failure!(
                Unavailable,
                "PostgreSQL refuses to run as root, and there is no user `{ACCOUNT}` to run it as: \
                 adduser --system --group {ACCOUNT}"
            ));
        }
        Ok(newest)
    }

    /// Creates the data folder unless it exists. Returns a note if it is not in the state folder.
    pub async fn create(&self, home: &Home, secrets: &Secrets) -> Result<Option<String>> {
        let (data, note) = folder::choose(home, account().as_ref())?;
        self.create_in(&data, secrets, &access_rules(&SERVICES, "127.0.0.1/32", "127.0.0.1/32")).await?;
        Ok(note)
    }

    pub(super) async fn create_in(&self, data: &Path, secrets: &Secrets, access_rules: &str) -> Result<()> {
        if !data.join("PG_VERSION").exists() {
            self.initdb(data, secrets).await?;
        }
        write_as_account(&data.join("pg_hba.conf"), access_rules)
    }

    async fn initdb(&self, data: &Path, secrets: &Secrets) -> Result<()> {
        // Created under another name first, so that an interrupted start leaves no incomplete data folder.
        let partial = data.with_extension("partial");
        let password = data.with_extension("password");
        let _ = fs::remove_dir_all(&partial);
        let _ = fs::remove_file(&password);
        fs::create_dir(&partial).map_err(Failure::cannot_write(&partial))?;
        folder::give(&partial, account().as_ref())?;
        write_as_account(&password, &secrets.postgres)?;
        let password_file = format!("--pwfile={}", password.display());
        let options = ["--auth=scram-sha-256", &password_file].into_iter().chain(INITDB_OPTIONS);
        let created = self.run("initdb", &partial, &options.collect::<Vec<_>>()).await;
        let _ = fs::remove_file(&password);
        created.inspect_err(|_| drop(fs::remove_dir_all(&partial)))?;
        fs::rename(&partial, data).map_err(Failure::cannot_write(data))
    }

    /// Runs a program of this PostgreSQL on a data folder.
    pub(super) async fn run(&self, program: &str, data: &Path, arguments: &[&str]) -> Result<()> {
        let output = tokio::process::Command::from(self.command(program))
            .args(arguments)
            .arg("-D")
            .arg(data)
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/")
            .output()
            .await
            .map_err(|error| failure!(Internal, "{program} cannot be started: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let error = String::from_utf8_lossy(&output.stderr);
        Err(failure!(Internal, "{program} failed ({}): {}", output.status, error.trim()))
    }

    pub fn spec(&self, home: &Home, ports: &Ports) -> Spec {
        // Not the link itself, which is in a folder that PostgreSQL's user may not enter (see folder.rs).
        let data = fs::read_link(home.postgres()).unwrap_or_else(|_| home.postgres());
        let command = self.serve(&data, "127.0.0.1", ports.postgres, SIZE);
        Spec {
            args: command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect(),
            env: inherited_environment().with("LC_ALL", "C.UTF-8"),
            stop: Stop { signal: StopSignal::Interrupt, seconds_max: 20 },
            ..supervisor::spec("postgres", priority::STORE, command.get_program().into(), "/".into())
        }
    }

    /// Returns the command that serves a data folder.
    pub(super) fn serve(&self, data: &Path, listen: &str, port: u16, size: Size) -> Command {
        let mut command = self.command("postgres");
        command.arg("-D").arg(data);
        for setting in [
            // No Unix socket: every user of the machine connects over loopback, with a password.
            "unix_socket_directories=",
            &format!("listen_addresses={listen}"),
            &format!("port={port}"),
            &format!("max_connections={}", size.connections_max),
            &format!("shared_buffers={}MB", size.shared_buffers_mb),
            // Its launcher is a process with memory of its own.
            "max_logical_replication_workers=0",
            "timezone=UTC",
            "log_timezone=UTC",
            "log_line_prefix=%m [%p] %q%u@%d ",
        ] {
            command.args(["-c", setting]);
        }
        command
    }

    /// Returns a command that runs a program of this PostgreSQL, not as root. `setpriv` keeps the pid.
    fn command(&self, program: &str) -> Command {
        let program = self.folder.join(program);
        if geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={ACCOUNT}"))
                .arg(format!("--regid={ACCOUNT}"))
                .arg("--init-groups")
                .arg(program);
            command
        } else {
            Command::new(program)
        }
    }
}

/// Returns the user that PostgreSQL runs as if `mf` runs as root.
pub(super) fn account() -> Option<User> {
    if geteuid() == Uid::from_raw(0) { User::from_name(ACCOUNT).ok().flatten() } else { None }
}

/// Returns `pg_hba.conf`: each role may connect only to its own database, from these addresses. The superuser connects
/// from others.
pub(super) fn access_rules(services: &[Service], addresses: &str, superuser: &str) -> String {
    use std::fmt::Write;

    let mut rules = format!("# mf writes this file at every start.\nhost all postgres {superuser} scram-sha-256\n");
    for service in services {
        let name = service.database;
        writeln!(rules, "host {name} {name} {addresses} scram-sha-256").expect("a string takes every write");
    }
    rules
}

fn write_as_account(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        if let Some(account) = account() {
            fchown(&file, Some(account.uid.as_raw()), Some(account.gid.as_raw()))?;
        }
        file.write_all(text.as_bytes())
    };
    write().map_err(Failure::cannot_write(path))
}

fn folders() -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os("MF_POSTGRES_BIN") {
        return vec![PathBuf::from(folder)];
    }
    // Debian installs versions side by side here; other systems have one in PATH.
    let versions =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let on_path = programs::find("postgres").and_then(|program| program.parent().map(Path::to_path_buf));
    versions.chain(on_path).collect()
}

/// Returns 15 for `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn major(folder: &Path) -> Option<u32> {
    if !folder.join("initdb").exists() {
        return None;
    }
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(2)?.split('.').next()?.parse().ok()
}

fn data_major(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("PG_VERSION")).ok()?.trim().parse().ok()
}
