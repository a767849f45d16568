//! Prints the state of all processes as a table of at most 80 columns, or with `--wide` with all that is known.

use super::view::{Row, View};
use crate::output::{self, or_dash};

/// The width of a terminal that nobody has changed.
const WIDTH_MAX: usize = 80;
/// A version keeps this width, also beside long names.
const VERSION_WIDTH_MIN: usize = 8;
const VERSION_COLUMN: usize = 1;
const STATE_COLUMN: usize = 2;
const TITLES: [&str; 10] = ["NAME", "VERSION", "STATE", "PORT", "REQ/S", "P99", "SOCKETS", "UPTIME", "RESTARTS", "MIB"];
/// Columns of numbers are aligned at the right.
const NUMBERS_FROM: usize = 3;

/// How a state is coloured in a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Good,
    Changing,
    Bad,
}

impl Condition {
    /// Returns the ANSI code of the colour.
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Changing => "33",
            Self::Bad => "31",
        }
    }
}

/// Returns the lines of the narrow table.
pub(super) fn lines(view: &View, is_coloured: bool) -> Vec<String> {
    let mut lines = vec![format!("{}  stage {}  {} MiB", view.url, view.stage, view.memory_mib), String::new()];
    let mut rows: Vec<([String; 10], Condition)> = view.processes.iter().map(cells).collect();
    for service in &view.without_instance {
        let mut cells = ["-"; 10].map(str::to_owned);
        (cells[0], cells[STATE_COLUMN]) = ((*service).to_owned(), "none".to_owned());
        rows.push((cells, Condition::Bad));
    }
    let mut widths = TITLES.map(str::len);
    for (cells, _) in &rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let excess = (widths.iter().sum::<usize>() + widths.len() - 1).saturating_sub(WIDTH_MAX);
    widths[VERSION_COLUMN] = widths[VERSION_COLUMN].saturating_sub(excess).max(VERSION_WIDTH_MIN);
    lines.push(line(&TITLES.map(str::to_owned), &widths, None));
    lines.extend(rows.iter().map(|(cells, condition)| line(cells, &widths, is_coloured.then_some(*condition))));
    lines.extend(end(view));
    lines
}

fn line(cells: &[String; 10], widths: &[usize; 10], colour: Option<Condition>) -> String {
    let padded = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
        let cell = shortened(cell, *width);
        let text = if column < NUMBERS_FROM { format!("{cell:width$}") } else { format!("{cell:>width$}") };
        match colour {
            // Around the padded text, because the codes have no width.
            Some(condition) if column == STATE_COLUMN => format!("\x1b[{}m{text}\x1b[0m", condition.code()),
            _ => text,
        }
    });
    padded.collect::<Vec<_>>().join(" ").trim_end().to_owned()
}

fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

fn cells(row: &Row) -> ([String; 10], Condition) {
    let (state, condition) = state(row);
    // The address is of this machine, or in Docker's network; --wide shows it.
    let port = row.address.as_ref().map(|address| address.rsplit(':').next().unwrap_or_default().to_owned());
    let cells = [
        row.name.clone(),
        or_dash(row.version.as_ref()),
        state.to_owned(),
        or_dash(port),
        or_dash(row.requests_per_second),
        or_dash(row.p99_seconds.map(duration)),
        or_dash(row.sockets),
        or_dash(row.uptime_seconds.map(uptime)),
        if row.by_hand { "by hand".to_owned() } else { row.restarts.to_string() },
        or_dash(row.memory_mib),
    ];
    (cells, condition)
}

/// Returns what the supervisor, the health checks and the balancer report, as one word.
fn state(row: &Row) -> (&'static str, Condition) {
    match (row.state.as_str(), row.health.as_str()) {
        ("running", _) => {}
        ("restarting", _) => return ("restarting", Condition::Changing),
        ("stopping", _) => return ("stopping", Condition::Changing),
        _ => return ("crash loop", Condition::Bad),
    }
    match (row.health.as_str(), row.balancer.as_deref()) {
        // A draining instance answers 404 to /ready.
        ("ready" | "not ready", Some("DRAIN" | "NOLB" | "MAINT")) => ("draining", Condition::Changing),
        ("not ready", _) => ("not ready", Condition::Changing),
        ("ready" | "accepting", Some("DOWN")) => ("down", Condition::Bad),
        ("ready", None) if row.registry => ("not in LB", Condition::Changing),
        // These have no health check; the supervisor or Docker watches them.
        ("ready" | "accepting", _) => ("ready", Condition::Good),
        ("-", _) if row.registry || matches!(row.service.as_str(), "agent" | "streams") => ("running", Condition::Good),
        ("-", _) => ("starting", Condition::Changing),
        _ => ("no answer", Condition::Bad),
    }
}

/// Returns everything in one table, for wide terminals.
pub(super) fn wide_lines(view: &View) -> Vec<String> {
    let mut table = output::table([
        "NAME", "STATE", "PID", "ADDRESS", "VERSION", "COMMIT", "WEIGHT", "HEALTH", "REGISTRY", "BALANCER", "REQ/S",
        "P99", "SOCKETS", "UPTIME", "RESTARTS", "MEMORY",
    ]);
    for row in &view.processes {
        table.add_row([
            row.name.clone(),
            if row.by_hand { "by hand".to_owned() } else { row.state.clone() },
            or_dash(row.pid),
            or_dash(row.address.as_ref()),
            or_dash(row.version.as_ref()),
            or_dash(row.commit.as_ref()),
            or_dash(row.weight),
            row.health.clone(),
            if row.registry { "yes" } else { "-" }.to_owned(),
            or_dash(row.balancer.as_ref()),
            or_dash(row.requests_per_second),
            or_dash(row.p99_seconds.map(duration)),
            or_dash(row.sockets),
            or_dash(row.uptime_seconds.map(uptime)),
            row.restarts.to_string(),
            or_dash(row.memory_mib.map(|mib| format!("{mib} MiB"))),
        ]);
    }
    let mut lines =
        vec![format!("{}  stage {}  {} MiB  {}", view.url, view.stage, view.memory_mib, view.home), String::new()];
    lines.extend(table.to_string().lines().map(|line| line.trim_end().to_owned()));
    if !view.without_instance.is_empty() {
        lines.extend([String::new(), format!("no instance of {}", view.without_instance.join(", "))]);
    }
    lines.extend(end(view));
    lines
}

/// Returns routes, owners, and what is wrong.
fn end(view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    if !view.routes.is_empty() || !view.authority.is_empty() {
        let routes = view.routes.iter().map(|(name, route)| format!("{name} -> {} {}%", route.owner, route.percentage));
        let owners = view
            .authority
            .iter()
            .map(|(name, owner)| format!("{name}: {} (epoch {})", owner.owner(), owner.record.epoch));
        lines.push(String::new());
        let has_none = view.authority.keys().all(|part| !view.routes.contains_key(part));
        let none = has_none.then(|| "all parts -> monolith".to_owned());
        lines.extend(wrapped("routes  ", routes.chain(none)));
        lines.extend(wrapped("owners  ", owners));
    }
    for row in view.processes.iter().filter(|row| row.state != "running") {
        let (name, last_end) = (&row.name, row.last_end.as_deref().unwrap_or("ended"));
        lines.extend([String::new(), format!("{name} {last_end}. See mflogs {name}")]);
    }
    for problem in &view.problems {
        lines.extend([String::new(), problem.clone()]);
    }
    lines
}

/// Breaks a list into lines; the following ones are indented.
fn wrapped(title: &str, items: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = title.to_owned();
    for item in items {
        if line.len() > title.len() && line.len() + ", ,".len() + item.len() > WIDTH_MAX {
            lines.push(format!("{line},"));
            line = " ".repeat(title.len());
        } else if line.len() > title.len() {
            line += ", ";
        }
        line += &item;
    }
    lines.push(line);
    lines
}

fn duration(seconds: f64) -> String {
    let ms = seconds * 1000.0;
    if ms < 10.0 {
        format!("{ms:.1}ms")
    } else if ms < 1000.0 {
        format!("{ms:.0}ms")
    } else {
        format!("{seconds:.1}s")
    }
}

fn uptime(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flack_handover::{Entry, Part, Side};

    use super::*;
    use crate::commands::ps::metrics::Metrics;
    use crate::registry::Route;

    fn row(name: &str) -> Row {
        Row {
            name: name.to_owned(),
            service: name.split('-').next().unwrap_or_default().to_owned(),
            state: "running".to_owned(),
            by_hand: false,
            pid: Some(4_194_304),
            address: Some("127.0.0.1:65535".to_owned()),
            version: Some("0.1.0".to_owned()),
            commit: None,
            weight: Some(100),
            health: "ready".to_owned(),
            registry: true,
            balancer: Some("UP".to_owned()),
            requests_per_second: Some(12_345),
            p99_seconds: Some(0.123),
            sockets: Some(5_000),
            started: None,
            uptime_seconds: Some(3_723),
            restarts: 0,
            last_end: None,
            memory_mib: Some(1_024),
            metrics: Metrics::default(),
        }
    }

    fn view(processes: Vec<Row>) -> View {
        let services = ["messages", "tokens", "ui", "users", "websocket"];
        let route = |name: &&str| ((*name).to_owned(), Route { owner: (*name).to_owned(), percentage: 100 });
        let owner = |part: Part| {
            let mut entry = Entry::initial(part, Side::Service);
            entry.record.epoch = 12;
            (part.to_string(), entry)
        };
        View {
            home: "/srv/flack".to_owned(),
            url: "http://127.0.0.1:8080".to_owned(),
            stage: "services".to_owned(),
            memory_mib: 512,
            processes,
            without_instance: vec!["users"],
            routes: services.iter().map(route).collect(),
            authority: Part::ALL.into_iter().map(owner).collect::<BTreeMap<_, _>>(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn the_table_fits_80_columns_with_the_longest_values() {
        let long = Row {
            version: Some("1.4.0-rc.1-with-a-long-name".to_owned()),
            state: "crash looping".to_owned(),
            restarts: 99_999_999,
            last_end: Some("ended with exit code 1".to_owned()),
            ..row("websocket-16")
        };
        for line in lines(&view(vec![long, row("users-1")]), false) {
            assert!(line.chars().count() <= WIDTH_MAX, "{} columns: {line}", line.chars().count());
        }
        let short = lines(&view(vec![Row { version: Some("0.1.0-rc.1".to_owned()), ..row("ui-1") }]), false);
        assert!(short.iter().any(|line| line.contains("0.1.0-rc.1")), "a version is complete when there is room");
    }

    #[test]
    fn only_a_coloured_table_has_control_codes_and_they_do_not_change_its_columns() {
        let view = view(vec![row("users-1")]);
        let plain = lines(&view, false);
        assert!(plain.iter().all(|line| !line.contains('\x1b')), "{plain:?}");
        let coloured: Vec<String> = lines(&view, true)
            .into_iter()
            .map(|line| ["\x1b[32m", "\x1b[31m", "\x1b[0m"].iter().fold(line, |line, code| line.replace(code, "")))
            .collect();
        assert_eq!(coloured, plain);
    }

    #[test]
    fn a_state_is_the_first_thing_that_is_wrong() {
        let ready = || row("users-1");
        for (row, expected) in [
            (ready(), "ready"),
            (Row { state: "crash looping".to_owned(), health: "down".to_owned(), ..ready() }, "crash loop"),
            (Row { state: "restarting".to_owned(), health: "down".to_owned(), ..ready() }, "restarting"),
            (Row { health: "not answering".to_owned(), ..ready() }, "no answer"),
            (Row { health: "not ready".to_owned(), balancer: Some("DOWN".to_owned()), ..ready() }, "not ready"),
            (Row { health: "not ready".to_owned(), balancer: Some("DRAIN".to_owned()), ..ready() }, "draining"),
            (Row { balancer: Some("DOWN".to_owned()), ..ready() }, "down"),
            (Row { balancer: None, ..ready() }, "not in LB"),
            (Row { health: "-".to_owned(), registry: false, balancer: None, ..ready() }, "starting"),
            (Row { health: "-".to_owned(), registry: false, balancer: None, ..row("agent") }, "running"),
            (Row { health: "accepting".to_owned(), registry: false, balancer: None, ..row("postgres") }, "ready"),
        ] {
            assert_eq!(state(&row).0, expected, "{row:?}");
        }
    }

    #[test]
    fn an_instance_that_was_started_by_hand_and_a_service_without_one_are_shown() {
        let text = lines(&view(vec![Row { by_hand: true, ..row("ui-by-hand") }]), false).join("\n");
        assert!(text.contains("by hand"), "{text}");
        let users = text.lines().find(|line| line.starts_with("users")).expect("a row of users");
        assert!(users.contains("none"), "{users}");
    }

    #[test]
    fn an_uptime_has_at_most_two_units() {
        assert_eq!([5, 65, 3_700, 90_000].map(uptime), ["5s", "1m05s", "1h01m", "1d01h"]);
    }

    #[test]
    fn a_duration_has_at_most_six_characters() {
        assert_eq!([0.0004, 0.0099, 0.0123, 0.9, 2.5].map(duration), ["0.4ms", "9.9ms", "12ms", "900ms", "2.5s"]);
    }
}
