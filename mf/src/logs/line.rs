//! One line of a log: JSON of our services, etcd and HAProxy, or plain text of PostgreSQL, NATS and HAProxy.

use std::fmt::Write;

use chrono::{DateTime, Local, Utc};
use serde_json::{Map, Value};

use super::level::Level;

const NAME_WIDTH: usize = 12;
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const CYAN: &str = "\x1b[36m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";
const TIME_KEYS: [&str; 4] = ["timestamp", "ts", "time", "@timestamp"];
const MESSAGE_KEYS: [&str; 2] = ["message", "msg"];
/// Where in the code a line was logged.
const HIDDEN_KEYS: [&str; 6] = ["target", "caller", "filename", "line_number", "threadId", "spans"];

#[derive(Debug)]
pub struct Line {
    pub time: DateTime<Utc>,
    pub level: Level,
    name: String,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Fields(Map<String, Value>),
    Text(String),
}

/// Makes lines of the text of one log. It gives a time to the lines that have none.
#[derive(Debug)]
pub struct Parser<'a> {
    name: &'a str,
    /// Of the line before.
    time: DateTime<Utc>,
    level: Level,
    /// HAProxy's messages without a time, until the next line with a time.
    waiting: Vec<(Level, String)>,
}

impl<'a> Parser<'a> {
    pub fn new(name: &'a str) -> Self {
        Self { name, time: DateTime::UNIX_EPOCH, level: Level::Info, waiting: Vec::new() }
    }

    /// Parses the next line of the log, and passes on the lines that are complete: with their times.
    pub fn push(&mut self, text: &str, receive: &mut impl FnMut(Line)) {
        let text = text.trim_end();
        if text.trim().is_empty() {
            return;
        }
        let Parsed { time, level, content } = parse(text);
        if let Some(time) = time {
            let is_repeated = matches!(&content, Content::Text(text) if self.has_waiting(text));
            (self.time, self.level) = (time, level.unwrap_or(Level::Info));
            self.end(time, receive);
            if !is_repeated {
                receive(self.line(time, self.level, content));
            }
            return;
        }
        match (level, content) {
            (Some(level), Content::Text(text)) if haproxy_message(&text).is_some() => self.waiting.push((level, text)),
            (None, Content::Text(text)) if self.has_waiting(&text) => {}
            // A line without a time, such as the second line of a message, belongs to the line before.
            (level, content) => {
                self.level = level.unwrap_or(self.level);
                let before = self.time;
                self.end(before, receive);
                receive(self.line(before, self.level, content));
            }
        }
    }

    /// Passes on the lines that wait for a time. At the end of a log this is when the log was written last.
    pub fn end(&mut self, time: DateTime<Utc>, receive: &mut impl FnMut(Line)) {
        for (level, text) in std::mem::take(&mut self.waiting) {
            receive(self.line(time.max(self.time), level, Content::Text(text)));
        }
    }

    /// Whether this is a message that waits. HAProxy prints a message without a time, and then logs it with a time.
    fn has_waiting(&self, text: &str) -> bool {
        let plain = |text: &str| text.replace('\'', "");
        let logged = plain(text);
        self.waiting.iter().filter_map(|(_, text)| haproxy_message(text)).any(|message| plain(message) == logged)
    }

    fn line(&self, time: DateTime<Utc>, level: Level, content: Content) -> Line {
        Line { time, level, name: self.name.to_owned(), content }
    }
}

/// Parses all lines of a log that was written last at `written`.
pub fn parse_all(name: &str, texts: &[String], written: DateTime<Utc>) -> Vec<Line> {
    let (mut parser, mut lines) = (Parser::new(name), Vec::new());
    let mut receive = |line| lines.push(line);
    for text in texts {
        parser.push(text, &mut receive);
    }
    parser.end(written, &mut receive);
    lines
}

struct Parsed {
    time: Option<DateTime<Utc>>,
    level: Option<Level>,
    content: Content,
}

fn parse(text: &str) -> Parsed {
    if let Ok(Value::Object(fields)) = serde_json::from_str(text) {
        let time = TIME_KEYS.iter().find_map(|key| fields.get(*key)).and_then(time_of);
        let level = fields.get("level").and_then(Value::as_str).and_then(Level::named);
        return Parsed { time, level, content: Content::Fields(fields) };
    }
    if let Some((level, time, message)) = haproxy_timed(text) {
        return Parsed { time: Some(time), level: Some(level), content: Content::Text(message.to_owned()) };
    }
    Parsed { time: plain_time(text), level: Level::of_plain(text), content: Content::Text(text.to_owned()) }
}

/// Parses `<4>2026-11-21T20:45:01.123456+00:00 message`, HAProxy's format `timed`; the number is syslog's severity.
fn haproxy_timed(text: &str) -> Option<(Level, DateTime<Utc>, &str)> {
    let (severity, rest) = text.strip_prefix('<')?.split_once('>')?;
    let (time, message) = rest.split_once(' ')?;
    let level = match severity.parse::<u8>().ok()? {
        0..=3 => Level::Error,
        4 => Level::Warn,
        5..=6 => Level::Info,
        _ => Level::Debug,
    };
    Some((level, DateTime::parse_from_rfc3339(time).ok()?.with_timezone(&Utc), message))
}

/// Returns the message of `[NOTICE]   (14136) : message`, which HAProxy prints without a time.
fn haproxy_message(text: &str) -> Option<&str> {
    let (level, rest) = text.strip_prefix('[')?.split_once(']')?;
    Level::named(level)?;
    let (pid, message) = rest.trim_start().strip_prefix('(')?.split_once(") : ")?;
    // What the agent does through the Runtime API has a prefix, which is not logged.
    let message = message.strip_prefix("CLI : ").unwrap_or(message);
    pid.bytes().all(|byte| byte.is_ascii_digit()).then_some(message)
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
    pub fn text(&self, colors: bool) -> String {
        let (time, now) = (self.time.with_timezone(&Local), Utc::now().with_timezone(&Local));
        let date = if time.date_naive() == now.date_naive() { String::new() } else { time.format("%F ").to_string() };
        let (time, name, message) = (time.format("%H:%M:%S%.3f"), &self.name, self.message());
        if !colors {
            return format!("{date}{time} {name:NAME_WIDTH$} {message}");
        }
        let color = match self.level {
            Level::Error => RED,
            Level::Warn => YELLOW,
            Level::Info => RESET,
            Level::Debug | Level::Trace => DIM,
        };
        format!("{DIM}{date}{time}{RESET} {CYAN}{name:NAME_WIDTH$}{RESET} {color}{message}{RESET}")
    }

    /// Returns level, message and other fields.
    pub fn message(&self) -> String {
        let fields = match &self.content {
            Content::Text(text) => return printable(text),
            Content::Fields(fields) => fields,
        };
        // tracing writes an event's own fields below `fields`, and the request's fields below `span`.
        let below = |key: &str| fields.get(key).and_then(Value::as_object).into_iter().flatten();
        let own = fields.iter().filter(|(key, _)| *key != "fields" && *key != "span");
        let all: Vec<_> = below("fields").chain(own).chain(below("span").filter(|(key, _)| *key != "name")).collect();
        let mut text = format!("{:5} ", self.level);
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

    /// Whether the line contains this text, as it is shown or as it is in the log.
    pub fn contains(&self, text: &str) -> bool {
        self.message().contains(text)
            || matches!(&self.content, Content::Fields(_)) && self.json().to_string().contains(text)
    }

    /// Returns the line as JSON, with the name of the process.
    pub fn json(&self) -> Value {
        let mut fields = match &self.content {
            Content::Fields(fields) => fields.clone(),
            Content::Text(text) => Map::from_iter([
                ("timestamp".to_owned(), Value::from(self.time.to_rfc3339())),
                ("level".to_owned(), Value::from(self.level.to_string())),
                ("message".to_owned(), Value::from(text.as_str())),
            ]),
        };
        fields.insert("process".to_owned(), Value::from(self.name.as_str()));
        Value::Object(fields)
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        other => other.to_string(),
    }
}

/// Replaces control characters: a client can send some, and they could change the terminal.
fn printable(text: &str) -> String {
    let text = text.replace('\n', "⏎").replace('\t', "    ");
    if !text.contains(char::is_control) {
        return text;
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        parse_all("users-1", &[text.to_owned()], DateTime::UNIX_EPOCH).remove(0)
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
        let texts = ["2026-11-21 20:45:01.123 UTC [1] ERROR:  no", "\tat character 7"].map(str::to_owned);
        let lines = parse_all("postgres", &texts, Utc::now());
        assert_eq!((lines[0].time, lines[0].level), (lines[1].time, Level::Error));
        assert_eq!(lines[1].level, Level::Error);
    }

    #[test]
    fn a_message_of_haproxy_without_a_time_gets_the_time_with_which_it_is_logged() {
        let texts = [
            r#"{"ts":"2026-11-21T20:45:01.123Z","level":"info","message":"request"}"#,
            "[NOTICE]   (7) : Reloading HAProxy",
            "[WARNING]  (8) : CLI : backend 'users' has no server available!",
            "<0>2026-11-21T21:45:01.123456+00:00 backend users has no server available!",
            "[NOTICE]   (7) : New worker (9) forked",
        ];
        let written = DateTime::from_timestamp(1_795_300_000, 0).expect("a time");
        let lines = parse_all("haproxy", &texts.map(str::to_owned), written);
        let times: Vec<String> = lines.iter().map(|line| line.time.format("%H:%M:%S").to_string()).collect();
        assert_eq!(times, ["20:45:01", "21:45:01", "21:45:01", "22:26:40"], "the repeated message is shown once");
        assert_eq!(lines[2].level, Level::Warn);
    }

    #[test]
    fn control_characters_of_a_client_do_not_reach_the_terminal() {
        let line = line(r#"{"level":"info","message":"request","path":"/\u001b[2J\u0007"}"#);
        assert_eq!(line.message(), "INFO  request path=/\\u{1b}[2J\\u{7}");
        assert!(!line.text(false).contains('\u{1b}') && line.text(true).contains(CYAN));
    }
}
