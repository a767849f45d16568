//! Reads the `Authorization` header. Its value is never logged and never part of a problem.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};
use secrecy::SecretString;

use crate::{BasicCaller, Problem};

/// A token has about 300 bytes, the longest nickname and password have less than 900.
const AUTHORIZATION_BYTES_MAX: usize = 4096;

/// Returns the token of `Authorization: Bearer ...`, or none without such a header.
pub fn bearer(headers: &HeaderMap) -> Result<Option<SecretString>, Problem> {
    match authorization(headers, "bearer")? {
        None => Ok(None),
        Some("") => Err(Problem::unauthorized("the bearer token is empty")),
        Some(token) => Ok(Some(token.into())),
    }
}

/// Returns nickname and password of `Authorization: Basic ...`.
pub fn basic(headers: &HeaderMap) -> Result<Option<BasicCaller>, Problem> {
    let Some(encoded) = authorization(headers, "basic")? else { return Ok(None) };
    let malformed = || Problem::unauthorized("Basic credentials are `nickname:password` in UTF-8, then base64");
    let decoded = STANDARD.decode(encoded).map_err(|_| malformed())?;
    let text = String::from_utf8(decoded).map_err(|_| malformed())?;
    let (nickname, password) = text.split_once(':').ok_or_else(malformed)?;
    Ok(Some(BasicCaller { nickname: nickname.to_owned(), password: password.into() }))
}

/// Returns the credentials. Another scheme is refused, not ignored: a client that sends credentials expects that they
/// are used.
fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::unauthorized("the header Authorization was sent more than once"));
    }
    if value.len() > AUTHORIZATION_BYTES_MAX {
        return Err(Problem::unauthorized(format!(
            "the header Authorization is longer than {AUTHORIZATION_BYTES_MAX} bytes"
        )));
    }
    value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(given, _)| given.eq_ignore_ascii_case(scheme))
        .map(|(_, credentials)| Some(credentials.trim()))
        .ok_or_else(|| Problem::unauthorized(format!("this operation accepts only `Authorization: {scheme} ...`")))
}
