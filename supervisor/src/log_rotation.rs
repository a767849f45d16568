//! Limits the size of logs, so that they do not fill the disk. One old log is kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::log::log;

/// A larger log becomes `<name>.log.old`.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

pub(crate) async fn run(logs: PathBuf) {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        for entry in fs::read_dir(&logs).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            if is_log && entry.metadata().is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
                rotate(&path);
            }
        }
    }
}

/// Copies the log, then truncates it: the process has it open for appending, and goes on at the new end. A line written
/// between the two steps is lost; a pipe through the supervisor would not lose it, but would break when the supervisor
/// is killed.
fn rotate(path: &Path) {
    let copied = fs::copy(path, path.with_extension("log.old"));
    if let Err(error) = copied.and_then(|_| File::options().write(true).open(path)?.set_len(0)) {
        log("supervisor", &format!("cannot rotate {}: {error}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_process_goes_on_writing_to_the_truncated_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("web-1.log");
        let mut writer = File::options().append(true).create(true).open(&path).expect("a log");
        writer.write_all(b"before\n").expect("written");
        rotate(&path);
        writer.write_all(b"after\n").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("the log"), "after\n");
        let old = fs::read_to_string(folder.path().join("web-1.log.old")).expect("the old log");
        assert_eq!(old, "before\n");
    }
}
