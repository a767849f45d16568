//! The state folder of one stack: everything that a stack writes to disk. `MF_HOME`, by default `.mf` in the
//! repository.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use flack_supervisor::Paths;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{Failure, Result};

/// The kernel allows socket paths of at most 107 bytes, and HAProxy appends a suffix while it binds.
const SOCKET_PATH_BYTES_MAX: usize = 100;

#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Returns the folder that the environment selects. It may not exist yet.
    pub fn from_environment() -> Result<Self> {
        let path = match std::env::var_os("MF_HOME") {
            Some(path) if !path.is_empty() => PathBuf::from(path),
            _ => repository().join(".mf"),
        };
        Self::at(&path)
    }

    /// Whether the environment selects the folder.
    pub fn is_chosen() -> bool {
        std::env::var_os("MF_HOME").is_some_and(|path| !path.is_empty())
    }

    pub fn at(path: &Path) -> Result<Self> {
        let root = std::path::absolute(path).map_err(Failure::cannot_write(path))?;
        // The canonical path, so that two paths to one folder are the same stack.
        Ok(Self { root: root.canonicalize().unwrap_or(root) })
    }

    /// Creates the folder and its subfolders, private to the current user.
    pub fn create(&mut self) -> Result<()> {
        // If we are root, PostgreSQL runs as another user, which must be able to enter this folder.
        let mode = if nix::unistd::geteuid().is_root() { 0o711 } else { 0o700 };
        self.create_folders(mode, &["log", "run", "secrets", "secrets/etcd", "haproxy", "nats", "builds"])
    }

    /// Creates the folder of a stack in containers, whose data is in volumes.
    pub fn create_for_containers(&mut self) -> Result<()> {
        self.create_folders(0o700, &["secrets", "secrets/etcd"])
    }

    fn create_folders(&mut self, mode: u32, private: &[&str]) -> Result<()> {
        let private = private.iter().map(|folder| (*folder, 0o700));
        for (folder, mode) in std::iter::once(("", mode)).chain(private) {
            let path = self.root.join(folder);
            let exists = path.is_dir();
            if !exists {
                DirBuilder::new().recursive(true).mode(mode).create(&path).map_err(Failure::cannot_write(&path))?;
            }
            // Again, because the umask applies to the first, and an earlier version made some readable. The permissions
            // of a state folder that existed before are the operator's choice.
            if !(exists && folder.is_empty()) {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(Failure::cannot_write(&path))?;
            }
        }
        self.root = self.root.canonicalize().map_err(Failure::cannot_write(&self.root))?;
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.root
    }

    pub fn exists(&self) -> bool {
        self.root.is_dir()
    }

    pub fn settings(&self) -> PathBuf {
        self.root.join("stack.json")
    }

    pub fn secrets(&self) -> PathBuf {
        self.root.join("secrets/stack.json")
    }

    /// The certificates of etcd and of its clients.
    pub fn certificates(&self) -> PathBuf {
        self.root.join("secrets/etcd")
    }

    /// Locked by a command that changes the stack; it has the command's name and pid.
    pub fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("log").join(format!("{name}.log"))
    }

    pub fn logs(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The versions that are kept side by side.
    pub fn builds(&self) -> PathBuf {
        self.root.join("builds")
    }

    pub fn supervisor(&self) -> Result<Paths> {
        Ok(Paths { socket: self.socket()?, ..Paths::in_folder(&self.root) })
    }

    pub fn etcd(&self) -> PathBuf {
        self.root.join("etcd")
    }

    pub fn nats(&self) -> PathBuf {
        self.root.join("nats")
    }

    pub fn haproxy(&self) -> PathBuf {
        self.root.join("haproxy")
    }

    pub fn postgres(&self) -> PathBuf {
        self.root.join("postgres")
    }

    /// Returns the path of the supervisor's socket: in the temporary folder if the state folder's path is too long.
    fn socket(&self) -> Result<PathBuf> {
        let path = self.root.join("mf.sock");
        if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(path);
        }
        let user = nix::unistd::geteuid();
        let folder = std::env::temp_dir().join(format!("flack-{user}-{}", short_hash(&self.root)));
        if let Err(error) = DirBuilder::new().mode(0o700).create(&folder)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(Failure::cannot_write(&folder)(error));
        }
        // Every user may write to the temporary folder: a folder of another user there is not trusted.
        let metadata = fs::symlink_metadata(&folder).map_err(Failure::cannot_write(&folder))?;
        if !metadata.is_dir() || metadata.uid() != user.as_raw() || metadata.mode() & 0o077 != 0 {
            return Err(failure!(
                CannotWrite,
                "{} belongs to another user; set MF_HOME to a shorter path",
                folder.display()
            ));
        }
        Ok(folder.join("mf.sock"))
    }

    /// Locks the stack for a command that changes it. The failure names the command that holds the lock.
    pub fn lock(&self, command: &str) -> Result<HomeLock> {
        let path = self.lock_file();
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(Failure::cannot_write(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "another mf" } else { holder.trim() };
                let home = self.root.display();
                return Err(failure!(
                    TryAgain,
                    "{holder} is changing this stack ({home}). Wait until it ends, then try again."
                ));
            }
            Err(TryLockError::Error(error)) => return Err(Failure::cannot_write(&path)(error)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "mf {command} (pid {})", std::process::id()))
            .map_err(Failure::cannot_write(&path))?;
        Ok(HomeLock { _file: file })
    }
}

/// Holds the lock until it is dropped, or the process ends.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

/// Reads a JSON file; `None` if it does not exist.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failure!(CannotWrite, "{} cannot be read: {error}", path.display())),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        // Without the parser's message, which may quote a secret.
        failure!(
            Contradiction,
            "{} is not valid (line {}, column {}). Restore it, or delete the stack: mfdown --purge",
            path.display(),
            error.line(),
            error.column()
        )
    })
}

/// Replaces a file (0600) by the value as JSON, atomically.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write_private(path, &serde_json::to_string_pretty(value).expect("settings and secrets are plain data"))
}

/// Replaces a file (0600) atomically.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let partial = path.with_extension("partial");
    let write = || {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(Failure::cannot_write(path))
}

/// Returns a short name for a path, for folders that belong to it but are elsewhere.
pub fn short_hash(path: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    path.as_os_str().as_bytes().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Returns the checkout that this program was built from.
pub fn repository() -> PathBuf {
    if let Some(path) = std::env::var_os("MF_REPOSITORY") {
        return PathBuf::from(path);
    }
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf);
    built_from.filter(|path| path.join("Cargo.toml").is_file()).unwrap_or_else(|| PathBuf::from("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn home(path: &Path) -> Home {
        Home { root: path.to_path_buf() }
    }

    #[test]
    fn secrets_are_private() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut home = home(&folder.path().join("stack"));
        home.create().expect("a new home");
        let mode = fs::metadata(home.path().join("secrets")).expect("secrets").mode() & 0o777;
        assert_eq!(mode, 0o700);
        write_private(&home.secrets(), "{}").expect("a written file");
        assert_eq!(fs::metadata(home.secrets()).expect("the file").mode() & 0o777, 0o600);
    }

    #[test]
    fn the_socket_of_a_long_path_is_in_a_short_folder() {
        let short = home(Path::new("/srv/flack"));
        assert_eq!(short.socket().expect("a socket"), Path::new("/srv/flack/mf.sock"));
        let long = home(&PathBuf::from(format!("/srv/{}", "flack/".repeat(30))));
        let socket = long.socket().expect("a socket");
        assert!(socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX, "{}", socket.display());
        fs::remove_dir(socket.parent().expect("its folder")).expect("the folder is empty");
    }

    #[test]
    fn the_second_lock_fails_and_names_the_first_command() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut home = home(folder.path());
        home.create().expect("a new home");
        let _first = home.lock("up").expect("the first lock");
        let failure = home.lock("down").expect_err("the second lock");
        assert_eq!(failure.exit, Exit::TryAgain);
        assert!(failure.message.contains("mf up (pid"), "{failure}");
    }
}
