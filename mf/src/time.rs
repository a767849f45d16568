//! Times on the command line.

use chrono::{DateTime, Days, Local, NaiveTime, TimeDelta, Utc};

/// Parses `2026-01-31T10:00:00Z`, `2h` for two hours ago, or `10:30` for the last time that a local clock showed this.
pub fn parse(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.with_timezone(&Utc));
    }
    let time = ["%H:%M", "%H:%M:%S%.f"].iter().find_map(|format| NaiveTime::parse_from_str(text, format).ok());
    let found = time.map_or_else(|| ago(text), |time| last_time_of_day(time, Utc::now().with_timezone(&Local)));
    found.ok_or_else(|| {
        format!("`{text}` is not a time: write 2026-01-31T10:00:00Z, 10:30, or 30m, 2h, 7d for a time before now")
    })
}

/// Returns the time of `2h`.
fn ago(text: &str) -> Option<DateTime<Utc>> {
    let unit = text.chars().last()?;
    let count: i64 = text.trim_end_matches(unit).parse().ok().filter(|count| *count >= 0)?;
    let ago = match unit {
        's' => TimeDelta::try_seconds(count),
        'm' => TimeDelta::try_minutes(count),
        'h' => TimeDelta::try_hours(count),
        'd' => TimeDelta::try_days(count),
        _ => None,
    };
    Utc::now().checked_sub_signed(ago?)
}

fn last_time_of_day(time: NaiveTime, now: DateTime<Local>) -> Option<DateTime<Utc>> {
    let today = now.with_time(time).earliest()?;
    let last = if today > now { today.checked_sub_days(Days::new(1))? } else { today };
    Some(last.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_relative_to_now() {
        assert_eq!(parse("2026-01-31T10:00:00Z").map(|time| time.timestamp()), Ok(1_769_853_600));
        let two_hours_ago = parse("2h").expect("a time");
        assert!((Utc::now() - two_hours_ago).num_minutes().abs_diff(120) <= 1);
        for wrong in ["", "2", "h", "-2h", "yesterday", "2026-01-31", "99999999999999d", "2ü", "25:00"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_of_day_is_the_last_one_before_now() {
        for text in ["00:00", "12:30", "23:59:59.5"] {
            let age = Utc::now() - parse(text).expect("a time");
            // A day with a change of the clocks has 25 hours.
            assert!(age >= TimeDelta::zero() && age <= TimeDelta::hours(25), "{text}: {age}");
        }
    }
}
