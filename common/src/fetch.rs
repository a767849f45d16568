//! Fetches public web pages for link previews: public addresses only, with limits on size and time.
//!
//! Users choose the URL, so it may point into our own network (server-side request forgery). Therefore the address of
//! the actual connection is checked: a literal address before the request, a name in the client's own resolver, and
//! both again at every redirect.

mod address;
mod resolver;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use reqwest::{Client, Response, header, redirect::Policy};
use thiserror::Error;
use tokio::time::timeout;
use url::{Host, Url};

use resolver::PublicResolver;

/// Enough for the head of a page, which holds its title; the rest is not read.
const BODY_BYTES_MAX: usize = 256 * 1024;
const REDIRECTS_MAX: usize = 3;
/// Includes redirects.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const PORTS: [u16; 2] = [80, 443];

/// The beginning of a page, up to the size limit.
#[derive(Debug)]
pub struct Page {
    /// The URL after redirects.
    pub url: Url,
    /// At most 256 KiB of HTML, in the page's own character set.
    pub body: Vec<u8>,
}

/// The reason why a page cannot be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    #[error("{0} is not the URL of a public page: {1}")]
    Refused(String, &'static str),
    #[error("more than {REDIRECTS_MAX} redirects")]
    TooManyRedirects,
    #[error("answered {0}")]
    Status(u16),
    #[error("is not an HTML page")]
    NotHtml,
    #[error("took longer than {} s", FETCH_TIMEOUT.as_secs())]
    Timeout,
    #[error("could not be read: {0}")]
    Unreadable(#[source] reqwest::Error),
}

impl FetchError {
    /// Whether a later fetch may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(..) | Self::TooManyRedirects | Self::NotHtml => false,
            Self::Status(status) => *status == 429 || *status >= 500,
            Self::Timeout | Self::Unreadable(_) => true,
        }
    }
}

/// The client for public web pages.
#[derive(Debug, Clone)]
pub struct PublicFetcher {
    client: Client,
    /// The one non-public address that is allowed; only tests set it.
    test_server: Option<SocketAddr>,
}

impl Default for PublicFetcher {
    fn default() -> Self {
        Self::new()
    }
}

impl PublicFetcher {
    pub fn new() -> Self {
        Self::with_test_server(None)
    }

    /// For tests only: like `new`, but also allows this address and port.
    pub fn for_tests(test_server: SocketAddr) -> Self {
        Self::with_test_server(Some(test_server))
    }

    fn with_test_server(test_server: Option<SocketAddr>) -> Self {
        let client = flack_api::http_client_builder()
            .dns_resolver(Arc::new(PublicResolver))
            // `follow` checks every target.
            .redirect(Policy::none())
            // A proxy would resolve names without our resolver.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(0)
            .referer(false)
            .user_agent(concat!("flack-link-preview/", env!("CARGO_PKG_VERSION")))
            .build()
            .expect("fixed settings and a compiled-in TLS provider make a client");
        Self { client, test_server }
    }

    /// Fetches one page.
    pub async fn fetch(&self, address: &str) -> Result<Page, FetchError> {
        timeout(FETCH_TIMEOUT, self.follow(address)).await.map_err(|_| FetchError::Timeout)?
    }

    async fn follow(&self, address: &str) -> Result<Page, FetchError> {
        let mut url =
            Url::parse(address).map_err(|_| FetchError::Refused(address.to_owned(), "it cannot be parsed"))?;
        for _ in 0..=REDIRECTS_MAX {
            self.check(&url)?;
            let response = self
                .client
                .get(url.clone())
                .header(header::ACCEPT, "text/html")
                .send()
                .await
                .map_err(|error| fetch_error(&url, error))?;
            match redirect_of(&url, &response)? {
                Some(next) => url = next,
                None => return read(url, response).await,
            }
        }
        Err(FetchError::TooManyRedirects)
    }

    /// Checks all but the addresses of a name, which the resolver checks.
    fn check(&self, url: &Url) -> Result<(), FetchError> {
        let refuse = |reason| Err(FetchError::Refused(scheme_and_host(url), reason));
        if !matches!(url.scheme(), "http" | "https") {
            return refuse("only http and https are allowed");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("it contains credentials");
        }
        let Some(port) = url.port_or_known_default() else { return refuse("it has no port") };
        // The parser has normalized decimal, octal and hexadecimal forms.
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) => None,
            None => return refuse("it has no host"),
        };
        if let Some(address) = literal
            && self.test_server == Some(SocketAddr::new(address, port))
        {
            return Ok(());
        }
        if !PORTS.contains(&port) {
            return refuse("only the ports 80 and 443 are allowed");
        }
        if literal.is_some_and(|address| !address::is_public(address)) {
            return refuse("it is not on the public internet");
        }
        Ok(())
    }
}

fn redirect_of(url: &Url, response: &Response) -> Result<Option<Url>, FetchError> {
    if !response.status().is_redirection() {
        return Ok(None);
    }
    let refuse = || FetchError::Refused(scheme_and_host(url), "it redirects without a valid location");
    let location = response.headers().get(header::LOCATION).ok_or_else(refuse)?;
    let next = location.to_str().ok().and_then(|location| url.join(location).ok()).ok_or_else(refuse)?;
    Ok(Some(next))
}

async fn read(url: Url, mut response: Response) -> Result<Page, FetchError> {
    if !response.status().is_success() {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("text/html")) {
        return Err(FetchError::NotHtml);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(FetchError::Unreadable)? {
        let rest = BODY_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(rest)]);
        if body.len() == BODY_BYTES_MAX {
            break;
        }
    }
    Ok(Page { url, body })
}

/// Converts the client's error; a refusal by the resolver is among its sources.
fn fetch_error(url: &Url, error: reqwest::Error) -> FetchError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(source) = cause {
        if source.is::<resolver::NotPublic>() {
            return FetchError::Refused(scheme_and_host(url), "its name resolves to a private address");
        }
        cause = source.source();
    }
    FetchError::Unreadable(error.without_url())
}

/// Returns scheme and host, for error messages.
fn scheme_and_host(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests;
