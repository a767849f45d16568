//! NATS with JetStream: the event streams. A service publishes only its own events and reads only the streams it needs.

use std::fmt::Write;

use flack_catalogue::{SERVICES, Service};
use flack_supervisor::{Spec, Stop, StopSignal};

use crate::failure::{Failure, Result};
use crate::home::{self, Home};
use crate::infra::programs;
use crate::ports::Ports;
use crate::probe;
use crate::secrets::{OPERATOR, Secrets};
use crate::supervisor::{self, priority};

/// More than the five streams reserve together: 512 MiB each.
const STORE_MAX: &str = "4GB";

pub fn spec(home: &Home) -> Spec {
    Spec {
        args: vec!["-c".to_owned(), home.nats().join("nats.conf").display().to_string()],
        stop: Stop { signal: StopSignal::Interrupt, seconds_max: 10 },
        ..supervisor::spec("nats", priority::STORE, programs::path("nats-server"), home.nats())
    }
}

pub async fn ready(ports: &Ports) -> bool {
    probe::is_ok(&format!("127.0.0.1:{}", ports.nats_monitor), "/healthz").await
}

/// Writes the configuration. It is private, because it contains passwords.
pub fn configure(home: &Home, ports: &Ports, secrets: &Secrets) -> Result<()> {
    std::fs::create_dir_all(home.nats()).map_err(Failure::cannot_write(&home.nats()))?;
    home::write_private(&home.nats().join("nats.conf"), &configuration(home, ports, secrets))
}

fn configuration(home: &Home, ports: &Ports, secrets: &Secrets) -> String {
    let mut users = String::new();
    for service in &SERVICES {
        let (publish, subscribe) = (quoted(&may_publish(service)), quoted(&may_subscribe(service)));
        writeln!(
            users,
            "    {{ user: {service}, password: \"{}\", permissions: {{ \
             publish: {{ allow: [{publish}] }}, subscribe: {{ allow: [{subscribe}] }} }} }}",
            secrets.account(service.name).nats
        )
        .expect("a string takes every write");
    }
    format!(
        "# mf writes this file at every start.\n\
         listen: \"127.0.0.1:{}\"\n\
         http: \"127.0.0.1:{}\"\n\
         server_name: flack\n\
         jetstream {{ store_dir: \"{}\", max_file_store: {STORE_MAX} }}\n\
         authorization {{\n  users = [\n{users}    \
         {{ user: {OPERATOR}, password: \"{}\", permissions: {{ publish: \">\", subscribe: \">\" }} }}\n  ]\n}}\n",
        ports.nats,
        ports.nats_monitor,
        home.nats().display(),
        secrets.account(OPERATOR).nats
    )
}

fn may_publish(service: &Service) -> Vec<String> {
    let signals = service.publishes_signals.iter().map(|signal| format!("flack.{service}.{signal}"));
    let mut subjects: Vec<String> = signals.collect();
    if let Some(stream) = service.stream() {
        subjects.push(format!("flack.{service}.>"));
        subjects.extend(["INFO", "CREATE", "UPDATE"].map(|verb| format!("$JS.API.STREAM.{verb}.{stream}")));
    }
    let sources = service.reads_events_of.iter().filter_map(|source| Service::find(source));
    for stream in sources.filter_map(Service::stream) {
        subjects.push(format!("$JS.API.STREAM.INFO.{stream}"));
        subjects.push(format!("$JS.API.CONSUMER.CREATE.{stream}"));
        subjects.push(format!("$JS.API.CONSUMER.CREATE.{stream}.>"));
        for verb in ["INFO", "DELETE", "MSG.NEXT"] {
            subjects.push(format!("$JS.API.CONSUMER.{verb}.{stream}.*"));
        }
    }
    subjects
}

fn may_subscribe(service: &Service) -> Vec<String> {
    // Replies go to an inbox subject of the service, so that no other service can read them.
    let signals = service.reads_signals.iter().map(ToString::to_string);
    std::iter::once(format!("_INBOX.{service}.>")).chain(signals).collect()
}

/// Quotes subjects: in the configuration an unquoted `$` begins a variable.
fn quoted(subjects: &[String]) -> String {
    subjects.iter().map(|subject| format!("\"{subject}\"")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_may_only_publish_its_own_events() {
        for service in &SERVICES {
            for subject in may_publish(service).iter().filter(|subject| subject.starts_with("flack.")) {
                assert!(subject.starts_with(&format!("flack.{service}.")), "{service} may publish {subject}");
            }
        }
    }

    #[test]
    fn a_service_may_only_read_its_own_inbox() {
        for service in &SERVICES {
            let inboxes: Vec<String> =
                may_subscribe(service).into_iter().filter(|subject| subject.starts_with("_INBOX")).collect();
            assert_eq!(inboxes, [format!("_INBOX.{service}.>")]);
        }
    }
}
