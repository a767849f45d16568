//! NATS with JetStream: the event streams. A service publishes only its own events and reads only the streams it needs.
//!
//! The streams are in the account `STREAMS` of NATS, and the only client there is `mf`, which makes them. Each service
//! has an account of its own, which imports what the catalogue names: a client may name any subject as the reply of a
//! request, and NATS sends a reply only within the client's account. Signals are imported from their publisher's
//! account.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectOptions};
use flack_catalogue::{SERVICES, Service};
use flack_common::events::{keep_streams, live_subjects, prepare_stream};
use flack_supervisor::{Spec, Stop, StopSignal};
use futures::future::try_join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::{Failure, Result};
use crate::home::{self, Home};
use crate::infra::programs;
use crate::ports::Ports;
use crate::secrets::{CLUSTER, OPERATOR, Secrets};
use crate::supervisor::{self, priority};

/// More than the five streams reserve together: 512 MiB each.
const STORE_MAX: &str = "4GB";
/// The account of NATS that has the streams. In capitals, because the services' accounts have their names.
const STREAMS: &str = "STREAMS";
/// In a container only.
const MONITORING_PORT: u16 = 8222;
/// The port on which the servers of a cluster reach each other.
const CLUSTER_PORT: u16 = 6222;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

pub fn spec(home: &Home) -> Spec {
    Spec {
        args: vec!["-c".to_owned(), home.nats().join("nats.conf").display().to_string()],
        stop: Stop { signal: StopSignal::Interrupt, seconds_max: 10 },
        ..supervisor::spec("nats", priority::STORE, programs::path("nats-server"), home.nats())
    }
}

/// Moves the streams of older versions, which were in NATS's default account. NATS must not run.
pub fn adopt_streams(home: &Home) -> Result<()> {
    let folder = home.nats().join("jetstream");
    let (before, now) = (folder.join("$G"), folder.join(STREAMS));
    if before.exists() && !now.exists() {
        std::fs::rename(&before, &now).map_err(Failure::cannot_write(&now))?;
    }
    Ok(())
}

/// Whether NATS accepts the accounts of the operator and of every service.
pub async fn ready(ports: &Ports, secrets: &Secrets) -> bool {
    let users = SERVICES.iter().map(|service| service.name).chain([OPERATOR]);
    try_join_all(users.map(|user| options(ports, secrets, user).connect(urls(ports)))).await.is_ok()
}

/// Makes a running NATS read its configuration again. It keeps its clients.
pub fn reload(pid: i32) -> Result<()> {
    kill(Pid::from_raw(pid), Signal::SIGHUP)
        .map_err(|error| failure!(Internal, "NATS (pid {pid}) cannot reload its configuration: {error}"))
}

/// Connects with the operator's account. The client reconnects automatically.
pub async fn connect(ports: &Ports, secrets: &Secrets) -> std::result::Result<Client, ConnectError> {
    options(ports, secrets, OPERATOR).connect(urls(ports)).await
}

fn urls(ports: &Ports) -> Vec<String> {
    ports.nats_url().split(',').map(str::to_owned).collect()
}

fn options(ports: &Ports, secrets: &Secrets, user: &str) -> ConnectOptions {
    let options = match ports.nats_ca() {
        Some(ca) => ConnectOptions::new().require_tls(true).add_root_certificates(ca.to_owned()),
        None => ConnectOptions::new(),
    };
    options
        .user_and_password(user.to_owned(), secrets.account(user).nats.clone())
        .connection_timeout(CONNECT_TIMEOUT)
        .max_reconnects(None)
        // Each request reports its own error.
        .event_callback(|_| std::future::ready(()))
}

fn owners() -> Vec<&'static str> {
    SERVICES.iter().filter(|service| service.publishes_events).map(|service| service.name).collect()
}

/// Makes the streams, or updates them to the configuration of this version. `replicas` is the number of servers of a
/// cluster that store each stream.
pub async fn set_up(ports: &Ports, secrets: &Secrets, replicas: usize) -> anyhow::Result<()> {
    let client = connect(ports, secrets).await?;
    for owner in owners() {
        prepare_stream(&client, owner, replicas).await?;
    }
    Ok(())
}

/// Makes streams that NATS has lost, until the process ends.
pub async fn keep(ports: &Ports, secrets: &Secrets, replicas: usize) -> anyhow::Result<Infallible> {
    let client = options(ports, secrets, OPERATOR).retry_on_initial_connect().connect(urls(ports)).await?;
    Ok(keep_streams(&client, &owners(), replicas).await)
}

/// Writes the configuration, and returns whether it has changed. It is private, because it contains passwords.
pub fn configure(home: &Home, ports: &Ports, secrets: &Secrets) -> Result<bool> {
    let folder = home.nats();
    std::fs::create_dir_all(&folder).map_err(Failure::cannot_write(&folder))?;
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).map_err(Failure::cannot_write(&folder))?;
    let listener = format!("listen: \"127.0.0.1:{}\"", ports.nats);
    let (path, text) = (folder.join("nats.conf"), configuration("flack", &listener, &folder, secrets));
    if std::fs::read_to_string(&path).is_ok_and(|before| before == text) {
        return Ok(false);
    }
    home::write_private(&path, &text).map(|()| true)
}

/// Returns the configuration for a container, whose health check asks the monitoring port. Only processes in the
/// container can connect to that port. `servers` are all servers of the cluster.
pub fn configuration_in_container(
    ports: &Ports,
    store: &Path,
    secrets: &Secrets,
    server: &str,
    servers: &[String],
) -> String {
    let listener = format!("listen: \"0.0.0.0:{}\"\nhttp: \"127.0.0.1:{MONITORING_PORT}\"", ports.nats);
    let cluster = if servers.len() > 1 { cluster(secrets, servers) } else { String::new() };
    configuration(server, &format!("{listener}{cluster}"), store, secrets)
}

fn cluster(secrets: &Secrets, servers: &[String]) -> String {
    let password = &secrets.account(CLUSTER).nats;
    let route = |server: &String| format!("\"nats://{CLUSTER}:{password}@{server}:{CLUSTER_PORT}\"");
    let routes: Vec<String> = servers.iter().map(route).collect();
    format!(
        "\ncluster {{\n  name: flack\n  listen: \"0.0.0.0:{CLUSTER_PORT}\"\n  \
         authorization {{ user: {CLUSTER}, password: \"{password}\" }}\n  routes: [{}]\n  \
         # Clients have the names of all servers already.\n  no_advertise: true\n}}",
        routes.join(", ")
    )
}

fn configuration(server: &str, listener: &str, store: &Path, secrets: &Secrets) -> String {
    let accounts: String = SERVICES.iter().map(|service| account(service, secrets)).collect();
    format!(
        "# mf writes this file at every start.\n\
         {listener}\n\
         server_name: {server}\n\
         jetstream {{ store_dir: \"{}\", max_file_store: {STORE_MAX} }}\n\
         accounts {{\n  {STREAMS} {{\n    jetstream: enabled\n    \
         users: [{{ user: {OPERATOR}, password: \"{}\" }}]\n    exports: [\n{}    ]\n  }}\n{accounts}}}\n",
        store.display(),
        secrets.account(OPERATOR).nats,
        exports()
    )
}

/// Returns what the account `STREAMS` exports, each subject to the accounts that import it.
fn exports() -> String {
    let mut importers: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for service in &SERVICES {
        let sent = stored_subjects(service).into_iter().chain(requests(service));
        let received = sources(service).map(|source| live_subjects(source.name));
        let exports = sent.map(|subject| ("service", subject)).chain(received.map(|subject| ("stream", subject)));
        for export in exports {
            importers.entry(export).or_default().push(service.name);
        }
    }
    importers.into_iter().map(|((kind, subject), accounts)| export(kind, &subject, &accounts)).collect()
}

fn export(kind: &str, subject: &str, accounts: &[&str]) -> String {
    // An export without accounts would be for all.
    assert!(!accounts.is_empty(), "{subject} is exported to nobody");
    format!("      {{ {kind}: \"{subject}\", accounts: [{}] }}\n", accounts.join(", "))
}

/// Returns the account of a service, with one user of the same name. The permissions repeat the imports, so that
/// NATS reports everything else as an error.
fn account(service: &Service, secrets: &Secrets) -> String {
    let requests = requests(service);
    let mut imports: Vec<String> = requests
        .iter()
        .map(|subject| (subject.clone(), own_name(subject)))
        .chain(stored_subjects(service).map(|subject| (subject.clone(), subject)))
        .map(|(subject, own)| format!("{{ service: {{ account: {STREAMS}, subject: \"{subject}\" }}, to: \"{own}\" }}"))
        .collect();
    let live = sources(service).map(|source| (STREAMS, live_subjects(source.name)));
    let signals = service.reads_signals.iter().map(|subject| (publisher(subject), (*subject).to_owned()));
    // A service receives its own signals without an import.
    for (account, subject) in live.chain(signals).filter(|(account, _)| *account != service.name) {
        imports.push(format!("{{ stream: {{ account: {account}, subject: \"{subject}\" }} }}"));
    }
    let exports: String = signals_of(service)
        .filter_map(|signal| {
            let reads = |other: &&Service| *other != service && other.reads_signals.contains(&signal.as_str());
            let readers: Vec<&str> = SERVICES.iter().filter(reads).map(|reader| reader.name).collect();
            (!readers.is_empty()).then(|| export("stream", &signal, &readers))
        })
        .collect();
    let mappings: Vec<String> = requests
        .iter()
        .filter(|subject| own_name(subject) != **subject)
        .map(|subject| format!("\"{subject}\": \"{}\"", own_name(subject)))
        .collect();
    format!(
        "  {service} {{\n    users: [{{ user: {service}, password: \"{}\", permissions: {{ \
         publish: {{ {} }}, subscribe: {{ {} }} }} }}]\n    \
         imports: [\n      {}\n    ]\n    exports: [\n{exports}    ]\n    mappings: {{\n      {}\n    }}\n  }}\n",
        secrets.account(service.name).nats,
        only(&may_publish(service)),
        only(&may_subscribe(service)),
        imports.join("\n      "),
        mappings.join("\n      ")
    )
}

fn may_publish(service: &Service) -> Vec<String> {
    let own: Vec<String> =
        if service.publishes_events { vec![format!("flack.{service}.>")] } else { signals_of(service).collect() };
    own.into_iter().chain(requests(service).iter().map(|subject| own_name(subject))).collect()
}

fn may_subscribe(service: &Service) -> Vec<String> {
    let live = sources(service).map(|source| live_subjects(source.name));
    let signals = service.reads_signals.iter().map(ToString::to_string);
    std::iter::once(format!("_INBOX.{service}.>")).chain(live).chain(signals).collect()
}

/// Returns the subjects that the service's stream stores.
fn stored_subjects(service: &Service) -> Option<String> {
    service.publishes_events.then(|| format!("flack.{service}.*.>"))
}

/// Returns the requests to JetStream that a service may send: about its own stream, and to read others.
fn requests(service: &Service) -> BTreeSet<String> {
    let info = |stream| format!("$JS.API.STREAM.INFO.{stream}");
    let mut subjects: BTreeSet<String> = service.stream().map(info).into_iter().collect();
    for stream in sources(service).filter_map(Service::stream) {
        // The second one for streams with replicas, which are read from their leader.
        let reads = ["DIRECT.GET", "STREAM.MSG.GET"].map(|request| format!("$JS.API.{request}.{stream}"));
        subjects.extend(reads.into_iter().chain([info(stream)]));
    }
    subjects
}

fn sources(service: &Service) -> impl Iterator<Item = &'static Service> {
    service.reads_events_of.iter().filter_map(|source| Service::find(source))
}

fn signals_of(service: &Service) -> impl Iterator<Item = String> {
    service.publishes_signals.iter().map(move |signal| format!("flack.{service}.{signal}"))
}

/// Returns the service that publishes a signal: `flack.<service>.<signal>`.
fn publisher(signal: &str) -> &str {
    signal.split('.').nth(1).unwrap_or_default()
}

/// Returns the name of a subject within a service's account. Each account has its own JetStream API below
/// `$JS.API.STREAM`, which would answer that the account has no streams; NATS renames the subject before it checks the
/// permissions.
fn own_name(subject: &str) -> String {
    subject.replace("$JS.API.STREAM.", "STREAMS.API.STREAM.")
}

/// Returns a permission for these subjects and no others. For NATS an empty list would allow all.
fn only(subjects: &[String]) -> String {
    if subjects.is_empty() {
        return "deny: [\">\"]".to_owned();
    }
    // Quoted, because an unquoted `$` begins a variable.
    let quoted: Vec<String> = subjects.iter().map(|subject| format!("\"{subject}\"")).collect();
    format!("allow: [{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_may_only_publish_its_own_events_and_signals_and_read() {
        for service in &SERVICES {
            for subject in may_publish(service) {
                let is_own = subject.starts_with(&format!("flack.{service}."));
                let reads = ["STREAMS.API.STREAM.INFO.", "$JS.API.DIRECT.GET.", "STREAMS.API.STREAM.MSG.GET."];
                assert!(is_own || reads.iter().any(|request| subject.starts_with(request)), "{service}: {subject}");
            }
        }
    }

    #[test]
    fn a_service_without_events_may_publish_nothing() {
        let silent = Service { publishes_events: false, ..*Service::named("ui") };
        assert_eq!(may_publish(&silent), [""; 0]);
        assert_eq!(only(&may_publish(&silent)), r#"deny: [">"]"#);
        assert_eq!(only(&["$JS.a".to_owned(), "b".to_owned()]), r#"allow: ["$JS.a", "b"]"#);
    }

    #[test]
    fn a_service_may_only_read_its_own_inbox_and_what_the_catalogue_names() {
        for service in &SERVICES {
            let named = 1 + service.reads_events_of.len() + service.reads_signals.len();
            assert_eq!(may_subscribe(service).len(), named, "{service}");
            let inboxes: Vec<String> =
                may_subscribe(service).into_iter().filter(|subject| subject.starts_with("_INBOX")).collect();
            assert_eq!(inboxes, [format!("_INBOX.{service}.>")]);
        }
    }
}
