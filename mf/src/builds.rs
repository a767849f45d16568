//! Versions: programs of the services that are kept side by side, in `builds/<version>/` of the state folder.
//!
//! Owns the folders, their `build.json`, and which version is which program. Leaves to others: how programs are
//! compiled (`commands/build`), which version runs (`settings`, and the commands that start instances).
//!
//! One version has no folder: the workspace's own programs, beside `mf`. Its name is the version of the package.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use flack_catalogue::{SERVICES, Service};
use flack_common::config::parse_version;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::home::{self, Home};
use crate::infra::programs;
use crate::runtime::Runtime;
use crate::settings::Settings;
use crate::upgrade::store::{Listed, Store};

/// The version of the workspace's own programs.
pub const WORKSPACE_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Variables that `mf` sets for each instance: a build or an option cannot set them.
const RESERVED: [&str; 4] = ["FLACK_INSTANCE", "FLACK_VERSION", "FLACK_COMMIT", "FLACK_WEIGHT"];
const DESCRIPTION: &str = "build.json";

/// One version, and what its instances get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    pub version: String,
    /// The commit that it was built from, with `-dirty` if files had changed; `None` if it is not known.
    pub commit: Option<String>,
    pub built: DateTime<Utc>,
    pub release: bool,
    /// Variables for each of its instances.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

impl Build {
    /// Returns the program of a service in this version.
    pub fn program(&self, home: &Home, service: &Service) -> Result<PathBuf> {
        let folder = folder(home, &self.version);
        if !folder.exists() {
            return programs::own(&service.program());
        }
        let program = folder.join(service.program());
        if programs::is_program(&program) {
            return Ok(program);
        }
        Err(failure!(Unavailable, "version {} has no program of {service}: {}", self.version, program.display()))
    }
}

/// Returns a version: one with a folder, or the workspace's own.
pub fn find(home: &Home, version: &str) -> Result<Build> {
    parse_version(version).map_err(|why| failure!(Usage, "`{version}` is not a version: {why}"))?;
    match read(home, version)? {
        Some(build) => Ok(build),
        None if version == WORKSPACE_VERSION => workspace(),
        None => {
            let known: Vec<String> = list(home)?.into_iter().map(|build| build.version).collect();
            Err(failure!(
                Usage,
                "there is no version {version}; versions are {}. Build it: mfbuild --version {version}",
                known.join(", ")
            ))
        }
    }
}

/// Returns all versions: the workspace's own first, then the newest.
pub fn list(home: &Home) -> Result<Vec<Build>> {
    let mut builds = Vec::new();
    for entry in fs::read_dir(home.builds()).into_iter().flatten().flatten() {
        // Other files, such as a copy that was interrupted, are no versions.
        let name = entry.file_name().into_string().ok().filter(|name| parse_version(name).is_ok());
        builds.extend(name.map(|name| read(home, &name)).transpose()?.flatten());
    }
    builds.sort_by_key(|build| std::cmp::Reverse(build.built));
    if builds.iter().all(|build| build.version != WORKSPACE_VERSION) {
        builds.insert(0, workspace()?);
    }
    Ok(builds)
}

/// Keeps the programs in a folder as a version. Replaces a version of that name as a whole.
pub fn install(home: &Home, build: &Build, from: &Path) -> Result<()> {
    let existing: Vec<PathBuf> = SERVICES
        .iter()
        .map(|service| from.join(service.program()))
        .filter(|program| programs::is_program(program))
        .collect();
    if existing.is_empty() {
        return Err(failure!(Unavailable, "{} has no programs of services. Build them: mfbuild", from.display()));
    }
    let folder = folder(home, &build.version);
    // Not a valid version, so that nobody can start it before it is complete.
    let partial = home.builds().join(".partial");
    let write = || {
        let lock = File::create(home.builds().join(".lock"))?;
        lock.lock()?;
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir(&partial)?;
        for program in &existing {
            keep(program, &partial.join(program.file_name().expect("the path of a program has a name")))?;
        }
        let description = serde_json::to_string_pretty(build).expect("a build is plain data");
        fs::write(partial.join(DESCRIPTION), description)?;
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::rename(&partial, &folder)
    };
    write().map_err(Failure::cannot_write(&folder))
}

pub fn remove(home: &Home, version: &str) -> Result<()> {
    let folder = folder(home, version);
    fs::remove_dir_all(&folder).map_err(Failure::cannot_write(&folder))
}

/// Returns which instances of each version run.
pub async fn running(runtime: Option<&Runtime>) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut running: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    if let Some(runtime) = runtime {
        for process in runtime.list().await? {
            if let Some(version) = process.version {
                running.entry(version).or_default().insert(process.name);
            }
        }
    }
    Ok(running)
}

/// Returns who needs each version: running instances, services whose setting names it, and the last upgrade of each
/// service, which may be taken back.
pub async fn users(
    home: &Home,
    runtime: Option<&Runtime>,
    settings: Option<&Settings>,
) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut users = running(runtime).await?;
    for (service, version) in settings.into_iter().flat_map(|settings| &settings.versions) {
        users.entry(version.clone()).or_default().insert(format!("the setting of {service}"));
    }
    if let Some(runtime) = runtime {
        for Listed { record, .. } in Store::open(&runtime.stack(home).await?).await?.list().await? {
            for version in [record.from, record.to] {
                users.entry(version).or_default().insert(format!("the last upgrade of {}", record.service));
            }
        }
    }
    Ok(users)
}

/// Parses `NAME=value`, a variable of a build or of an instance.
pub fn parse_variable(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it like NAME=value")?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || name.as_bytes()[0].is_ascii_digit() || !name.bytes().all(is_name) {
        return Err(format!("`{name}` is not the name of a variable"));
    }
    if value.contains('\0') {
        return Err(format!("the value of {name} has a NUL character"));
    }
    if RESERVED.contains(&name) {
        return Err(format!("mf sets {name} itself; use --version or --weight, or leave it out"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn folder(home: &Home, version: &str) -> PathBuf {
    home.builds().join(version)
}

fn read(home: &Home, version: &str) -> Result<Option<Build>> {
    let build: Option<Build> = home::read_json(&folder(home, version).join(DESCRIPTION))?;
    // The folder may have been renamed by hand; its name is what the operator uses.
    Ok(build.map(|build| Build { version: version.to_owned(), ..build }))
}

/// The workspace's own programs. Their commit is not known: files may have changed since.
fn workspace() -> Result<Build> {
    let program = programs::mf()?;
    let built = program.metadata().and_then(|metadata| metadata.modified()).map_or_else(|_| Utc::now(), DateTime::from);
    let release = program.parent().is_some_and(|folder| folder.ends_with("release"));
    Ok(Build { version: WORKSPACE_VERSION.to_owned(), commit: None, built, release, env: BTreeMap::new() })
}

/// Links a program, or copies it to another file system. Cargo replaces a program by a new file, so a link keeps the
/// old one.
fn keep(program: &Path, into: &Path) -> io::Result<()> {
    if fs::hard_link(program, into).is_err() {
        fs::copy(program, into)?;
        fs::set_permissions(into, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn home(folder: &Path) -> Home {
        let mut home = Home::at(&folder.join("stack")).expect("a path");
        home.create().expect("a new home");
        home
    }

    /// Writes programs of all services that print `text`.
    fn programs(folder: &Path, text: &str) -> PathBuf {
        let programs = folder.join("programs");
        fs::create_dir_all(&programs).expect("a folder");
        for service in &SERVICES {
            let program = programs.join(service.program());
            // As cargo does: a new file, not new content.
            let _ = fs::remove_file(&program);
            fs::write(&program, text).expect("written");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("executable");
        }
        programs
    }

    fn build(version: &str) -> Build {
        Build { version: version.to_owned(), commit: None, built: Utc::now(), release: false, env: BTreeMap::new() }
    }

    #[test]
    fn a_version_keeps_its_programs_when_the_workspace_is_built_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = home(folder.path());
        let env = BTreeMap::from([("FLACK_FAULTS".to_owned(), "errors=10%".to_owned())]);
        let first = Build { env, commit: Some("4e57a53".to_owned()), ..build("1") };
        install(&home, &first, &programs(folder.path(), "one")).expect("the first version");
        install(&home, &build("2"), &programs(folder.path(), "two")).expect("the second version");
        let found = find(&home, "1").expect("it exists");
        assert_eq!(found, first);
        let users = Service::named("users");
        assert_eq!(fs::read_to_string(found.program(&home, users).expect("a program")).expect("its text"), "one");
        let listed: Vec<String> = list(&home).expect("versions").into_iter().map(|build| build.version).collect();
        assert_eq!(listed, [WORKSPACE_VERSION, "2", "1"]);
        remove(&home, "1").expect("removed");
        assert_eq!(find(&home, "1").expect_err("it is removed").exit, Exit::Usage);
    }

    #[test]
    fn a_version_of_the_same_name_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = home(folder.path());
        install(&home, &build("1"), &programs(folder.path(), "one")).expect("the first programs");
        let newer = programs(folder.path(), "two");
        fs::remove_file(newer.join("flack-ui")).expect("one program less");
        install(&home, &build("1"), &newer).expect("the second programs");
        let found = find(&home, "1").expect("it exists");
        let program = found.program(&home, Service::named("users")).expect("a program");
        assert_eq!(fs::read_to_string(program).expect("its text"), "two");
        let failure = found.program(&home, Service::named("ui")).expect_err("it has none");
        assert!(failure.message.contains("version 1 has no program of ui"), "{failure}");
    }

    #[test]
    fn an_unknown_version_and_a_path_are_refused_with_what_exists() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = home(folder.path());
        install(&home, &build("2-bad"), &programs(folder.path(), "bad")).expect("a version");
        let failure = find(&home, "3").expect_err("it does not exist");
        assert!(failure.message.contains(&format!("versions are {WORKSPACE_VERSION}, 2-bad")), "{failure}");
        for version in ["..", "../builds/2-bad", "", "2-bad/", "/etc"] {
            assert_eq!(find(&home, version).expect_err(version).exit, Exit::Usage);
        }
    }

    #[test]
    fn an_interrupted_copy_and_other_files_are_no_versions() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = home(folder.path());
        fs::create_dir_all(home.builds().join(".partial")).expect("a folder");
        fs::create_dir_all(home.builds().join("without-description")).expect("a folder");
        let listed = list(&home).expect("versions");
        assert_eq!(listed.len(), 1, "{listed:?}");
    }

    #[test]
    fn a_variable_has_a_plain_name_that_mf_does_not_set_itself() {
        assert_eq!(parse_variable("A_1=x=y").expect("a variable"), ("A_1".to_owned(), "x=y".to_owned()));
        assert_eq!(parse_variable("EMPTY=").expect("a variable").1, "");
        for (text, why) in [
            ("A", "write it like NAME=value"),
            ("=x", "is not the name"),
            ("1A=x", "is not the name"),
            ("A B=x", "is not the name"),
            ("FLACK_INSTANCE=users-9", "mf sets FLACK_INSTANCE itself"),
        ] {
            let error = parse_variable(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
