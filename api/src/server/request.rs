//! Reads and checks the parts of a request.

use std::error::Error;

use axum::{
    RequestPartsExt,
    body::{Body, Bytes},
    extract::{RawPathParams, Request, rejection::RawPathParamsRejection},
};
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::{
    credentials,
    shape::{BODY, Shape},
    strict_json,
};
use crate::{BasicCaller, Context, Problem, TokenCaller, VerifyToken};

/// More than four times the longest message in JSON.
pub const BODY_BYTES_MAX: usize = 65_536;
/// Of a body of the media type `application/octet-stream`. The balancer forwards no larger body.
pub const FILE_BYTES_MAX: usize = 1_048_576;

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

/// A request without its body. The body is read last, when everything else is valid.
pub struct Head {
    headers: HeaderMap,
    query: Vec<(String, String)>,
    path: Result<RawPathParams, RawPathParamsRejection>,
}

pub async fn open(request: Request) -> (Context, Head, Body) {
    let (mut parts, body) = request.into_parts();
    let path = parts.extract().await;
    let query = parts.uri.query().unwrap_or_default();
    let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let context = Context::from_headers(&parts.headers);
    (context, Head { headers: parts.headers, query, path }, body)
}

impl Head {
    pub async fn token_caller(&self, verify: &dyn VerifyToken) -> Result<TokenCaller, Problem> {
        self.optional_token_caller(verify)
            .await?
            .ok_or_else(|| Problem::unauthorized("this operation needs a token: send `Authorization: Bearer ...`"))
    }

    /// Returns no caller without credentials, and 401 with invalid ones.
    pub async fn optional_token_caller(&self, verify: &dyn VerifyToken) -> Result<Option<TokenCaller>, Problem> {
        match credentials::bearer(&self.headers)? {
            None => Ok(None),
            Some(token) => verify.verify_token(&token).await.map(Some),
        }
    }

    pub fn basic_caller(&self) -> Result<BasicCaller, Problem> {
        credentials::basic(&self.headers)?.ok_or_else(|| {
            Problem::unauthorized("this operation needs a nickname and a password: send `Authorization: Basic ...`")
        })
    }

    pub fn path<T: DeserializeOwned>(&self, name: &str, shape: &Shape) -> Result<T, Problem> {
        let malformed = |_| Problem::bad_request("the path is not UTF-8");
        let parameters = self.path.as_ref().map_err(malformed)?;
        let text = parameters.iter().find_map(|(known, text)| (known == name).then_some(text)).unwrap_or_default();
        shape.decode_parameter(name, text)
    }

    pub fn query<T: DeserializeOwned>(&self, name: &str, shape: &Shape) -> Result<Option<T>, Problem> {
        let texts = self.query.iter().filter_map(|(known, text)| (known == name).then_some(text.as_str()));
        at_most_one(name, texts)?.map(|text| shape.decode_parameter(name, text)).transpose()
    }

    pub fn header<T: DeserializeOwned>(&self, name: &str, shape: &Shape) -> Result<Option<T>, Problem> {
        let Some(value) = at_most_one(name, self.headers.get_all(name).iter())? else { return Ok(None) };
        let text = value.to_str().map_err(|_| shape.refusal(name))?;
        shape.decode_parameter(name, text).map(Some)
    }

    pub async fn body<T: DeserializeOwned>(&self, body: Body, shape: &Shape) -> Result<T, Problem> {
        self.require(JSON)?;
        let bytes = read(body, BODY_BYTES_MAX).await?;
        let value = strict_json::parse(&bytes)
            .map_err(|error| Problem::bad_request(format!("the body is not valid JSON: {error}")))?;
        shape.decode(BODY, value)
    }

    /// Returns the body as it is: the content of a file.
    pub async fn bytes(&self, body: Body) -> Result<Bytes, Problem> {
        self.require(BYTES)?;
        read(body, FILE_BYTES_MAX).await
    }

    fn require(&self, kind: &str) -> Result<(), Problem> {
        if media_type(&self.headers).eq_ignore_ascii_case(kind) {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "Unsupported media type",
            format!("send the body with `Content-Type: {kind}`"),
        ))
    }
}

/// Returns the largest body of a request with these headers, in bytes.
pub fn body_bytes_max(headers: &HeaderMap) -> usize {
    if media_type(headers).eq_ignore_ascii_case(BYTES) { FILE_BYTES_MAX } else { BODY_BYTES_MAX }
}

fn media_type(headers: &HeaderMap) -> &str {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim()
}

async fn read(body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        // Another limit, such as a middleware's, may have ended the body first.
        Err(problem) if is_length_limit(problem.as_ref()) => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "Too large",
            format!("the body is larger than {bytes_max} bytes"),
        )),
        Err(_) => Err(Problem::bad_request("the body is incomplete")),
    }
}

fn is_length_limit(problem: &(dyn Error + 'static)) -> bool {
    problem.is::<LengthLimitError>() || problem.source().is_some_and(is_length_limit)
}

fn at_most_one<T>(name: &str, mut values: impl Iterator<Item = T>) -> Result<Option<T>, Problem> {
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(Problem::bad_request(format!("`{name}` was sent more than once"))),
    }
}
