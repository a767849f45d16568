//! The logs of processes: opens them, and limits their size, so that they do not fill the disk. One old log is kept.
//!
//! A process writes to its log itself: a pipe through the supervisor would break when the supervisor is killed. So a
//! log is rotated while its process writes to it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl};

use crate::log::log;
use crate::paths::Paths;

/// The beginning of a larger log becomes `<name>.log.old`.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// A log is larger than `LOG_BYTES_MAX` by at most what its process writes in this time.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The logs of running processes, by the name of the process.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    paths: Paths,
    /// Each file shares its flags and its position with the file that the process writes to.
    open: Arc<Mutex<BTreeMap<String, File>>>,
}

impl Logs {
    pub(crate) fn new(paths: Paths) -> Self {
        Self { paths, open: Arc::default() }
    }

    /// Opens the log of a process that is about to start.
    pub(crate) fn open(&self, name: &str) -> io::Result<File> {
        let file = File::options().append(true).create(true).mode(0o600).open(self.paths.log(name))?;
        self.open.lock().expect("no holder of this lock panics").insert(name.to_owned(), file.try_clone()?);
        Ok(file)
    }

    pub(crate) fn close(&self, name: &str) {
        self.open.lock().expect("no holder of this lock panics").remove(name);
    }

    pub(crate) async fn rotate_when_too_large(self) {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            for entry in fs::read_dir(&self.paths.logs).into_iter().flatten().flatten() {
                let path = entry.path();
                let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".log")) else {
                    continue;
                };
                let open = self.open.lock().expect("no holder of this lock panics");
                let is_too_large = entry.metadata().is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX);
                let result = match open.get(name) {
                    Some(file) => {
                        append(file).and_then(|()| if is_too_large { rotate(&path, Some(file)) } else { Ok(()) })
                    }
                    None if is_too_large => rotate(&path, None),
                    None => Ok(()),
                };
                if let Err(error) = result {
                    log("supervisor", &format!("cannot rotate {}: {error}", path.display()));
                }
            }
        }
    }
}

/// Makes a process append to its log again. HAProxy clears `O_APPEND` at its first line after each start and reload,
/// because it sets `O_NONBLOCK` and no other flag. It then writes at its old position in a file that is now shorter.
fn append(file: &File) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    if !flags.contains(OFlag::O_APPEND) {
        fcntl(file, FcntlArg::F_SETFL(flags | OFlag::O_APPEND))?;
    }
    Ok(())
}

/// Moves the beginning of a log to `<name>.log.old`, without the last incomplete block.
///
/// ext4 and XFS can remove whole blocks from the beginning of a file while others append to it, so no byte is lost: the
/// old log and the log together are what was written. Other file systems (tmpfs, btrfs) can only truncate a file; a
/// line that is written between the last read and the truncation is lost there.
fn rotate(path: &Path, shared: Option<&File>) -> io::Result<()> {
    let mut log = File::options().read(true).write(true).open(path)?;
    let metadata = log.metadata()?;
    // At least one byte has to remain.
    let bytes = metadata.len().saturating_sub(1) / metadata.blksize() * metadata.blksize();
    let partial = path.with_extension("log.partial");
    let mut old = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    io::copy(&mut io::Read::take(&log, bytes), &mut old)?;
    // Before the removal: if the supervisor is killed between the two, lines are in both files and none is lost.
    fs::rename(&partial, path.with_extension("log.old"))?;
    shared.map_or(Ok(()), append)?;
    match fallocate(&log, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 0, i64::try_from(bytes).unwrap_or(i64::MAX)) {
        Ok(()) => {}
        Err(Errno::EOPNOTSUPP | Errno::EINVAL) => {
            io::copy(&mut log, &mut old)?;
            log.set_len(0)?;
        }
        Err(error) => return Err(error.into()),
    }
    // For a process that clears `O_APPEND` before its next line.
    shared.map_or(Ok(0), |mut shared| shared.seek(SeekFrom::End(0))).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use super::*;

    /// A log in the target folder: the folder for temporary files may be in memory (tmpfs).
    fn folder() -> tempfile::TempDir {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
        tempfile::tempdir_in(target).expect("a temporary folder")
    }

    fn logs(folder: &tempfile::TempDir) -> Logs {
        let paths = Paths { logs: folder.path().to_path_buf(), ..Paths::in_folder(folder.path()) };
        Logs::new(paths)
    }

    #[test]
    fn no_line_is_lost_or_torn_while_a_process_writes() {
        const LINES: usize = 200_000;
        let folder = folder();
        let logs = logs(&folder);
        let mut writer = logs.open("web-1").expect("a log");
        let path = logs.paths.log("web-1");
        let writing = thread::spawn(move || {
            for line in 0..LINES {
                writer.write_all(format!("line {line:010} of the process\n").as_bytes()).expect("written");
            }
        });
        let mut written = Vec::new();
        let mut rotations = 0;
        while !writing.is_finished() {
            if path.metadata().expect("the log").len() > 256 * 1024 {
                rotate(&path, logs.open.lock().expect("a lock").get("web-1")).expect("rotated");
                written.extend(fs::read(path.with_extension("log.old")).expect("the old log"));
                rotations += 1;
            }
        }
        writing.join().expect("the writer does not panic");
        written.extend(fs::read(&path).expect("the log"));
        let written = String::from_utf8(written).expect("the lines are text");
        let lines: Vec<_> = (0..LINES).map(|line| format!("line {line:010} of the process\n")).collect();
        let expected = lines.concat();
        assert!(rotations > 3, "only {rotations} rotations");
        assert!(written == expected, "{} of {} bytes", written.len(), expected.len());
    }

    #[test]
    fn a_process_that_clears_o_append_continues_without_a_hole() {
        let folder = folder();
        let logs = logs(&folder);
        let mut process = logs.open("haproxy").expect("a log");
        let path = logs.paths.log("haproxy");
        // As HAProxy does it.
        let clear = |process: &File| fcntl(process, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("the flags are set");
        for rotation in 0..3 {
            clear(&process);
            process.write_all(&b"before\n".repeat(2_000)).expect("written");
            rotate(&path, logs.open.lock().expect("a lock").get("haproxy")).expect("rotated");
            if rotation == 1 {
                clear(&process);
            } else {
                // A line that the process writes during the rotation is appended, wherever its position is.
                process.rewind().expect("a log");
            }
            process.write_all(b"after\n").expect("written");
            let log = fs::read_to_string(&path).expect("the log");
            assert!(log.len() < 8192 && log.ends_with("before\nafter\n") && !log.contains('\0'), "{log:?}");
            assert!(!fs::read(path.with_extension("log.old")).expect("the old log").contains(&0));
        }
    }

    #[test]
    fn a_file_system_that_can_only_truncate_is_supported() {
        let Ok(folder) = tempfile::tempdir_in("/dev/shm") else { return };
        let logs = logs(&folder);
        let mut process = logs.open("web-1").expect("a log");
        let path = logs.paths.log("web-1");
        process.write_all(b"before\n").expect("written");
        rotate(&path, logs.open.lock().expect("a lock").get("web-1")).expect("rotated");
        process.write_all(b"after\n").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("the log"), "after\n");
        assert_eq!(fs::read_to_string(path.with_extension("log.old")).expect("the old log"), "before\n");
    }
}
