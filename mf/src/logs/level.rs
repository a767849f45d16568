//! The level of a line.

use std::fmt;

use clap::ValueEnum;

/// From the most to the least severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The names that the programs of a stack use: tracing, etcd, HAProxy, NATS, PostgreSQL.
const NAMES: [(&str, Level); 24] = [
    ("ERROR", Level::Error),
    ("WARN", Level::Warn),
    ("INFO", Level::Info),
    ("DEBUG", Level::Debug),
    ("TRACE", Level::Trace),
    ("PANIC", Level::Error),
    ("FATAL", Level::Error),
    ("EMERG", Level::Error),
    ("ALERT", Level::Error),
    ("CRIT", Level::Error),
    ("DPANIC", Level::Error),
    ("ERR", Level::Error),
    ("FTL", Level::Error),
    ("WARNING", Level::Warn),
    ("WRN", Level::Warn),
    ("NOTICE", Level::Info),
    ("LOG", Level::Info),
    ("INF", Level::Info),
    ("DBG", Level::Debug),
    ("TRC", Level::Trace),
    ("DEBUG1", Level::Debug),
    ("DEBUG2", Level::Debug),
    ("DEBUG3", Level::Debug),
    ("DEBUG5", Level::Debug),
];

impl Level {
    /// Returns the level of this name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, level)| *level)
    }

    /// Returns the level of a plain line: the first word that names one, as in `[WRN]`, `[WARNING]` or `FATAL:`.
    pub fn of_plain(line: &str) -> Option<Self> {
        line.split_whitespace().find_map(|word| {
            let bracketed = word.strip_prefix('[').and_then(|word| word.strip_suffix(']'));
            bracketed.or_else(|| word.strip_suffix(':')).and_then(Self::named)
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
            Self::Trace => "TRACE",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_levels_of_all_programs_are_recognised() {
        for (line, level) in [
            ("[14136] 2026/11/21 20:45:01.123456 [WRN] a slow consumer", Level::Warn),
            ("2026-11-21 20:45:01.123 UTC [14136] users@users FATAL:  no", Level::Error),
            ("2026-11-21 20:45:01.123 UTC [14136] LOG:  database system is ready", Level::Info),
            ("[WARNING]  (123) : Server users/users-1 is DOWN", Level::Warn),
            ("[ALERT]    (123) : the worker exited", Level::Error),
        ] {
            assert_eq!(Level::of_plain(line), Some(level), "{line}");
        }
        assert_eq!(Level::of_plain("\tat character 7"), None);
        assert_eq!(Level::named("warn"), Some(Level::Warn));
        assert!(Level::Error < Level::Warn, "the most severe comes first");
    }
}
