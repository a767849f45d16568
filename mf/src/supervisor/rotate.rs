//! Keeps logs from filling the disk: each is bound in size, and one old one is kept.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use crate::home::Home;

/// A log file larger than this becomes `<name>.log.old`.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
const LOOK_AGAIN: Duration = Duration::from_secs(5);

pub async fn run(home: Home) {
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        for entry in fs::read_dir(home.logs()).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            if is_log && entry.metadata().is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
                rotate(&path);
            }
        }
    }
}

/// Copies, then empties. The process has the file open for appending and goes on at its new end; a line that is written
/// between the copy and the emptying is lost, which is the price of not standing between a process and its log.
fn rotate(path: &Path) {
    let copied = fs::copy(path, path.with_extension("log.old"));
    if let Err(error) = copied.and_then(|_| File::options().write(true).open(path)?.set_len(0)) {
        super::child::log("supervisor", &format!("cannot rotate {}: {error}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_writer_goes_on_in_the_emptied_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("users-1.log");
        let mut writer = File::options().append(true).create(true).open(&path).expect("a log");
        writer.write_all(b"before\n").expect("written");
        rotate(&path);
        writer.write_all(b"after\n").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("the log"), "after\n");
        assert_eq!(
            fs::read_to_string(folder.path().join("users-1.log.old")).expect("the old log"),
            "before\n"
        );
    }
}
