//! Formats an event and its spans as one line of JSON.
//!
//! The formatter of `tracing-subscriber` nests spans in lists; any tool can search a flat object for `correlation_id`.

use std::{fmt, io::Write, ops::Range};

use chrono::{SecondsFormat, Utc};
use serde::Serialize;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, fmt::MakeWriter, layer::Context, registry::LookupSpan};

/// Most lines are shorter. A longer one is allocated again.
const LINE_BYTES: usize = 512;

/// A layer that writes each event as a line of JSON.
#[derive(Debug)]
pub struct JsonLines<W> {
    writer: W,
}

impl<W> JsonLines<W> {
    pub fn new(writer: W) -> Self {
        Self { writer }
    }
}

/// The fields of a span or an event. Each request logs, so the values are kept as JSON instead of as a tree.
#[derive(Debug, Default)]
struct Fields {
    json: Vec<u8>,
    /// The names, and where in `json` their values are.
    values: Vec<(&'static str, Range<usize>)>,
}

impl Fields {
    fn insert(&mut self, field: &Field, value: impl Serialize) {
        let start = self.json.len();
        if serde_json::to_writer(&mut self.json, &value).is_ok() {
            self.values.push((field.name(), start..self.json.len()));
        }
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        // With all sources: the outermost error alone rarely contains the reason.
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        self.insert(field, text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format_args!("{value:?}"));
    }
}

/// A line while it is written. A name that is written already is left out.
struct Line {
    json: Vec<u8>,
    names: Vec<&'static str>,
}

impl Line {
    fn begin() -> Self {
        let mut json = Vec::with_capacity(LINE_BYTES);
        json.push(b'{');
        Self { json, names: Vec::with_capacity(16) }
    }

    /// Writes the name, and returns whether the value has to be written.
    fn name(&mut self, name: &'static str) -> bool {
        if self.names.contains(&name) {
            return false;
        }
        if !self.names.is_empty() {
            self.json.push(b',');
        }
        self.names.push(name);
        self.value(name);
        self.json.push(b':');
        true
    }

    fn value(&mut self, value: impl Serialize) {
        // Writing to memory does not fail, and text has no error.
        let _ = serde_json::to_writer(&mut self.json, &value);
    }

    fn text(&mut self, name: &'static str, value: &str) {
        if self.name(name) {
            self.value(value);
        }
    }

    /// Of a field that was recorded twice, the last value counts.
    fn fields(&mut self, fields: &Fields) {
        for (name, value) in fields.values.iter().rev() {
            if self.name(name) {
                self.json.extend_from_slice(&fields.json[value.clone()]);
            }
        }
    }

    fn end(mut self) -> Vec<u8> {
        self.json.extend_from_slice(b"}\n");
        self.json
    }
}

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Line::begin();
        line.text("ts", &Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true));
        line.text("level", event.metadata().level().as_str());
        line.text("target", event.metadata().target());
        let mut fields = Fields::default();
        event.record(&mut fields);
        line.fields(&fields);
        // From the innermost span outwards: the first value of a name counts.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                line.fields(fields);
            }
        }
        // An event may name another service or instance than this one.
        line.text("service", super::service());
        super::with_instance(|instance| line.text("instance", instance));
        // One write, so that lines of several threads do not mix. An error is ignored: nobody reads the output.
        let _ = self.writer.make_writer().write_all(&line.end());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use serde_json::Value;
    use tracing::{field::Empty, info, info_span};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines_of(work: impl FnOnce()) -> Vec<Value> {
        let memory = Memory::default();
        let writer = memory.clone();
        let subscriber = tracing_subscriber::registry().with(JsonLines::new(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, work);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn every_line_of_a_request_carries_its_correlation_id() {
        let lines = lines_of(|| {
            let _request = info_span!("request", correlation_id = "abc").entered();
            let _inner = info_span!("store", table = "users").entered();
            info!(user.id = 17, "registered");
        });
        assert_eq!(lines[0]["correlation_id"], "abc");
        assert_eq!(lines[0]["table"], "users");
        assert_eq!(lines[0]["user.id"], 17);
        assert_eq!(lines[0]["message"], "registered");
        assert_eq!(lines[0]["level"], "INFO");
    }

    #[test]
    fn the_innermost_and_latest_value_of_a_name_is_written_once() {
        let lines = lines_of(|| {
            let outer = info_span!("outer", table = "users", key = Empty).entered();
            outer.record("key", 1).record("key", 2);
            let _inner = info_span!("inner", table = "tokens").entered();
            info!(service = "another", "found");
        });
        assert_eq!((&lines[0]["table"], &lines[0]["service"]), (&"tokens".into(), &"another".into()));
        assert_eq!(lines[0]["key"], 2);
    }

    #[test]
    fn a_line_break_in_a_field_stays_inside_one_line() {
        let lines = lines_of(|| info!(nickname = "a\nb\"c", "odd"));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["nickname"], "a\nb\"c");
    }
}
