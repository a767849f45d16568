//! Where the data is: in the state folder, or beside it when PostgreSQL's user may not get there.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::User;

use crate::failure::{Exit, Failure, Result};
use crate::home::{Home, cannot_write, short_hash};

const ELSEWHERE: &str = "/var/lib";

/// Gives the data folder (which may not exist yet), and what to tell when it is not where one expects it.
pub(super) fn choose(home: &Home, account: Option<&User>) -> Result<(PathBuf, Option<String>)> {
    let link = home.postgres();
    let Some(account) = account.filter(|account| !may_pass(home.path(), account)) else {
        return Ok((link, None));
    };
    let parent = elsewhere(home);
    let data = parent.join("data");
    if !parent.is_dir() {
        DirBuilder::new().mode(0o700).create(&parent).map_err(|error| cannot_write(&parent, &error))?;
        give(&parent, Some(account))?;
    }
    match fs::read_link(&link) {
        Ok(target) if target == data => {}
        Ok(_) => {
            fs::remove_file(&link)
                .and_then(|()| symlink(&data, &link))
                .map_err(|error| cannot_write(&link, &error))?;
        }
        Err(_) if link.exists() => {
            return Err(Failure::new(
                Exit::Contradiction,
                format!(
                    "PostgreSQL's user may not reach its data in {} any more; give it the right to pass (chmod o+x), or mfdown --purge",
                    link.display()
                ),
            ));
        }
        Err(_) => symlink(&data, &link).map_err(|error| cannot_write(&link, &error))?,
    }
    Ok((
        data.clone(),
        Some(format!(
            "its data is in {}: user {} may not pass through {}",
            data.display(),
            account.name,
            home.path().display()
        )),
    ))
}

pub fn remove(home: &Home) -> Result<()> {
    let target = fs::read_link(home.postgres()).ok();
    let parent = elsewhere(home);
    // Only what this stack made: the link names it.
    if target.is_some_and(|target| target.starts_with(&parent)) && parent.is_dir() {
        fs::remove_dir_all(&parent).map_err(|error| cannot_write(&parent, &error))?;
    }
    Ok(())
}

pub(super) fn give(path: &Path, account: Option<&User>) -> Result<()> {
    let give = || {
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
        account.map_or(Ok(()), |account| chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw())))
    };
    give().map_err(|error| cannot_write(path, &error))
}

fn elsewhere(home: &Home) -> PathBuf {
    Path::new(ELSEWHERE).join(format!("flack-{}", short_hash(home.path())))
}

/// Whether the user may pass through the folder and all above it. The data folder itself will be the user's own.
fn may_pass(path: &Path, account: &User) -> bool {
    path.ancestors().all(|folder| {
        fs::metadata(folder).is_ok_and(|metadata| {
            let bit = if metadata.uid() == account.uid.as_raw() {
                0o100
            } else if metadata.gid() == account.gid.as_raw() {
                0o010
            } else {
                0o001
            };
            metadata.mode() & bit != 0
        })
    })
}
