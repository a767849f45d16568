//! Checks of the machine, and of files that do not depend on a running stack.

use chrono::{TimeDelta, Utc};

use super::Check;
use crate::checks;
use crate::home::Home;
use crate::infra::etcd;
use crate::infra::postgres::Server;
use crate::ports::Ports;

/// Certificates are issued for ten years, again at each mfup.
const CERTIFICATE_DAYS_LEFT_MIN: i64 = 30;

pub(super) fn checks(home: &Home, ports: &Ports, is_running: bool) -> Vec<Check> {
    // The ports of a running stack are its own.
    let taken = if is_running { Vec::new() } else { checks::taken_ports(ports) };
    let other = checks::other_port(ports.public);
    let taken = taken.into_iter().map(|problem| format!("{problem}. Stop it, or: mfup --port {other}"));
    // The folder that exists: a new state folder is below it.
    let existing = home.path().ancestors().find(|folder| folder.is_dir()).unwrap_or(home.path());
    let disk = Home::at(existing).ok().and_then(|existing| checks::disk(&existing));
    vec![
        Check::new("packages", checks::missing_programs()),
        Check::new("postgresql", Server::find(home).err().map(|failure| failure.message)),
        Check::new("ports", taken),
        Check::new("disk", disk),
        Check::new("open files", checks::open_files()),
    ]
}

pub(super) fn certificates(home: &Home) -> Check {
    let soon = Utc::now() + TimeDelta::days(CERTIFICATE_DAYS_LEFT_MIN);
    let problems = etcd::certificate_expiries(home).into_iter().filter_map(|(path, expiry)| match expiry {
        Some(expiry) if expiry > soon => None,
        Some(expiry) => Some(format!("{} expires on {}. Issue it again: mfup", path.display(), expiry.date_naive())),
        None => Some(format!("{} is not a certificate. Issue it again: mfup", path.display())),
    });
    Check::new("certificates", problems)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_certificate_that_expires_soon_or_is_none_is_reported() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut home = Home::at(folder.path()).expect("a home");
        home.create().expect("its folders");
        etcd::issue_certificates(&home).expect("certificates");
        assert_eq!(certificates(&home).problems, Vec::<String>::new());

        let soon = Utc::now() + TimeDelta::days(10);
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        params.not_after = rcgen::date_time_ymd(
            chrono::Datelike::year(&soon),
            u8::try_from(chrono::Datelike::month(&soon)).expect("a month"),
            u8::try_from(chrono::Datelike::day(&soon)).expect("a day"),
        );
        let key = rcgen::KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        fs::write(home.certificates().join("users.pem"), pem).expect("written");
        fs::write(home.certificates().join("server.pem"), "").expect("written");
        let problems = certificates(&home).problems;
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems.iter().any(|problem| problem.contains(&format!("expires on {}", soon.date_naive()))));
        assert!(problems.iter().any(|problem| problem.contains("server.pem is not a certificate")), "{problems:?}");
    }
}
