//! What an attacker may use: HTTP requests with any certificate or none, and programs of another user.

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use reqwest::{Identity, Method};

/// The user `nobody`.
const UID: u32 = 65_534;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The paths of a client certificate and its key.
#[derive(Debug, Clone, Copy)]
pub struct Certificate<'a> {
    pub certificate: &'a Path,
    pub key: &'a Path,
}

/// An answer to an HTTP request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

/// Sends a request without checking the server's certificate. Returns none when the server did not answer.
pub async fn request(
    method: Method,
    url: &str,
    certificate: Option<Certificate<'_>>,
    headers: &[(&str, String)],
    body: Vec<u8>,
) -> Result<Option<Answer>> {
    let mut client = flack_api::http_client_builder().tls_danger_accept_invalid_certs(true).timeout(ANSWER_TIMEOUT);
    if let Some(Certificate { certificate, key }) = certificate {
        let pem = [std::fs::read(certificate)?, std::fs::read(key)?].concat();
        client = client.identity(Identity::from_pem(&pem)?);
    }
    let mut request = client.build()?.request(method, url).body(body);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let Ok(answer) = request.send().await else { return Ok(None) };
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Ok(Some(Answer { status, headers, body: answer.bytes().await.unwrap_or_default().into() }))
}

/// Runs a program as another user. None when this process may not change its user.
pub fn as_another_user(program: &str, arguments: &[&str]) -> Result<Option<Output>> {
    let user = Command::new("id").arg("-u").output().context("id cannot be run")?;
    if user.stdout.trim_ascii() != b"0" {
        eprintln!("not checked: only root can run a program as another user");
        return Ok(None);
    }
    let uid = [format!("--reuid={UID}"), format!("--regid={UID}")];
    let output = Command::new("setpriv")
        .args(uid)
        .args(["--clear-groups", program])
        .args(arguments)
        .current_dir("/")
        .output()
        .context("setpriv cannot be run")?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(Some(output))
}
