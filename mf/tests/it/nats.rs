//! What a process can do in NATS with a service's account, or without one. All derives from the catalogue, so that a
//! new service is tested, too.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use flack_catalogue::{SERVICES, Service};
use flack_common::config::EventsConfig;
use flack_common::events::{Events, JetStream, Received, StartOffset};
use futures::{FutureExt as _, StreamExt as _};
use mf::ports::Ports;
use tokio::time::timeout;

use crate::support::Stack;

const WAIT_MAX: Duration = Duration::from_mins(1);
/// An account without any rights on the machine.
const NOBODY: u32 = 65534;

fn owners() -> impl Iterator<Item = &'static Service> {
    SERVICES.iter().filter(|service| service.publishes_events)
}

fn password(stack: &Stack, user: &str) -> String {
    stack.secrets()["accounts"][user]["nats"].as_str().expect("a password").to_owned()
}

fn url(stack: &Stack) -> String {
    format!("nats://127.0.0.1:{}", Ports::of(stack.port).nats)
}

async fn client(stack: &Stack, user: &str) -> async_nats::Client {
    async_nats::ConnectOptions::new()
        .user_and_password(user.to_owned(), password(stack, user))
        .custom_inbox_prefix(format!("_INBOX.{user}"))
        .connect(url(stack))
        .await
        .expect("the account is accepted")
}

/// Sends commands of the NATS protocol one after the other. Returns those that the server did not refuse.
fn accepted(stack: &Stack, user: &str, commands: &[String]) -> Vec<String> {
    let mut nats = TcpStream::connect(("127.0.0.1", Ports::of(stack.port).nats)).expect("NATS listens");
    nats.set_read_timeout(Some(WAIT_MAX)).expect("a timeout");
    let mut lines = BufReader::new(nats.try_clone().expect("a second handle")).lines().map_while(Result::ok);
    let password = password(stack, user);
    write!(nats, "CONNECT {{\"user\":\"{user}\",\"pass\":\"{password}\",\"verbose\":false}}\r\n").expect("written");
    let mut accepted = Vec::new();
    for command in commands {
        write!(nats, "{command}\r\nPING\r\n").expect("written");
        let refusals = lines
            .by_ref()
            .take_while(|line| line != "PONG")
            .filter(|line| line.contains("Permissions Violation"))
            .count();
        if refusals == 0 {
            accepted.push(command.clone());
        }
    }
    accepted
}

fn publish(subject: &str) -> String {
    format!("PUB {subject} 2\r\n{{}}")
}

/// Returns what `service` must not do.
fn forbidden(service: &Service) -> Vec<String> {
    let mut subjects: Vec<String> =
        ["$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.CREATE.OTHER", "$SYS.REQ.SERVER.PING", "any.subject"]
            .map(str::to_owned)
            .to_vec();
    let mut subscriptions: Vec<String> =
        [">", "flack.>", "stream.>", "*.*.*.*", "_INBOX.>", "$JS.>", "$SYS.>"].map(str::to_owned).to_vec();
    for owner in owners() {
        let stream = owner.stream().expect("an owner has a stream");
        for verb in [
            "STREAM.CREATE",
            "STREAM.UPDATE",
            "STREAM.DELETE",
            "STREAM.PURGE",
            "STREAM.MSG.DELETE",
            "STREAM.SNAPSHOT",
            "STREAM.RESTORE",
            "CONSUMER.CREATE",
            "CONSUMER.NAMES",
        ] {
            subjects.push(format!("$JS.API.{verb}.{stream}"));
        }
        for verb in ["CONSUMER.CREATE", "CONSUMER.DURABLE.CREATE", "CONSUMER.DELETE", "CONSUMER.MSG.NEXT"] {
            subjects.push(format!("$JS.API.{verb}.{stream}.any"));
        }
        subjects.push(format!("stream.{owner}.any_changed.1"));
        let reads = service.reads_events_of.contains(&owner.name);
        if !reads {
            subjects.extend(["DIRECT.GET", "STREAM.MSG.GET"].map(|request| format!("$JS.API.{request}.{stream}")));
            subscriptions.push(format!("stream.{owner}.>"));
        }
        if !reads && owner != service {
            subjects.push(format!("$JS.API.STREAM.INFO.{stream}"));
        }
    }
    for other in SERVICES.iter().filter(|other| *other != service) {
        subjects.extend(["any_changed.1", "typing"].map(|rest| format!("flack.{other}.{rest}")));
        subjects.push(format!("_INBOX.{other}.any"));
        subscriptions.extend([format!("_INBOX.{other}.>"), format!("flack.{other}.>")]);
    }
    let subscriptions = subscriptions.iter().enumerate().map(|(number, subject)| format!("SUB {subject} {number}"));
    subjects.iter().map(|subject| publish(subject)).chain(subscriptions).collect()
}

#[test]
fn a_service_may_do_nothing_in_nats_but_publish_its_events_and_read_what_the_catalogue_names() {
    let stack = Stack::started();
    for service in &SERVICES {
        assert_eq!(accepted(&stack, service.name, &forbidden(service)), Vec::<String>::new(), "{service}");
        let inbox = [format!("SUB _INBOX.{service}.any 1")];
        assert_eq!(accepted(&stack, service.name, &inbox), inbox, "{service}");
    }
}

#[tokio::test]
async fn every_reader_of_the_catalogue_receives_the_events_of_its_sources_and_the_signals() {
    let stack = Stack::started();
    let publish = async |owner: &Service, number: u32| {
        let context = async_nats::jetstream::new(client(&stack, owner.name).await);
        let subject = format!("flack.{owner}.any_changed.{number}");
        context.publish(subject, "{}".into()).await.expect("sent").await.expect("stored").sequence
    };
    for owner in owners() {
        assert_eq!(publish(owner, 1).await, 1);
    }
    let mut subscriptions = Vec::new();
    for reader in &SERVICES {
        let (user, password) = (Some(reader.name.to_owned()), Some(password(&stack, reader.name).into()));
        let config = EventsConfig { user, password, ..EventsConfig::without_credentials(url(&stack)) };
        let events = Events::JetStream(JetStream::connect(&config).await.expect("a valid address"));
        for source in reader.reads_events_of {
            let mut subscription = events.subscribe(source, None, StartOffset::Earliest);
            assert_eq!(next(&mut subscription).await, 1, "{reader} reads {source}");
            subscriptions.push((reader, source, subscription));
        }
    }
    for owner in owners() {
        assert_eq!(publish(owner, 2).await, 2);
    }
    for (reader, source, subscription) in &mut subscriptions {
        assert_eq!(next(subscription).await, 2, "{reader} receives {source}");
    }
    for reader in &SERVICES {
        for subject in reader.reads_signals {
            let receiver = client(&stack, reader.name).await;
            let mut signals = receiver.subscribe(*subject).await.expect("subscribed");
            synchronize(&receiver, reader.name).await;
            let publisher = subject.split('.').nth(1).expect("a service");
            let sender = client(&stack, publisher).await;
            sender.publish(*subject, "typing".into()).await.expect("sent");
            synchronize(&sender, publisher).await;
            let signal = timeout(WAIT_MAX, signals.next()).await.expect("in time").expect("a signal");
            assert_eq!(signal.payload, "typing", "{reader} receives {subject}");
            synchronize(&receiver, reader.name).await;
            assert!(signals.next().now_or_never().is_none(), "{reader} receives {subject} once");
        }
    }
}

/// Waits until the server has processed everything that this client has sent.
async fn synchronize(client: &async_nats::Client, user: &str) {
    let service = Service::find(user).expect("a service");
    let stream = service.stream().unwrap_or_else(|| service.reads_events_of[0].to_uppercase());
    let info = client.request(format!("$JS.API.STREAM.INFO.{stream}"), "".into());
    timeout(WAIT_MAX, info).await.expect("in time").expect("a reply");
}

async fn next(subscription: &mut flack_common::events::Subscription) -> u64 {
    timeout(WAIT_MAX, async {
        loop {
            if let Received::Message(message) = subscription.next().await {
                break message.sequence;
            }
        }
    })
    .await
    .expect("a message in time")
}

#[tokio::test]
async fn a_service_cannot_direct_a_reply_to_subjects_of_others() {
    let stack = Stack::started();
    let operator = client(&stack, "mf").await;
    let mut everything = operator.subscribe(">").await.expect("the operator may");
    operator.flush().await.expect("the server has it");
    let mut replies = 0;
    for service in &SERVICES {
        let attacker = client(&stack, service.name).await;
        let others: Vec<String> = SERVICES
            .iter()
            .filter(|other| *other != service)
            .flat_map(|other| [format!("flack.{other}.forged.1"), format!("stream.{other}.forged.1")])
            .collect();
        // A stored event, the description of a stream, and an acknowledgement are the three kinds of replies.
        let mut requests = vec![];
        for source in service.reads_events_of.iter().filter_map(|source| Service::find(source)) {
            let stream = source.stream().expect("a source has a stream");
            requests.push((format!("$JS.API.DIRECT.GET.{stream}"), r#"{"seq":1}"#));
            requests.push((format!("$JS.API.STREAM.MSG.GET.{stream}"), r#"{"seq":1}"#));
            requests.push((format!("$JS.API.STREAM.INFO.{stream}"), ""));
        }
        if service.publishes_events {
            requests.push((format!("flack.{service}.any_changed.1"), "{}"));
        }
        for (request, payload) in requests {
            for reply in &others {
                let sent = attacker.publish_with_reply(request.clone(), reply.clone(), payload.into());
                sent.await.expect("sent");
                replies += 1;
            }
            // NATS works in order: a reply that the service itself receives comes after the others.
            timeout(WAIT_MAX, attacker.request(request, payload.into())).await.expect("in time").expect("a reply");
        }
    }
    assert!(replies > 100, "all services but one have requests");
    operator.publish("end", "".into()).await.expect("sent");
    let mut forged = Vec::new();
    loop {
        let message = timeout(WAIT_MAX, everything.next()).await.expect("in time").expect("the end");
        if message.subject.as_str() == "end" {
            break;
        }
        if message.subject.contains("forged") {
            forged.push(message.subject.to_string());
        }
    }
    assert_eq!(forged, Vec::<String>::new());
}

#[test]
fn another_user_of_the_machine_gets_nothing_from_nats() {
    let stack = Stack::started();
    let ports = Ports::of(stack.port);
    let folder = stack.home.path().join("nats");
    // As in a state folder that others may enter: the temporary folder of a test is private.
    std::fs::set_permissions(stack.home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).expect("ours");
    let run = |script: String| {
        let mut command = Command::new("bash");
        command.args(["-c", &script]);
        if nix::unistd::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().expect("bash runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let connect = |credentials: &str| {
        run(format!(
            // NATS closes the connection at the first command that it refuses, perhaps before the others are written.
            "trap '' PIPE; exec 3<>/dev/tcp/127.0.0.1/{} && {{ \
             printf 'CONNECT {{{credentials}}}\\r\\nSUB > 1\\r\\n' >&3; \
             printf 'PUB flack.users.any_changed.1 0\\r\\n\\r\\nPING\\r\\n' >&3; \
             timeout 5 cat <&3; }}",
            ports.nats
        ))
        .1
    };
    for credentials in ["", r#""user":"users","pass":"""#, r#""user":"mf","pass":"mf""#] {
        let answer = connect(credentials);
        assert!(answer.contains("Authorization Violation") && !answer.contains("PONG"), "{credentials}: {answer}");
    }
    assert!(!run(format!("exec 3<>/dev/tcp/127.0.0.1/{}", ports.nats + 1)).0, "nothing listens beside it");
    if nix::unistd::geteuid().is_root() {
        let folder = folder.display();
        for path in [format!("{folder}/nats.conf"), format!("{folder}/jetstream"), format!("{folder}")] {
            assert!(!run(format!("ls {path}/ || cat {path}")).0, "{path} is private");
        }
    }
}
