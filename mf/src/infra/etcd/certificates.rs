//! The certificates of etcd and of its clients. etcd takes a client's account from the common name of its certificate.
//!
//! Every `mfup` issues all certificates again, with the keys of the first start: none expires in a stack that is
//! started at least once in its lifetime, and a certificate of an earlier `mfup` stays valid until its own end.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, Utc};
use flack_catalogue::SERVICES;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::ROOT;
use crate::failure::Result;
use crate::home::{self, Home};
use crate::secrets::AGENT;

const LIFETIME: Months = Months::new(10 * 12);
/// For clients whose clock is behind.
const VALID_BEFORE_ISSUE: Days = Days::new(1);

/// Tags of DER.
const DER_VERSION: u8 = 0xa0;
const DER_UTC_TIME: u8 = 0x17;

const CA: &str = "ca";
const SERVER: &str = "server";
const PEER: &str = "peer";
/// Addresses of etcd: natively, and as the names of containers (`mf container secrets --etcd 3`).
const HOSTS: [&str; 5] = ["127.0.0.1", "localhost", "etcd", "etcd-2", "etcd-3"];

/// The files of one certificate, in PEM.
#[derive(Debug, Clone)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Files {
    fn named(home: &Home, name: &str) -> Self {
        let file = |extension| home.certificates().join(format!("{name}.{extension}"));
        Self { certificate: file("pem"), key: file("key") }
    }

    /// Returns the client certificate of an account.
    pub fn client(home: &Home, account: &str) -> Self {
        Self::named(home, account)
    }

    pub fn server(home: &Home) -> Self {
        Self::named(home, SERVER)
    }

    pub fn peer(home: &Home) -> Self {
        Self::named(home, PEER)
    }

    /// Writes a certificate, which is signed by `ca` or by its own key. Its key is created once.
    fn issue(&self, params: &CertificateParams, ca: Option<&Issuer<'_, KeyPair>>) -> Result<KeyPair> {
        let key = read_or_create_key(&self.key)?;
        let certificate = match ca {
            Some(ca) => params.signed_by(&key, ca),
            None => params.self_signed(&key),
        };
        let certificate = certificate.map_err(|error| {
            failure!(Internal, "the certificate {} cannot be issued: {error}", self.certificate.display())
        })?;
        home::write_private(&self.certificate, &certificate.pem())?;
        Ok(key)
    }
}

/// Returns the certificate of the CA that signs etcd's certificate and those of its clients.
pub fn ca(home: &Home) -> PathBuf {
    Files::named(home, CA).certificate
}

/// Issues the certificates of the CA, of etcd's two listeners, and of each account.
pub fn issue(home: &Home) -> Result<()> {
    let mut params = named("flack etcd CA", &[])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = Files::named(home, CA).issue(&params, None)?;
    let ca = Issuer::new(params, key);

    // The purposes are separate: a service cannot pose as etcd with its client certificate.
    let server = for_purposes(named("etcd", &HOSTS)?, &[ExtendedKeyUsagePurpose::ServerAuth]);
    Files::server(home).issue(&server, Some(&ca))?;
    // Signed by its own key, and the only certificate that the peer listener trusts: no CA can issue another one.
    let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Files::peer(home).issue(&for_purposes(named("etcd peer", &HOSTS)?, &both), None)?;
    for account in SERVICES.iter().map(|service| service.name).chain([AGENT, ROOT]) {
        let client = for_purposes(named(account, &[])?, &[ExtendedKeyUsagePurpose::ClientAuth]);
        Files::client(home, account).issue(&client, Some(&ca))?;
    }
    Ok(())
}

/// Returns each certificate of a stack with the end of its validity; `None` if the file is not a certificate.
pub fn expiries(home: &Home) -> Vec<(PathBuf, Option<DateTime<Utc>>)> {
    let accounts = SERVICES.iter().map(|service| service.name).chain([CA, SERVER, PEER, AGENT, ROOT]);
    let files = accounts.map(|name| Files::named(home, name).certificate).filter(|path| path.exists());
    files
        .map(|path| {
            let expiry = fs::read_to_string(&path).ok().and_then(|pem| not_after(&pem));
            (path, expiry)
        })
        .collect()
}

/// Reads the end of a certificate's validity (RFC 5280, section 4.1.2.5).
fn not_after(pem: &str) -> Option<DateTime<Utc>> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = BASE64_STANDARD.decode(body.trim()).ok()?;
    let (_, certificate, _) = element(&der)?;
    let (_, mut rest, _) = element(certificate)?;
    // Version (which is optional), serial number, signature algorithm and issuer are before the validity.
    let fields = if rest.first() == Some(&DER_VERSION) { 4 } else { 3 };
    for _ in 0..fields {
        (_, _, rest) = element(rest)?;
    }
    let (_, validity, _) = element(rest)?;
    let (_, _, rest) = element(validity)?;
    let (kind, time, _) = element(rest)?;
    let time = std::str::from_utf8(time).ok()?;
    // Of a UTCTime the years before 50 are those of this century.
    let century = if kind == DER_UTC_TIME { "20" } else { "" };
    let time = format!("{century}{}+0000", time.trim_end_matches('Z'));
    DateTime::parse_from_str(&time, "%Y%m%d%H%M%S%z").ok().map(|time| time.to_utc())
}

/// Splits off the first element of DER: returns its tag, its content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = der.split_first_chunk()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        (bytes.iter().try_fold(0_usize, |length, byte| length.checked_mul(256)?.checked_add((*byte).into()))?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn named(common_name: &str, hosts: &[&str]) -> Result<CertificateParams> {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts)
        .map_err(|error| failure!(Internal, "no certificate can be issued for {common_name}: {error}"))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let today = Utc::now().date_naive();
    let midnight = |day: NaiveDate| {
        // Within the range of u8, because months and days of a month are.
        let small = |number: u32| u8::try_from(number).unwrap_or(1);
        date_time_ymd(day.year(), small(day.month()), small(day.day()))
    };
    params.not_before = midnight(today - VALID_BEFORE_ISSUE);
    params.not_after = midnight(today + LIFETIME);
    Ok(params)
}

fn for_purposes(mut params: CertificateParams, purposes: &[ExtendedKeyUsagePurpose]) -> CertificateParams {
    params.extended_key_usages = purposes.to_vec();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn read_or_create_key(path: &Path) -> Result<KeyPair> {
    let invalid = |error: rcgen::Error| {
        failure!(
            Contradiction,
            "{} is not a private key ({error}). Restore it, or delete all of {} and restart the stack.",
            path.display(),
            path.parent().unwrap_or(path).display()
        )
    };
    match fs::read_to_string(path) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(invalid),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = KeyPair::generate().map_err(invalid)?;
            home::write_private(path, &key.serialize_pem())?;
            Ok(key)
        }
        Err(error) => Err(failure!(CannotWrite, "{} cannot be read: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_renews_certificates_and_keeps_keys() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut home = Home::at(folder.path()).expect("a home");
        home.create().expect("its folders");
        issue(&home).expect("certificates");
        let users = Files::client(&home, "users");
        let key = fs::read_to_string(&users.key).expect("a key");
        fs::remove_file(&users.certificate).expect("a certificate");
        issue(&home).expect("certificates again");
        assert_eq!(fs::read_to_string(&users.key).expect("a key"), key);
        assert!(users.certificate.exists());
        let expiries = expiries(&home);
        assert_eq!(expiries.len(), SERVICES.len() + 5);
        let midnight = (Utc::now().date_naive() + LIFETIME).and_time(chrono::NaiveTime::MIN).and_utc();
        assert!(expiries.iter().all(|(_, expiry)| *expiry == Some(midnight)), "{expiries:?}");
        assert_ne!(fs::read_to_string(Files::peer(&home).key).expect("a key"), key, "every key is used once");
    }
}
