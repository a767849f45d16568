//! Configuration from environment variables: groups that each process flattens into its own `Config`.
//!
//! The only command-line argument is `--help`: everything else is in the environment. All problems are reported
//! together, before a port is bound. Secrets are `SecretString`: no `Debug` output, log line or error message can
//! contain them. A secret may be in a file, as in a container: `DATABASE_URL_FILE` instead of `DATABASE_URL`.
//!
//! ```ignore
//! #[derive(conf::Conf)]
//! struct Config {
//!     #[conf(flatten)]
//!     process: ProcessConfig,
//!     #[conf(flatten)]
//!     registry: Option<RegistryConfig>, // absent when none of its variables is set
//! }
//! ```

pub mod container;

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::exit,
};

use conf::Conf;
use flack_handover::Part;
use secrecy::SecretString;
use uuid::Uuid;

use crate::{
    process::{Faults, VERSION},
    registry::WEIGHT_MAX,
};

/// `EX_USAGE` of sysexits.h: the configuration is wrong, so another start will fail too.
pub const EXIT_CODE_CONFIGURATION: u8 = 64;

const INSTANCE_CHARACTERS_MAX: usize = 64;
const VERSION_CHARACTERS_MAX: usize = 32;
const COMMIT_CHARACTERS_MAX: usize = 64;
const CONNECTIONS_MAX_LIMIT: u32 = 1000;

/// Variables whose value may be in a file instead: `<name>_FILE` is its path.
const SECRETS: [&str; 7] = [
    "DATABASE_URL",
    "NATS_PASSWORD",
    "ETCD_PASSWORD",
    "HANDOVER_KEY_USERS",
    "HANDOVER_KEY_TOKENS",
    "HANDOVER_KEY_MESSAGES",
    "HANDOVER_KEY_UI",
];

/// Reads `C` from the environment; prints all problems to standard error and exits with 64 if there are any.
pub fn parse_or_exit<C: Conf>() -> C {
    let environment = with_secrets_of_files(env::vars_os().collect()).unwrap_or_else(|problem| {
        eprintln!("{problem}");
        exit(i32::from(EXIT_CODE_CONFIGURATION))
    });
    C::try_parse_from(env::args_os(), environment).unwrap_or_else(|problems| {
        let _ = problems.print();
        // `--help` prints the manual of the variables.
        exit(if problems.exit_code() == 0 { 0 } else { i32::from(EXIT_CODE_CONFIGURATION) })
    })
}

/// Adds the secrets that are in files. Line breaks at the end of a file are not part of the secret.
fn with_secrets_of_files(
    mut environment: BTreeMap<OsString, OsString>,
) -> Result<BTreeMap<OsString, OsString>, String> {
    for name in SECRETS {
        let variable = format!("{name}_FILE");
        let Some(path) = environment.remove(OsStr::new(&variable)) else { continue };
        let secret = fs::read_to_string(&path)
            .map_err(|error| format!("{variable}: {} cannot be read: {error}", Path::new(&path).display()))?;
        let secret = secret.trim_end_matches(['\r', '\n']);
        if environment.insert(name.into(), secret.into()).is_some() {
            return Err(format!("set {name} or {variable}, not both"));
        }
    }
    Ok(environment)
}

/// The process's name, address and version.
#[derive(Conf, Debug, Clone)]
pub struct ProcessConfig {
    /// Name of this instance, such as `users-1`; when absent that of its container (`flack_users_1` is `users-1`), else
    /// generated
    #[conf(env = "FLACK_INSTANCE", value_parser = parse_instance)]
    pub instance: Option<String>,
    /// Address to listen on; port 0 takes any free one
    #[conf(env = "FLACK_LISTEN", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Host at which others reach this process; when absent the host of `FLACK_LISTEN`, or the name of this machine if
    /// that is 0.0.0.0 (in a container its id, which other containers of its network can resolve)
    #[conf(env = "FLACK_ADVERTISE", value_parser = parse_host)]
    pub advertise: Option<String>,
    /// Version of the program, for `/health` and the registry; the package's version when absent
    #[conf(env = "FLACK_VERSION", value_parser = parse_version)]
    pub version: Option<String>,
    /// Commit that the program was built from, for `/health` and the registry
    #[conf(env = "FLACK_COMMIT", value_parser = parse_commit)]
    pub commit: Option<String>,
    /// Share of the requests compared with other instances, 0 to 256; 0 gets no new connections
    #[conf(env = "FLACK_WEIGHT", default_value = "100", value_parser = parse_weight)]
    pub weight: u16,
    /// Faults for tests and workshops, such as `errors=10%,slow=50ms`; the README of `common` has the list
    #[conf(env = "FLACK_FAULTS")]
    pub faults: Option<Faults>,
}

impl ProcessConfig {
    /// Returns the version: as configured, else that of the package.
    pub fn version(&self) -> &str {
        self.version.as_deref().unwrap_or(VERSION)
    }

    /// Returns the instance's name: as configured, else that of its container, else `<service>-<8 hex digits>`.
    pub fn instance_name(&self, service: &str) -> String {
        let configured = self.instance.clone();
        configured.or_else(|| container::instance(service, &container::own_name()?)).unwrap_or_else(|| {
            let mut random = Uuid::new_v4().simple().to_string();
            random.truncate(8);
            format!("{service}-{random}")
        })
    }

    /// Returns the host at which others reach this process; none if it is the host of `listen`.
    pub fn advertised_host(&self) -> Result<Option<String>, String> {
        if self.advertise.is_some() || !self.listen.ip().is_unspecified() {
            return Ok(self.advertise.clone());
        }
        let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let host = name.as_deref().and_then(|name| parse_host(name).ok());
        host.map(Some).ok_or_else(|| {
            let listen = self.listen;
            format!("FLACK_LISTEN is {listen}, and this machine has no host name: set FLACK_ADVERTISE to its address")
        })
    }
}

/// The database that this process owns.
#[derive(Conf, Debug, Clone)]
pub struct DatabaseConfig {
    /// `postgres://user:password@host:port/database`; with TLS `?sslmode=verify-full`, and `&sslrootcert=<file>` for a
    /// CA that this machine does not know
    #[conf(env = "DATABASE_URL", value_parser = parse_secret, secret)]
    pub url: SecretString,
    /// Maximum number of connections to the database
    #[conf(env = "DATABASE_CONNECTIONS_MAX", default_value = "8", value_parser = parse_connections)]
    pub connections_max: u32,
}

/// The registry (etcd). As `Option<RegistryConfig>` it is absent when no `ETCD_` variable is set.
#[derive(Conf, Debug, Clone)]
#[conf(validation_predicate = registry_credentials)]
pub struct RegistryConfig {
    /// Registry URL, such as `https://127.0.0.1:2379`; those of all members of a cluster, separated by commas
    #[conf(env = "ETCD_URL", value_parser = parse_http_urls)]
    pub url: String,
    /// Certificate (PEM) of the CA that signed the registry's certificate; needed with https
    #[conf(env = "ETCD_CA_FILE", value_parser = parse_file)]
    pub ca_file: Option<PathBuf>,
    /// Client certificate (PEM), whose common name is the registry user
    #[conf(env = "ETCD_CERT_FILE", value_parser = parse_file)]
    pub cert_file: Option<PathBuf>,
    /// Private key (PEM) of the client certificate
    #[conf(env = "ETCD_KEY_FILE", value_parser = parse_file)]
    pub key_file: Option<PathBuf>,
    /// Name in the registry's certificate, when the URL has another one or an address
    #[conf(env = "ETCD_SERVER_NAME", value_parser = parse_host)]
    pub server_name: Option<String>,
    /// Registry user, of a registry that uses passwords
    #[conf(env = "ETCD_USER")]
    pub user: Option<String>,
    /// Registry password
    #[conf(env = "ETCD_PASSWORD", value_parser = parse_secret, secret)]
    pub password: Option<SecretString>,
}

impl RegistryConfig {
    /// Returns the configuration of a registry that needs neither certificate nor password, as in tests.
    pub fn without_credentials(url: impl Into<String>) -> Self {
        let url = url.into();
        Self { url, ca_file: None, cert_file: None, key_file: None, server_name: None, user: None, password: None }
    }
}

/// NATS, which has the streams of events. As `Option<EventsConfig>` it is absent when no `NATS_` variable is set.
#[derive(Conf, Debug, Clone)]
#[conf(validation_predicate = events_credentials)]
pub struct EventsConfig {
    /// NATS URL, such as `nats://127.0.0.1:4222`, or `tls://` to require TLS; those of all servers of a cluster,
    /// separated by commas
    #[conf(env = "NATS_URL", value_parser = parse_nats_urls)]
    pub url: String,
    /// Certificate (PEM) of the CA that signed the certificate of NATS; when absent, the CAs of this machine
    #[conf(env = "NATS_CA_FILE", value_parser = parse_file)]
    pub ca_file: Option<PathBuf>,
    /// Client certificate (PEM), when NATS requires one
    #[conf(env = "NATS_CERT_FILE", value_parser = parse_file)]
    pub cert_file: Option<PathBuf>,
    /// Private key (PEM) of the client certificate
    #[conf(env = "NATS_KEY_FILE", value_parser = parse_file)]
    pub key_file: Option<PathBuf>,
    /// NATS user; absent when NATS needs none
    #[conf(env = "NATS_USER")]
    pub user: Option<String>,
    /// NATS password
    #[conf(env = "NATS_PASSWORD", value_parser = parse_secret, secret)]
    pub password: Option<SecretString>,
}

/// Limits of one user, counted by each instance. Load tests raise them.
#[derive(Conf, Debug, Clone)]
pub struct LimitsConfig {
    /// Writes of one user in 10 s; each further one gets 429
    #[conf(env = "LIMIT_WRITES_PER_USER_PER_10S", default_value = "200", value_parser = parse_limit)]
    pub writes_per_user_per_10s: u32,
    /// Bytes of messages (source, HTML and link previews) of one user in 10 s; each further message gets 429
    #[conf(env = "LIMIT_MESSAGE_BYTES_PER_USER_PER_10S", default_value = "262144", value_parser = parse_limit)]
    pub message_bytes_per_user_per_10s: u32,
}

/// The keys with which the two sides of a part and the operator of its hand-over call each other. The monolith has all,
/// a service that of its part. Without a key, the process answers 404 and does not follow the other side.
#[derive(Conf, Debug, Clone, Default)]
pub struct HandoverKeys {
    /// Key of the hand-over of users
    #[conf(env = "HANDOVER_KEY_USERS", value_parser = parse_secret, secret)]
    pub users: Option<SecretString>,
    /// Key of the hand-over of tokens
    #[conf(env = "HANDOVER_KEY_TOKENS", value_parser = parse_secret, secret)]
    pub tokens: Option<SecretString>,
    /// Key of the hand-over of messages
    #[conf(env = "HANDOVER_KEY_MESSAGES", value_parser = parse_secret, secret)]
    pub messages: Option<SecretString>,
    /// Key of the hand-over of ui
    #[conf(env = "HANDOVER_KEY_UI", value_parser = parse_secret, secret)]
    pub ui: Option<SecretString>,
}

impl HandoverKeys {
    pub fn of(&self, part: Part) -> Option<&SecretString> {
        match part {
            Part::Users => self.users.as_ref(),
            Part::Tokens => self.tokens.as_ref(),
            Part::Messages => self.messages.as_ref(),
            Part::Ui => self.ui.as_ref(),
            Part::Websocket => None,
        }
    }
}

/// What every service needs. A service that needs more flattens it into a struct of its own.
#[derive(Conf, Debug, Clone)]
pub struct ServiceConfig {
    #[conf(flatten)]
    pub process: ProcessConfig,
    #[conf(flatten)]
    pub database: DatabaseConfig,
    #[conf(flatten)]
    pub registry: RegistryConfig,
    #[conf(flatten)]
    pub events: EventsConfig,
    #[conf(flatten)]
    pub internal_listener: InternalListenerConfig,
    #[conf(flatten)]
    pub limits: LimitsConfig,
    #[conf(flatten)]
    pub handover: HandoverKeys,
}

/// The balancer's internal listener, through which processes call each other.
#[derive(Conf, Debug, Clone)]
pub struct InternalListenerConfig {
    /// Internal listener of the balancer, such as `http://127.0.0.1:8081`
    #[conf(env = "INTERNAL_URL", value_parser = parse_http_url)]
    pub url: String,
}

fn parse_instance(text: &str) -> Result<String, String> {
    let is_valid = (1..=INSTANCE_CHARACTERS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    // The name becomes a registry key, a HAProxy server name and a header value: it must need no quoting there.
    is_valid
        .then(|| text.to_owned())
        .ok_or_else(|| format!("an instance name is 1 to {INSTANCE_CHARACTERS_MAX} of a-z, 0-9 and -, such as users-1"))
}

/// Returns the version if it is valid as a folder's name, a header's value and a word on the command line.
pub fn parse_version(text: &str) -> Result<String, String> {
    let is_valid = (1..=VERSION_CHARACTERS_MAX).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte));
    is_valid.then(|| text.to_owned()).ok_or_else(|| {
        format!(
            "a version is 1 to {VERSION_CHARACTERS_MAX} of a-z, 0-9, `.`, `-` and `_`, and begins with a letter or a \
             digit, such as 1.4.0-rc.1"
        )
    })
}

fn parse_commit(text: &str) -> Result<String, String> {
    let is_valid = (1..=COMMIT_CHARACTERS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_valid
        .then(|| text.to_owned())
        .ok_or_else(|| format!("a commit is 1 to {COMMIT_CHARACTERS_MAX} of letters, digits and -, such as 4e57a53"))
}

pub fn parse_weight(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|weight| *weight <= WEIGHT_MAX)
        .ok_or_else(|| format!("use a number from 0 to {WEIGHT_MAX}"))
}

fn parse_host(text: &str) -> Result<String, String> {
    url::Host::parse(text)
        .map(|host| host.to_string())
        .map_err(|_| "use a host name or address without scheme and port, such as 10.0.0.7".to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "conf requires this signature")]
fn parse_secret(text: &str) -> Result<SecretString, String> {
    Ok(SecretString::from(text))
}

fn parse_connections(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|number| (1..=CONNECTIONS_MAX_LIMIT).contains(number))
        .ok_or_else(|| format!("use a number from 1 to {CONNECTIONS_MAX_LIMIT}"))
}

fn parse_limit(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| "use a whole number of at least 1".to_owned())
}

fn parse_http_url(text: &str) -> Result<String, String> {
    parse_url(text, &["http", "https"])
}

fn parse_http_urls(text: &str) -> Result<String, String> {
    parse_urls(text, &["http", "https"])
}

fn parse_nats_urls(text: &str) -> Result<String, String> {
    parse_urls(text, &["nats", "tls"])
}

/// Parses URLs of one scheme, separated by commas.
fn parse_urls(text: &str, schemes: &[&str]) -> Result<String, String> {
    let urls: Vec<String> = text.split(',').map(|url| parse_url(url.trim(), schemes)).collect::<Result<_, _>>()?;
    let scheme = |url: &str| url.split(':').next().map(str::to_owned);
    if urls.iter().any(|url| scheme(url) != scheme(&urls[0])) {
        return Err("use the same scheme in all URLs".to_owned());
    }
    Ok(urls.join(","))
}

fn parse_url(text: &str, schemes: &[&str]) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|error| error.to_string())?;
    if !schemes.contains(&url.scheme()) || url.host().is_none() {
        return Err(format!("use a URL such as {}://127.0.0.1:1234", schemes[0]));
    }
    // URLs are logged; credentials have variables of their own, which are not.
    if !url.username().is_empty() || url.password().is_some() {
        return Err("put the credentials into their own variables, not into the URL".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Opens the file, so that a wrong path is reported at the start and not at the first connect.
fn parse_file(text: &str) -> Result<PathBuf, String> {
    File::open(text).map(|_| PathBuf::from(text)).map_err(|error| format!("{text} cannot be read: {error}"))
}

fn registry_credentials(config: &RegistryConfig) -> Result<(), String> {
    both_or_neither(config.user.is_some(), config.password.is_some(), "ETCD_USER and ETCD_PASSWORD")?;
    both_or_neither(config.cert_file.is_some(), config.key_file.is_some(), "ETCD_CERT_FILE and ETCD_KEY_FILE")?;
    match (config.url.starts_with("https://"), config.ca_file.is_some() || config.cert_file.is_some()) {
        (true, _) if config.ca_file.is_none() => {
            Err("ETCD_URL is https: set ETCD_CA_FILE to the certificate of the registry's CA".to_owned())
        }
        (false, true) => Err("ETCD_CA_FILE or ETCD_CERT_FILE is set: use https in ETCD_URL".to_owned()),
        _ => Ok(()),
    }
}

fn events_credentials(config: &EventsConfig) -> Result<(), String> {
    both_or_neither(config.user.is_some(), config.password.is_some(), "NATS_USER and NATS_PASSWORD")?;
    both_or_neither(config.cert_file.is_some(), config.key_file.is_some(), "NATS_CERT_FILE and NATS_KEY_FILE")?;
    if config.ca_file.is_some() && !config.url.starts_with("tls:") {
        // Otherwise whoever answers at the address could ask for a connection without TLS.
        return Err("NATS_CA_FILE is set: use tls in NATS_URL".to_owned());
    }
    Ok(())
}

impl EventsConfig {
    /// Returns a configuration without credentials and TLS, as in tests.
    pub fn without_credentials(url: impl Into<String>) -> Self {
        Self { url: url.into(), ca_file: None, cert_file: None, key_file: None, user: None, password: None }
    }
}

fn both_or_neither(user: bool, password: bool, names: &str) -> Result<(), String> {
    if user == password { Ok(()) } else { Err(format!("set both {names}, or neither")) }
}

#[cfg(test)]
mod tests;
