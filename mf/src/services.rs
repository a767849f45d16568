//! Names of services on the command line.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use flack_catalogue::{SERVICES, Service};

use crate::suggestion;

/// Selects every service on the command line.
pub const ALL: &str = "all";

/// Parses a service name inside a longer value, such as `users=2`.
pub fn parse(name: &str) -> Result<&'static Service, String> {
    Service::find(name).ok_or_else(|| {
        let names = SERVICES.iter().map(|service| service.name);
        format!("there is no service `{name}`; {}", suggestion::among(name, "services", names))
    })
}

/// Returns the parser of an argument that is a service name. Its help and its errors list the services.
pub fn argument() -> impl TypedValueParser<Value = &'static Service> {
    PossibleValuesParser::new(SERVICES.iter().map(|service| service.name))
        .map(|name| Service::find(&name).expect("clap accepts only names of the catalogue"))
}

/// Returns the parser of an argument that is a service name or `all`.
pub fn argument_or_all() -> PossibleValuesParser {
    PossibleValuesParser::new(SERVICES.iter().map(|service| service.name).chain([ALL]))
}
