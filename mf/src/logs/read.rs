//! Lines from the end of a file, and lines as they are added.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Read at once; also how far back `last` reads.
const CHUNK_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Returns the last lines of a file.
pub fn last(path: &Path, count: usize) -> std::io::Result<Vec<String>> {
    let from = path.metadata()?.len().saturating_sub(CHUNK_BYTES_MAX);
    let bytes = read_from(path, from)?;
    let text = String::from_utf8_lossy(&bytes);
    // Reading that starts in the middle of the file starts in the middle of a line.
    let lines: Vec<&str> = text.lines().skip(usize::from(from > 0)).collect();
    Ok(lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect())
}

fn read_from(path: &Path, position: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(position))?;
    let mut bytes = Vec::new();
    file.take(CHUNK_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the lines that are appended to a file.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    position: u64,
}

impl Follower {
    pub fn at_start(path: PathBuf) -> Self {
        Self { path, position: 0 }
    }

    pub fn at_end(path: PathBuf) -> Self {
        let position = path.metadata().map_or(0, |metadata| metadata.len());
        Self { path, position }
    }

    /// Returns complete new lines.
    pub fn new_lines(&mut self) -> Vec<String> {
        self.read().unwrap_or_default()
    }

    fn read(&mut self) -> std::io::Result<Vec<String>> {
        let length = self.path.metadata()?.len();
        if length < self.position {
            // It was rotated, which truncates it.
            self.position = 0;
        }
        let bytes = read_from(&self.path, self.position)?;
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        self.position += end as u64 + 1;
        Ok(String::from_utf8_lossy(&bytes[..end]).lines().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn an_incomplete_line_is_read_when_it_is_complete_and_reading_goes_on_after_a_rotation() {
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
