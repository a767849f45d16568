//! Reading pages of strangers, for link previews: public addresses only, little, and not for long.
//!
//! A user chooses the address, so it may point into our own network (server-side request forgery). What is
//! checked is the address that the connection really goes to: literal addresses before the request, names in
//! the resolver that the client itself uses, and both again at every redirect.

mod address;
mod resolver;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use reqwest::{Client, Response, header, redirect::Policy};
use thiserror::Error;
use tokio::time::timeout;
use url::{Host, Url};

use resolver::PublicResolver;

/// The head of a page, where its title is, fits well; the rest is cut off.
const BODY_BYTES_MAX: usize = 256 * 1024;
const REDIRECTS_MAX: usize = 3;
/// For everything together, redirects included.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const PORTS: [u16; 2] = [80, 443];

/// A page, as far as it was read.
#[derive(Debug)]
pub struct Page {
    /// Where it was found in the end.
    pub url: Url,
    /// At most 256 KiB of HTML, in whatever character set the page says it has.
    pub body: Vec<u8>,
}

/// Why there is no page. Most of these are the address's fault, and trying again does not help.
#[derive(Debug, Error)]
pub enum FetchError {
    #[error("{0} is no address of a public page: {1}")]
    Refused(String, &'static str),
    #[error("more than {REDIRECTS_MAX} redirects")]
    TooManyRedirects,
    #[error("answered {0}")]
    Status(u16),
    #[error("is not a page of HTML")]
    NotHtml,
    #[error("took longer than {} s", FETCH_TIMEOUT.as_secs())]
    TooSlow,
    #[error("could not be read: {0}")]
    Unreadable(#[source] reqwest::Error),
}

impl FetchError {
    /// Whether the same page may be there later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(..) | Self::TooManyRedirects | Self::NotHtml => false,
            Self::Status(status) => *status == 429 || *status >= 500,
            Self::TooSlow | Self::Unreadable(_) => true,
        }
    }
}

/// Gets public pages.
#[derive(Debug, Clone)]
pub struct PublicFetcher {
    client: Client,
    /// The one address that is let through though it is not public. None outside of tests.
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

    /// FOR TESTS ONLY: as `new`, but `http://<test_server>/...` is let through, on this very address and port.
    pub fn for_tests(test_server: SocketAddr) -> Self {
        Self::with_test_server(Some(test_server))
    }

    fn with_test_server(test_server: Option<SocketAddr>) -> Self {
        let client = flack_api::http_client_builder()
            .dns_resolver(Arc::new(PublicResolver))
            // Followed by hand, each target checked.
            .redirect(Policy::none())
            // A proxy would resolve names itself, past our resolver.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(0)
            .referer(false)
            .user_agent(concat!("flack-link-preview/", env!("CARGO_PKG_VERSION")))
            .build()
            .expect("fixed settings and a compiled-in TLS provider make a client");
        Self { client, test_server }
    }

    /// Reads one page.
    pub async fn fetch(&self, address: &str) -> Result<Page, FetchError> {
        timeout(FETCH_TIMEOUT, self.follow(address)).await.map_err(|_| FetchError::TooSlow)?
    }

    async fn follow(&self, address: &str) -> Result<Page, FetchError> {
        let mut url = Url::parse(address)
            .map_err(|_| FetchError::Refused(address.to_owned(), "it cannot be parsed"))?;
        for _ in 0..=REDIRECTS_MAX {
            self.check(&url)?;
            let response = self
                .client
                .get(url.clone())
                .header(header::ACCEPT, "text/html")
                .send()
                .await
                .map_err(|problem| refusal_in(&url, problem))?;
            match redirect_of(&url, &response)? {
                Some(next) => url = next,
                None => return read(url, response).await,
            }
        }
        Err(FetchError::TooManyRedirects)
    }

    /// What can be said before a name is resolved; the resolver says the rest.
    fn check(&self, url: &Url) -> Result<(), FetchError> {
        let refuse = |why| Err(FetchError::Refused(without_credentials(url), why));
        if !matches!(url.scheme(), "http" | "https") {
            return refuse("only http and https are read");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("it holds credentials");
        }
        let Some(port) = url.port_or_known_default() else { return refuse("it has no port") };
        // The parser has made decimal, octal and hexadecimal forms into plain addresses already.
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
            return refuse("only the ports 80 and 443 are read");
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
    let refuse = || FetchError::Refused(without_credentials(url), "it redirects to nowhere");
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

/// The resolver's refusal comes back wrapped in the client's error; it is the address's fault, not the network's.
fn refusal_in(url: &Url, problem: reqwest::Error) -> FetchError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&problem);
    while let Some(error) = cause {
        if error.is::<resolver::NotPublic>() {
            return FetchError::Refused(without_credentials(url), "its name leads into a private network");
        }
        cause = error.source();
    }
    FetchError::Unreadable(problem.without_url())
}

/// For messages: a password in an address is a password.
fn without_credentials(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests;
