//! NATS with JetStream: the events pipeline. An owner alone may publish its events; a reader may read the streams it needs.

use std::fmt::Write;

use crate::failure::Result;
use crate::home::{self, Home};
use crate::infra::programs;
use crate::ports::Ports;
use crate::probe;
use crate::secrets::{OPERATOR, Secrets};
use crate::settings::Service;
use crate::supervisor::spec::{Environment, Spec, Stop, StopSignal, Tier};

/// Each of five streams reserves 512 MiB when it is created; with less than their sum the last could not be.
const STORE_MAX: &str = "4GB";

pub fn spec(home: &Home) -> Spec {
    Spec {
        name: "nats".to_owned(),
        service: "nats".to_owned(),
        tier: Tier::Store,
        program: programs::find("nats-server").unwrap_or_else(|| "nats-server".into()),
        args: vec!["-c".to_owned(), home.nats().join("nats.conf").display().to_string()],
        env: Environment::inherited(),
        folder: home.nats(),
        stop: Stop { signal: StopSignal::Interrupt, seconds_max: 10 },
    }
}

pub async fn ready(ports: &Ports) -> bool {
    probe::is_ok(&format!("127.0.0.1:{}", ports.nats_monitor), "/healthz").await
}

/// Writes the configuration, private because it holds the passwords.
pub fn configure(home: &Home, ports: &Ports, secrets: &Secrets) -> Result<()> {
    std::fs::create_dir_all(home.nats()).map_err(|error| home::cannot_write(&home.nats(), &error))?;
    home::write_private(&home.nats().join("nats.conf"), &configuration(home, ports, secrets))
}

fn configuration(home: &Home, ports: &Ports, secrets: &Secrets) -> String {
    let mut users = String::new();
    for service in Service::ALL {
        let (publish, subscribe) = (quoted(&may_publish(service)), quoted(&may_subscribe(service)));
        writeln!(
            users,
            "    {{ user: {service}, password: \"{}\", permissions: {{\n        publish: {{ allow: [{publish}] }}\n        subscribe: {{ allow: [{subscribe}] }}\n    }} }}",
            secrets.account(service.name()).nats
        )
        .expect("a string takes every write");
    }
    format!(
        "# Written by mf at every start.\n\
         listen: \"127.0.0.1:{}\"\n\
         http: \"127.0.0.1:{}\"\n\
         server_name: flack\n\
         jetstream {{ store_dir: \"{}\", max_file_store: {STORE_MAX} }}\n\
         authorization {{\n  users = [\n{users}    {{ user: {OPERATOR}, password: \"{}\", permissions: {{ publish: \">\", subscribe: \">\" }} }}\n  ]\n}}\n",
        ports.nats,
        ports.nats_monitor,
        home.nats().display(),
        secrets.account(OPERATOR).nats
    )
}

fn stream(service: Service) -> Option<String> {
    // The websocket service changes nothing of its own: it has no stream.
    (service != Service::Websocket).then(|| service.name().to_uppercase())
}

/// Whose events a service copies.
fn reads(service: Service) -> &'static [Service] {
    match service {
        Service::Users => &[Service::Monolith],
        Service::Tokens | Service::Messages | Service::Ui => &[Service::Users, Service::Monolith],
        Service::Websocket => &[Service::Users, Service::Messages, Service::Monolith],
        // Its own too: its sockets are fed from the stream.
        Service::Monolith => {
            &[Service::Users, Service::Tokens, Service::Messages, Service::Ui, Service::Monolith]
        }
    }
}

fn may_publish(service: Service) -> Vec<String> {
    let mut subjects = match stream(service) {
        Some(stream) => {
            let api = ["INFO", "CREATE", "UPDATE"].map(|verb| format!("$JS.API.STREAM.{verb}.{stream}"));
            [vec![format!("flack.{service}.>")], api.to_vec()].concat()
        }
        None => vec!["flack.websocket.typing".to_owned()],
    };
    for stream in reads(service).iter().copied().filter_map(stream) {
        subjects.push(format!("$JS.API.STREAM.INFO.{stream}"));
        subjects.push(format!("$JS.API.CONSUMER.CREATE.{stream}"));
        subjects.push(format!("$JS.API.CONSUMER.CREATE.{stream}.>"));
        for verb in ["INFO", "DELETE", "MSG.NEXT"] {
            subjects.push(format!("$JS.API.CONSUMER.{verb}.{stream}.*"));
        }
    }
    subjects
}

fn may_subscribe(service: Service) -> Vec<String> {
    // An inbox of its own: nobody reads another's answers.
    let mut subjects = vec![format!("_INBOX.{service}.>")];
    if matches!(service, Service::Websocket | Service::Monolith) {
        subjects.extend(["flack.websocket.typing", "flack.monolith.typing"].map(str::to_owned));
    }
    subjects
}

/// In quotes: an unquoted `$` begins a variable.
fn quoted(subjects: &[String]) -> String {
    subjects.iter().map(|subject| format!("\"{subject}\"")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_may_publish_another_owners_events() {
        for service in Service::ALL {
            for subject in may_publish(service).iter().filter(|subject| subject.starts_with("flack.")) {
                assert!(subject.starts_with(&format!("flack.{service}.")), "{service} may publish {subject}");
            }
        }
    }

    #[test]
    fn nobody_reads_another_inbox() {
        for service in Service::ALL {
            let inboxes: Vec<String> =
                may_subscribe(service).into_iter().filter(|subject| subject.starts_with("_INBOX")).collect();
            assert_eq!(inboxes, [format!("_INBOX.{service}.>")]);
        }
    }
}
