//! Options of an upgrade, with the names and defaults of Nomad and Argo Rollouts. They are stored in its record.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::INSTANCES_MAX;

/// More steps than a hundred percentages do not exist.
const STEPS_MAX: usize = 100;
/// Longer times are mistakes: 7 days.
const TIME_SECONDS_MAX: u64 = 7 * 24 * 3600;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
pub struct Options {
    /// How many instances are replaced at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = instances())]
    pub max_parallel: u16,
    /// How many more instances than before may run meanwhile
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = instances())]
    pub max_surge: u16,
    /// How long new instances serve requests before old ones are stopped
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    #[serde(with = "milliseconds")]
    pub min_healthy: Duration,
    /// How long a new instance may take until it is ready and in the balancer
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_time)]
    #[serde(with = "milliseconds")]
    pub healthy_deadline: Duration,
    /// How long the upgrade may stand still, for example because there is not enough traffic
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_time)]
    #[serde(with = "milliseconds")]
    pub progress_deadline: Duration,
    /// Restore the old version when the new one is bad or makes no progress (default)
    #[arg(long, overrides_with = "no_auto_revert")]
    #[serde(skip)]
    auto_revert: bool,
    /// Hold instead, and leave the decision to the operator: promote or abort
    #[arg(long)]
    pub no_auto_revert: bool,
    /// How many requests the new version must answer before it is judged
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub min_requests: u64,
    /// How many bad samples make the version bad
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub failure_limit: u16,
    /// The shares of the users that `try` gives to the new version, in percent
    #[arg(long, value_name = "PERCENT,..", default_value = "1,5,25,50,100", value_parser = parse_steps)]
    pub step: Steps,
}

impl Options {
    /// Returns how many instances are replaced at once: a new one needs room beyond the present number first.
    pub fn batch(&self) -> usize {
        self.max_parallel.min(self.max_surge).into()
    }
}

/// Growing percentages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Steps(pub Vec<u8>);

fn instances() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=i64::from(INSTANCES_MAX))
}

fn parse_steps(text: &str) -> Result<Steps, String> {
    let steps: Vec<u8> = text
        .split(',')
        .map(|step| step.trim().trim_end_matches('%'))
        .map(|step| step.parse().ok().filter(|percent| (1..=100).contains(percent)))
        .collect::<Option<_>>()
        .ok_or_else(|| format!("`{text}` is no list of percentages; write it like 1,5,25,50,100"))?;
    if steps.len() > STEPS_MAX || !steps.is_sorted_by(|one, next| one < next) {
        return Err(format!("the percentages of `{text}` must grow"));
    }
    Ok(Steps(steps))
}

/// Parses `500ms`, `10s`, `5m` or `1h`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is no time; write 500ms, 10s, 5m or 1h, at most {} days", TIME_SECONDS_MAX / 86_400);
    let digits = text.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
    let (count, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let count: u64 = count.parse().map_err(|_| wrong())?;
    let time = count.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)?;
    if time > Duration::from_secs(TIME_SECONDS_MAX) { Err(wrong()) } else { Ok(time) }
}

/// Times in the record are milliseconds.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    pub fn options(arguments: &[&str]) -> Options {
        parse(arguments).expect("valid options")
    }

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        Cli::try_parse_from([&["upgrade"], arguments].concat()).map(|cli| cli.options)
    }

    #[test]
    fn the_defaults_are_those_of_the_manual() {
        let options = options(&[]);
        assert_eq!((options.max_parallel, options.max_surge), (1, 1));
        assert_eq!(options.min_healthy, Duration::from_secs(10));
        assert_eq!(options.healthy_deadline, Duration::from_mins(5));
        assert_eq!(options.progress_deadline, Duration::from_mins(10));
        assert_eq!((options.no_auto_revert, options.min_requests, options.failure_limit), (false, 100, 1));
        assert_eq!(options.step.0, [1, 5, 25, 50, 100]);
    }

    #[test]
    fn the_last_of_two_contradicting_options_counts() {
        assert!(!options(&["--no-auto-revert", "--auto-revert"]).no_auto_revert);
        assert!(options(&["--no-auto-revert"]).no_auto_revert);
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(parse_time("1500ms"), Ok(Duration::from_millis(1_500)));
        assert_eq!(parse_time("2m"), Ok(Duration::from_mins(2)));
        for wrong in ["", "10", "s", "-1s", "1.5s", "10 s", "1d", "9999999999999999999s", "999999h"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn steps_are_growing_percentages() {
        assert_eq!(parse_steps("5, 50%,100").map(|steps| steps.0), Ok(vec![5, 50, 100]));
        for wrong in ["", "0", "101", "5,5", "50,5", "5;50"] {
            assert!(parse_steps(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_are_the_same_after_the_record_was_stored() {
        let before = options(&["--min-healthy", "1500ms", "--step", "10,100", "--no-auto-revert"]);
        let stored = serde_json::to_string(&before).expect("plain data");
        assert!(stored.contains("\"min_healthy\":1500"), "{stored}");
        assert_eq!(serde_json::from_str::<Options>(&stored).expect("options"), before);
    }

    #[test]
    fn a_batch_needs_room_beyond_the_present_number() {
        assert_eq!(options(&["--max-parallel", "3"]).batch(), 1);
        assert_eq!(options(&["--max-parallel", "3", "--max-surge", "2"]).batch(), 2);
        assert!(parse(&["--max-surge", "0"]).is_err(), "without room the capacity would fall");
    }
}
