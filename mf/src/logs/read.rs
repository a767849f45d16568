//! Lines from the end of a log, and lines as they are added.
//!
//! A rotation moves the beginning of a log to the old log, `<name>.log.old`: the two together are what was written.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

/// Read at once; also how far back `last` reads.
const CHUNK_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Returns the last lines of a log.
pub fn last(path: &Path, count: usize) -> std::io::Result<Vec<String>> {
    let length = path.metadata()?.len();
    let mut from = length.saturating_sub(CHUNK_BYTES_MAX);
    let mut bytes = read_from(path, from)?;
    let old = old_log(path);
    if let Ok(metadata) = old.metadata()
        && length < CHUNK_BYTES_MAX
    {
        from = metadata.len().saturating_sub(CHUNK_BYTES_MAX - length);
        bytes = [read_from(&old, from)?, bytes].concat();
    }
    let text = String::from_utf8_lossy(&bytes);
    // Reading that starts in the middle of a file starts in the middle of a line.
    let lines: Vec<&str> = text.lines().skip(usize::from(from > 0)).collect();
    Ok(lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect())
}

/// Calls `receive` for each line of a log, from the oldest one on.
pub fn each(path: &Path, mut receive: impl FnMut(&str)) -> std::io::Result<()> {
    // The first bytes of the log continue the last line of the old log.
    let old: Box<dyn Read> =
        File::open(old_log(path)).map_or_else(|_| Box::new(std::io::empty()) as _, |old| Box::new(old) as _);
    let mut reader = BufReader::new(old.chain(File::open(path)?));
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        receive(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(())
}

/// Returns when a log was written last.
pub fn written(path: &Path) -> DateTime<Utc> {
    path.metadata().and_then(|metadata| metadata.modified()).map_or_else(|_| Utc::now(), DateTime::from)
}

fn read_from(path: &Path, position: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(position))?;
    let mut bytes = Vec::new();
    file.take(CHUNK_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn old_log(path: &Path) -> PathBuf {
    path.with_extension("log.old")
}

fn inode(path: &Path) -> Option<u64> {
    path.metadata().ok().map(|metadata| metadata.ino())
}

/// Reads the lines that are appended to a log.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    /// Negative in the old log: the distance to its end.
    position: i64,
    /// Each rotation makes another file.
    old_inode: Option<u64>,
}

impl Follower {
    pub fn at_start(path: PathBuf) -> Self {
        Self { old_inode: inode(&old_log(&path)), path, position: 0 }
    }

    pub fn at_end(path: PathBuf) -> Self {
        let position = path.metadata().map_or(0, |metadata| metadata.len() as i64);
        Self { position, ..Self::at_start(path) }
    }

    /// Returns complete new lines.
    pub fn new_lines(&mut self) -> Vec<String> {
        self.read().unwrap_or_default()
    }

    fn read(&mut self) -> std::io::Result<Vec<String>> {
        let length = self.path.metadata()?.len() as i64;
        let old = old_log(&self.path);
        // The old log is complete before its lines are removed from the log.
        if let Ok(metadata) = old.metadata()
            && self.old_inode != Some(metadata.ino())
            && length < metadata.len() as i64
        {
            self.old_inode = Some(metadata.ino());
            self.position -= metadata.len() as i64;
        }
        if length < self.position {
            // It was truncated by hand.
            self.position = 0;
        }
        let bytes = if let Ok(position) = u64::try_from(self.position) {
            read_from(&self.path, position)?
        } else {
            let start = old.metadata()?.len().saturating_add_signed(self.position);
            let rest = read_from(&old, start)?;
            // A line may begin in the old log and end in the log.
            let is_last = (rest.len() as u64) < CHUNK_BYTES_MAX;
            if is_last { [rest, read_from(&self.path, 0)?].concat() } else { rest }
        };
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        self.position += end as i64 + 1;
        Ok(String::from_utf8_lossy(&bytes[..end]).lines().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_are_read_across_rotations() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, old) = (folder.path().join("a.log"), folder.path().join("a.log.old"));
        std::fs::write(&path, "one\ntwo\nthree\nfo").expect("written");
        let (mut start, mut end) = (Follower::at_start(path.clone()), Follower::at_end(path.clone()));
        assert_eq!(start.new_lines(), ["one", "two", "three"]);
        let mut late = Follower { position: 4, ..Follower::at_start(path.clone()) };
        // As the supervisor does it: first the old log, then the log without these bytes.
        std::fs::write(&old, "one\ntwo\nth").expect("written");
        assert_eq!(end.new_lines(), [""; 0]);
        std::fs::write(&path, "ree\nfour\n").expect("written");
        assert_eq!(start.new_lines(), ["four"]);
        assert_eq!(late.new_lines(), ["two", "three", "four"]);
        assert_eq!(end.new_lines(), ["ur"]);
        assert_eq!(last(&path, 3).expect("readable"), ["two", "three", "four"]);
        let mut all = Vec::new();
        each(&path, |line| all.push(line.trim_end().to_owned())).expect("readable");
        assert_eq!(all, ["one", "two", "three", "four"]);
        std::fs::write(&path, "ree\nfour\nfive\n").expect("written");
        assert_eq!((start.new_lines(), late.new_lines()), (vec!["five".to_owned()], vec!["five".to_owned()]));
    }

    #[test]
    fn an_incomplete_line_is_read_when_it_is_complete_and_reading_continues_after_a_truncation() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.log");
        let mut writer = File::options().append(true).create(true).open(&path).expect("a log");
        let mut follower = Follower::at_end(path.clone());
        writer.write_all(b"one\ntw").expect("written");
        assert_eq!(follower.new_lines(), ["one"]);
        writer.write_all(b"o\n").expect("written");
        assert_eq!(follower.new_lines(), ["two"]);
        File::options().write(true).open(&path).and_then(|file| file.set_len(0)).expect("emptied");
        writer.write_all(b"3\n").expect("written");
        assert_eq!(follower.new_lines(), ["3"]);
        assert_eq!(last(&path, 5).expect("readable"), ["3"]);
    }
}
