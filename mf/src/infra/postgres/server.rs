//! Which PostgreSQL, as which user, and how it is made and started.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use flack_catalogue::SERVICES;
use nix::unistd::{Uid, User, geteuid};

use super::folder;
use crate::failure::{Failure, Result};
use crate::home::{Home, cannot_write};
use crate::infra::programs;
use crate::ports::Ports;
use crate::secrets::Secrets;
use crate::supervisor::spec::{Environment, Spec, Stop, StopSignal, Tier};

/// `security_invoker`, `range_agg` and others that the migrations may use; Debian 11 has 13, Debian 12 has 15.
pub const MAJOR_MIN: u32 = 14;
/// 16 instances of 5 services with 8 each would be more than this; such a stack has to lower `DATABASE_CONNECTIONS_MAX`.
const CONNECTIONS_MAX: u32 = 500;
/// The user that Debian's package makes.
const ACCOUNT: &str = "postgres";

#[derive(Debug, Clone)]
pub struct Server {
    folder: PathBuf,
    pub major: u32,
}

impl Server {
    /// The newest that is installed, or the one that the data was made with.
    pub fn find(home: &Home) -> std::result::Result<Self, String> {
        Self::find_for(&home.postgres())
    }

    pub(super) fn find_for(data: &Path) -> std::result::Result<Self, String> {
        let made_with = data_major(data);
        let mut installed: Vec<Self> = folders()
            .into_iter()
            .filter_map(|folder| Some(Self { major: major(&folder)?, folder }))
            .collect();
        installed.sort_by_key(|server| server.major);
        let Some(newest) = installed.last().cloned() else {
            return Err("PostgreSQL is missing. Install it: apt-get install postgresql (or set MF_POSTGRES_BIN to the folder of initdb and postgres)".to_owned());
        };
        if let Some(made_with) = made_with {
            return installed.into_iter().rfind(|server| server.major == made_with).ok_or_else(|| {
                format!(
                    "the data in {} was made by PostgreSQL {made_with}, but {} is installed. Install PostgreSQL {made_with}, or throw the data away with mfdown --purge",
                    data.display(),
                    newest.major
                )
            });
        }
        if newest.major < MAJOR_MIN {
            return Err(format!(
                "PostgreSQL {} in {} is too old: {MAJOR_MIN} or newer is needed",
                newest.major,
                newest.folder.display()
            ));
        }
        if geteuid().is_root() && account().is_none() {
            return Err(format!(
                "PostgreSQL refuses to run as root, and there is no user `{ACCOUNT}` to run it as: adduser --system --group {ACCOUNT}"
            ));
        }
        Ok(newest)
    }

    /// Makes the data folder when there is none. Gives what is worth telling about where it went.
    pub fn create(&self, home: &Home, secrets: &Secrets) -> Result<Option<String>> {
        let (data, told) = folder::choose(home, account().as_ref())?;
        if !data.join("PG_VERSION").exists() {
            self.initdb(&data, secrets)?;
        }
        let rules = data.join("pg_hba.conf");
        write_as_account(&rules, &access_rules())?;
        Ok(told)
    }

    fn initdb(&self, data: &Path, secrets: &Secrets) -> Result<()> {
        // Made under another name first: when it is cut off in the middle, the next start makes it anew.
        let partial = data.with_extension("partial");
        let password = data.with_extension("password");
        let _ = fs::remove_dir_all(&partial);
        let _ = fs::remove_file(&password);
        fs::create_dir(&partial).map_err(|error| cannot_write(&partial, &error))?;
        folder::give(&partial, account().as_ref())?;
        write_as_account(&password, &secrets.postgres)?;
        let output = self
            .command("initdb")
            .args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"])
            .arg(format!("--pwfile={}", password.display()))
            .arg("-D")
            .arg(&partial)
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/")
            .output();
        let _ = fs::remove_file(&password);
        let output =
            output.map_err(|error| Failure::internal(format!("initdb cannot be started: {error}")))?;
        if !output.status.success() {
            let _ = fs::remove_dir_all(&partial);
            return Err(Failure::internal(format!(
                "initdb failed ({}): {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            )));
        }
        fs::rename(&partial, data).map_err(|error| cannot_write(data, &error))
    }

    pub fn spec(&self, home: &Home, ports: &Ports) -> Spec {
        let command = self.command("postgres");
        let mut args: Vec<String> =
            command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        // Not through the link: it lies in a folder that PostgreSQL's user may not enter (see folder.rs).
        let data = fs::read_link(home.postgres()).unwrap_or_else(|_| home.postgres());
        args.extend(["-D".to_owned(), data.display().to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={}", ports.postgres),
            // No socket file: access is by password over loopback, the same for every user of the machine.
            "unix_socket_directories=",
            &format!("max_connections={CONNECTIONS_MAX}"),
            "shared_buffers=64MB",
            "timezone=UTC",
            "log_timezone=UTC",
            "log_line_prefix=%m [%p] %q%u@%d ",
        ] {
            args.extend(["-c".to_owned(), setting.to_owned()]);
        }
        Spec {
            name: "postgres".to_owned(),
            service: "postgres".to_owned(),
            tier: Tier::Store,
            program: PathBuf::from(command.get_program()),
            args,
            env: Environment::inherited().with("LC_ALL", "C.UTF-8"),
            folder: PathBuf::from("/"),
            stop: Stop { signal: StopSignal::Interrupt, seconds_max: 20 },
        }
    }

    /// A program of this PostgreSQL, as a user that it accepts. `setpriv` becomes the program: the pid stays the same.
    pub fn command(&self, program: &str) -> Command {
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

/// Whom PostgreSQL runs as when we are root.
pub(super) fn account() -> Option<User> {
    if geteuid() == Uid::from_raw(0) { User::from_name(ACCOUNT).ok().flatten() } else { None }
}

/// Each role to its own database and nowhere else; what is not listed is refused.
fn access_rules() -> String {
    use std::fmt::Write;

    let mut rules =
        "# Written by mf at every start.\nhost all postgres 127.0.0.1/32 scram-sha-256\n".to_owned();
    for service in &SERVICES {
        let name = service.database;
        writeln!(rules, "host {name} {name} 127.0.0.1/32 scram-sha-256").expect("a string takes every write");
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
    write().map_err(|error| cannot_write(path, &error))
}

fn folders() -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os("MF_POSTGRES_BIN") {
        return vec![PathBuf::from(folder)];
    }
    // Debian keeps versions side by side here; elsewhere they are where PATH says.
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"));
    let on_path = programs::find("postgres").and_then(|program| program.parent().map(Path::to_path_buf));
    versions.chain(on_path).collect()
}

/// From `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
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
