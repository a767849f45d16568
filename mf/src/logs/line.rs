//! One line of a log: JSON of our services, etcd and HAProxy, or plain text of PostgreSQL and NATS.

use std::fmt::Write;

use chrono::{DateTime, Local, Utc};
use serde_json::{Map, Value};

const NAME_WIDTH: usize = 12;
const TIME_KEYS: [&str; 4] = ["timestamp", "ts", "time", "@timestamp"];
const MESSAGE_KEYS: [&str; 2] = ["message", "msg"];
/// Where in the code a line was logged.
const HIDDEN_KEYS: [&str; 6] = ["target", "caller", "filename", "line_number", "threadId", "spans"];

#[derive(Debug)]
pub struct Line {
    pub time: DateTime<Utc>,
    name: String,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Fields(Map<String, Value>),
    Text(String),
}

/// Parses lines. A line without a time, such as the second line of a message, gets the time of the line before it.
pub fn parse_all(name: &str, lines: &[String]) -> Vec<Line> {
    let mut before = DateTime::UNIX_EPOCH;
    lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let (time, content) = parse(line);
            before = time.unwrap_or(before);
            Line { time: before, name: name.to_owned(), content }
        })
        .collect()
}

fn parse(line: &str) -> (Option<DateTime<Utc>>, Content) {
    if let Ok(Value::Object(fields)) = serde_json::from_str(line) {
        let time = TIME_KEYS.iter().find_map(|key| fields.get(*key)).and_then(time_of);
        return (time, Content::Fields(fields));
    }
    (plain_time(line), Content::Text(line.to_owned()))
}

fn time_of(value: &Value) -> Option<DateTime<Utc>> {
    match value {
        Value::Number(number) => {
            let number = number.as_f64()?;
            // Smaller numbers are seconds (until the year 5138), larger ones milliseconds (from 1973 on).
            let milliseconds = if number < 1e11 { number * 1000.0 } else { number };
            #[expect(clippy::cast_possible_truncation, reason = "a fraction of a millisecond may go")]
            DateTime::from_timestamp_millis(milliseconds as i64)
        }
        Value::String(text) => DateTime::parse_from_rfc3339(text)
            .map(|time| time.with_timezone(&Utc))
            // etcd writes the time zone without a colon; HAProxy writes local time in the Common Log Format.
            .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z").map(|time| time.with_timezone(&Utc)))
            .ok()
            .or_else(|| local(text, "%d/%b/%Y:%H:%M:%S%.f")),
        _ => None,
    }
}

fn plain_time(line: &str) -> Option<DateTime<Utc>> {
    // PostgreSQL: `2026-11-21 20:45:01.123 UTC [14136] LOG: ...`
    if let Some((time, _)) = line.split_once(" UTC ")
        && let Ok(time) = DateTime::parse_from_str(&format!("{time} +0000"), "%Y-%m-%d %H:%M:%S%.f %z")
    {
        return Some(time.with_timezone(&Utc));
    }
    // NATS: `[14136] 2026/11/21 20:45:01.123456 [INF] ...`
    let mut words = line.split_whitespace().skip(1);
    local(&format!("{} {}", words.next()?, words.next()?), "%Y/%m/%d %H:%M:%S%.f")
}

/// Parses a local time.
fn local(text: &str, format: &str) -> Option<DateTime<Utc>> {
    let zone = *Utc::now().with_timezone(&Local).offset();
    let time = DateTime::parse_from_str(&format!("{text} {zone}"), &format!("{format} %:z")).ok()?;
    Some(time.with_timezone(&Utc))
}

impl Line {
    /// Returns time, process and message.
    pub fn text(&self) -> String {
        format!(
            "{} {:NAME_WIDTH$} {}",
            self.time.with_timezone(&Local).format("%H:%M:%S%.3f"),
            self.name,
            self.message()
        )
    }

    /// Returns level, message and other fields.
    pub fn message(&self) -> String {
        let fields = match &self.content {
            Content::Text(text) => return text.clone(),
            Content::Fields(fields) => fields,
        };
        // tracing writes an event's own fields below `fields`, and the request's fields below `span`.
        let below = |key: &str| fields.get(key).and_then(Value::as_object).into_iter().flatten();
        let own = fields.iter().filter(|(key, _)| *key != "fields" && *key != "span");
        let all: Vec<_> = below("fields").chain(own).chain(below("span").filter(|(key, _)| *key != "name")).collect();
        let level = fields.get("level").and_then(Value::as_str);
        let mut text = level.map(|level| format!("{:5} ", level.to_uppercase())).unwrap_or_default();
        if let Some((_, message)) = all.iter().find(|(key, _)| MESSAGE_KEYS.contains(&key.as_str())) {
            text.push_str(&text_of(message));
        }
        for (key, value) in all {
            let key = key.as_str();
            let is_shown_or_hidden =
                key == "level" || TIME_KEYS.contains(&key) || MESSAGE_KEYS.contains(&key) || HIDDEN_KEYS.contains(&key);
            // Our services log their own name, which is shown already.
            let is_own_name =
                matches!(key, "instance" | "service") && self.name.starts_with(value.as_str().unwrap_or("-"));
            if !is_shown_or_hidden && !is_own_name && !value.is_null() {
                let _ = write!(text, " {key}={}", text_of(value));
            }
        }
        text
    }

    /// Returns the line as JSON, with the name of the process.
    pub fn json(&self) -> Value {
        let mut fields = match &self.content {
            Content::Fields(fields) => fields.clone(),
            Content::Text(text) => Map::from_iter([
                ("timestamp".to_owned(), Value::from(self.time.to_rfc3339())),
                ("message".to_owned(), Value::from(text.as_str())),
            ]),
        };
        fields.insert("process".to_owned(), Value::from(self.name.as_str()));
        Value::Object(fields)
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.replace('\n', "⏎"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        parse_all("users-1", &[text.to_owned()]).remove(0)
    }

    #[test]
    fn a_line_of_a_service_is_shown_with_its_fields() {
        let line = line(
            r#"{"timestamp":"2026-11-21T20:45:01.123Z","level":"INFO","fields":{"message":"registered","user.id":17},
            "target":"flack_users","span":{"name":"request","correlation_id":"c-1"}}"#,
        );
        assert_eq!(line.message(), "INFO  registered user.id=17 correlation_id=c-1");
        assert_eq!(line.time.timestamp_millis(), 1_795_293_901_123);
    }

    #[test]
    fn the_time_formats_of_all_programs_are_parsed() {
        for text in [
            r#"{"level":"info","ts":"2026-11-21T20:45:01.123Z","caller":"a.go:1","msg":"ready"}"#,
            r#"{"level":"info","ts":"2026-11-21T20:45:01.123+0000","msg":"ready"}"#,
            r#"{"ts":1795293901.123,"msg":"ready"}"#,
            r#"{"time":1795293901123,"msg":"ready"}"#,
            "2026-11-21 20:45:01.123 UTC [14136] LOG:  database system is ready to accept connections",
        ] {
            assert_eq!(line(text).time.timestamp_millis(), 1_795_293_901_123, "{text}");
        }
        assert!(plain_time("[14136] 2026/11/21 20:45:01.123456 [INF] Server is ready").is_some());
    }

    #[test]
    fn a_line_without_a_time_gets_the_time_of_the_line_before() {
        let lines = parse_all(
            "postgres",
            &["2026-11-21 20:45:01.123 UTC [1] ERROR:  no".to_owned(), "\tat character 7".to_owned()],
        );
        assert_eq!(lines[0].time, lines[1].time);
    }
}
