//! The state folder of one stack (`MF_HOME`, by default `.mf` in the repository): where everything is that a run leaves on disk.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure, Result};

/// The kernel takes socket paths of at most 107 bytes; HAProxy appends a suffix while it binds.
const SOCKET_PATH_BYTES_MAX: usize = 100;

#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Finds the folder from the environment, without making it.
    pub fn from_environment() -> Result<Self> {
        let path = match std::env::var_os("MF_HOME") {
            Some(path) if !path.is_empty() => PathBuf::from(path),
            _ => repository().join(".mf"),
        };
        Self::at(&path)
    }

    pub fn at(path: &Path) -> Result<Self> {
        let root = std::path::absolute(path).map_err(|error| cannot_write(path, &error))?;
        // The canonical name, so that two ways to write one folder are one stack.
        Ok(Self { root: root.canonicalize().unwrap_or(root) })
    }

    /// Makes the folder and those below it, private to who runs the stack.
    pub fn create(&mut self) -> Result<()> {
        // As root, PostgreSQL runs as another user and has to pass through to its data; what is private is private by itself.
        let mode = if nix::unistd::geteuid().is_root() { 0o711 } else { 0o700 };
        for (folder, mode) in
            [("", mode), ("log", 0o700), ("run", 0o700), ("secrets", 0o700), ("haproxy", 0o700)]
        {
            let path = self.root.join(folder);
            if !path.is_dir() {
                DirBuilder::new()
                    .recursive(true)
                    .mode(mode)
                    .create(&path)
                    .map_err(|error| cannot_write(&path, &error))?;
                // The umask may have taken away what was asked for.
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))
                    .map_err(|error| cannot_write(&path, &error))?;
            }
        }
        self.root = self.root.canonicalize().map_err(|error| cannot_write(&self.root, &error))?;
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

    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("log").join(format!("{name}.log"))
    }

    pub fn logs(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Who runs: one small file a process, for the day when the supervisor itself was killed.
    pub fn pids(&self) -> PathBuf {
        self.root.join("run")
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

    /// The supervisor's control socket; in a short folder of its own when the home's path is too long for a socket.
    pub fn socket(&self) -> Result<PathBuf> {
        let path = self.root.join("mf.sock");
        if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(path);
        }
        let user = nix::unistd::geteuid();
        let folder = std::env::temp_dir().join(format!("flack-{user}-{}", short_hash(&self.root)));
        if let Err(error) = DirBuilder::new().mode(0o700).create(&folder)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(cannot_write(&folder, &error));
        }
        // The temporary folder is everybody's: a folder that somebody else made there is not to be trusted.
        let metadata = fs::symlink_metadata(&folder).map_err(|error| cannot_write(&folder, &error))?;
        if !metadata.is_dir() || metadata.uid() != user.as_raw() || metadata.mode() & 0o077 != 0 {
            return Err(Failure::new(
                Exit::CannotWrite,
                format!("{} belongs to somebody else; set MF_HOME to a shorter path", folder.display()),
            ));
        }
        Ok(folder.join("mf.sock"))
    }

    /// Takes the stack for one command that changes it; whoever comes second is told who was first.
    pub fn lock(&self, command: &str) -> Result<HomeLock> {
        let path = self.root.join("lock");
        let mut file = open_private(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder =
                    if holder.trim().is_empty() { "another mf".to_owned() } else { holder.trim().to_owned() };
                return Err(Failure::new(
                    Exit::TryAgain,
                    format!(
                        "{holder} is busy with this stack ({}). Wait until it ends (or end it with Ctrl-C), then try again.",
                        self.root.display()
                    ),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(cannot_write(&path, &error)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "mf {command} (pid {})", std::process::id()))
            .map_err(|error| cannot_write(&path, &error))?;
        Ok(HomeLock { _file: file })
    }
}

/// Held as long as the value lives; the kernel lets go of it when the process dies.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

pub fn open_private(path: &Path) -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| cannot_write(path, &error))
}

/// Writes a whole file (0600) in one step: a reader sees the old or the new, never half.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let partial = path.with_extension("partial");
    let write = || {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|error| cannot_write(path, &error))
}

pub fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        Exit::CannotWrite,
        format!(
            "cannot write {}: {error}. Set MF_HOME to a folder that you may write, or make room.",
            path.display()
        ),
    )
}

/// Returns a short name for a path, for folders that belong to it but are elsewhere.
pub fn short_hash(path: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    path.as_os_str().as_bytes().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The checkout that this program belongs to.
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

    fn home(path: &Path) -> Home {
        Home { root: path.to_path_buf() }
    }

    #[test]
    fn the_folders_of_secrets_are_private() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut home = home(&folder.path().join("stack"));
        home.create().expect("a new home");
        let mode = fs::metadata(home.path().join("secrets")).expect("secrets").mode() & 0o777;
        assert_eq!(mode, 0o700);
        write_private(&home.secrets(), "{}").expect("a written file");
        assert_eq!(fs::metadata(home.secrets()).expect("the file").mode() & 0o777, 0o600);
    }

    #[test]
    fn a_long_path_gets_a_socket_in_a_short_folder() {
        let short = home(Path::new("/srv/flack"));
        assert_eq!(short.socket().expect("a socket"), Path::new("/srv/flack/mf.sock"));
        let long = home(&PathBuf::from(format!("/srv/{}", "flack/".repeat(30))));
        let socket = long.socket().expect("a socket");
        assert!(socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX, "{}", socket.display());
        fs::remove_dir(socket.parent().expect("its folder")).expect("the folder is empty");
    }

    #[test]
    fn the_second_lock_says_who_holds_the_first() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut home = home(folder.path());
        home.create().expect("a new home");
        let _first = home.lock("up").expect("the first lock");
        let failure = home.lock("down").expect_err("the second lock");
        assert_eq!(failure.exit, Exit::TryAgain);
        assert!(failure.message.contains("mf up (pid"), "{failure}");
    }
}
