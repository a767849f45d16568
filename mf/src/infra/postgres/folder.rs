//! Where PostgreSQL's data is: in the state folder, or in /var/lib if PostgreSQL's user may not enter the state folder.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::User;

use crate::failure::{Failure, Result};
use crate::home::{Home, short_hash};

const PARENT_OUTSIDE: &str = "/var/lib";

/// Returns the data folder, which may not exist yet, and a note if it is not in the state folder.
pub(super) fn choose(home: &Home, account: Option<&User>) -> Result<(PathBuf, Option<String>)> {
    let link = home.postgres();
    let Some(account) = account.filter(|account| !may_enter(home.path(), account)) else {
        return Ok((link, None));
    };
    let parent = folder_outside(home);
    let data = parent.join("data");
    if !parent.is_dir() {
        DirBuilder::new().mode(0o700).create(&parent).map_err(Failure::cannot_write(&parent))?;
        give(&parent, Some(account))?;
    }
    if link.exists() && !link.is_symlink() {
        return Err(failure!(
            Contradiction,
            "PostgreSQL's user may not enter {} any more. \
             Allow it (chmod o+x on the folders above), or delete the stack: mfdown --purge",
            link.display()
        ));
    }
    if fs::read_link(&link).ok().as_ref() != Some(&data) {
        let _ = fs::remove_file(&link);
        symlink(&data, &link).map_err(Failure::cannot_write(&link))?;
    }
    let (folder, user) = (home.path().display(), &account.name);
    let note = format!("its data is in {}: user {user} may not enter {folder}", data.display());
    Ok((data, Some(note)))
}

/// Deletes the data if it is not in the state folder.
pub fn remove(home: &Home) -> Result<()> {
    let target = fs::read_link(home.postgres()).ok();
    let parent = folder_outside(home);
    // Only a folder that this stack created: its link points there.
    if target.is_some_and(|target| target.starts_with(&parent)) && parent.is_dir() {
        fs::remove_dir_all(&parent).map_err(Failure::cannot_write(&parent))?;
    }
    Ok(())
}

/// Makes a folder private to the user.
pub(super) fn give(path: &Path, account: Option<&User>) -> Result<()> {
    let give = || {
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
        account.map_or(Ok(()), |account| chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw())))
    };
    give().map_err(Failure::cannot_write(path))
}

fn folder_outside(home: &Home) -> PathBuf {
    Path::new(PARENT_OUTSIDE).join(format!("flack-{}", short_hash(home.path())))
}

/// Whether the user may enter a folder and all folders above it.
fn may_enter(path: &Path, account: &User) -> bool {
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
