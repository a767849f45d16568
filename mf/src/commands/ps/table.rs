//! Prints the state of all processes as a table.

use super::view::View;
use crate::output::{self, or_dash};

pub(super) fn print(view: &View) {
    print_line!("{}  stage {}  {} MiB  {}\n", view.url, view.stage, view.memory_mib, view.home);
    let mut table = output::table([
        "NAME", "STATE", "PID", "ADDRESS", "VERSION", "HEALTH", "REGISTRY", "BALANCER", "UPTIME", "RESTARTS", "MEMORY",
    ]);
    for row in &view.processes {
        table.add_row([
            row.name.clone(),
            row.state.clone(),
            or_dash(row.pid),
            or_dash(row.address.as_ref()),
            or_dash(row.version.as_ref()),
            row.health.clone(),
            if row.registry { "yes" } else { "-" }.to_owned(),
            or_dash(row.balancer.as_ref()),
            uptime(row.uptime_seconds),
            row.restarts.to_string(),
            or_dash(row.memory_mib.map(|mib| format!("{mib} MiB"))),
        ]);
    }
    print_line!("{table}");
    if !view.routes.is_empty() || !view.authority.is_empty() {
        let routes: Vec<String> = view
            .routes
            .iter()
            .map(|(name, route)| format!("{name} -> {} {}%", route.owner, route.percentage))
            .collect();
        let owners: Vec<String> = view
            .authority
            .iter()
            .map(|(name, owner)| format!("{name}: {} (epoch {})", owner.owner, owner.epoch))
            .collect();
        print_line!(
            "\nroutes  {}\nowners  {}",
            if routes.is_empty() { "all to the monolith".to_owned() } else { routes.join(", ") },
            owners.join(", ")
        );
    }
    for row in view.processes.iter().filter(|row| row.state != "running") {
        let (name, state, last_end) = (&row.name, &row.state, row.last_end.as_deref().unwrap_or("ended"));
        print_line!("\n{name} is {state}: it {last_end}. See mflogs {name}");
    }
    for problem in &view.problems {
        print_line!("\n{problem}");
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
    use super::*;

    #[test]
    fn an_uptime_has_at_most_two_units() {
        assert_eq!([5, 65, 3_700, 90_000].map(uptime), ["5s", "1m05s", "1h01m", "1d01h"]);
    }
}
