//! The name of the container that this process is alone in, such as `flack_users_1`. A container does not know its own
//! name, but Docker's name server resolves the container's address to it.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _, UdpSocket},
    time::Duration,
};

/// Docker's name server, in every container of a network that is not Docker's default one.
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// It answers within a millisecond. Without an answer the instance gets a generated name.
const TIMEOUT: Duration = Duration::from_secs(1);
const ANSWER_BYTES_MAX: usize = 512;
const HEADER_BYTES: usize = 12;
/// Type, class, time to live and length of an answer.
const ANSWER_FIELDS_BYTES: usize = 10;
/// The type PTR and the class IN.
const PTR_IN: [u8; 4] = [0, 12, 0, 1];

/// Returns `users-1` for the container `flack_users_1` or `flack-users-1` of a service; none if it is named otherwise.
pub fn instance(service: &str, container: &str) -> Option<String> {
    let is_separator = |text: &str| text.ends_with(['_', '-']);
    let mut starts = container.rmatch_indices(service).map(|(start, _)| container.split_at(start));
    let (_, name) = starts.find(|(before, _)| before.is_empty() || is_separator(before))?;
    let number = name.rsplit_once(['_', '-'])?.1;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| name.replace('_', "-"))
}

/// Returns the name of this container; none outside of Docker.
pub(super) fn own_name() -> Option<String> {
    let resolver = fs::read_to_string("/etc/resolv.conf").ok()?;
    if !resolver.lines().any(|line| line.trim() == format!("nameserver {NAME_SERVER}")) {
        return None;
    }
    let host = nix::unistd::gethostname().ok()?.into_string().ok()?;
    let address = (host.as_str(), 0).to_socket_addrs().ok()?.find_map(|address| match address {
        SocketAddr::V4(address) => Some(*address.ip()),
        SocketAddr::V6(_) => None,
    })?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.set_read_timeout(Some(TIMEOUT)).ok()?;
    socket.connect((NAME_SERVER, 53)).ok()?;
    let question = question(address);
    socket.send(&question).ok()?;
    let mut answer = [0; ANSWER_BYTES_MAX];
    let length = socket.recv(&mut answer).ok()?;
    // The name is followed by that of the network: `flack_users_1.flack_flack`.
    answered_name(&answer[..length], question.len())?.split('.').next().map(str::to_owned)
}

/// Returns the request (RFC 1035, section 4) for the name of an address.
fn question(address: Ipv4Addr) -> Vec<u8> {
    // An id, the flag "recursion desired", one question.
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let [a, b, c, d] = address.octets();
    for label in [d.to_string(), c.to_string(), b.to_string(), a.to_string(), "in-addr".to_owned(), "arpa".to_owned()] {
        message.push(u8::try_from(label.len()).expect("labels are short"));
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(PTR_IN);
    message
}

/// Returns the name in the first answer, which follows the question. Docker repeats it as it was asked.
fn answered_name(answer: &[u8], question_bytes: usize) -> Option<String> {
    let has_answer = answer.get(6..8)? != [0, 0];
    if !has_answer {
        return None;
    }
    let (_, after_name) = name(answer, question_bytes.max(HEADER_BYTES))?;
    name(answer, after_name + ANSWER_FIELDS_BYTES).map(|(name, _)| name)
}

/// Reads a name, and returns it with the position after it.
fn name(message: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut labels, mut position, mut end) = (Vec::new(), start, None);
    loop {
        let length = usize::from(*message.get(position)?);
        match length {
            0 => return Some((labels.join("."), end.unwrap_or(position + 1))),
            // A pointer to an earlier part of the message, so that this ends.
            0xc0.. => {
                let to = ((length & 0x3f) << 8) | usize::from(*message.get(position + 1)?);
                end.get_or_insert(position + 2);
                position = Some(to).filter(|to| *to < position)?;
            }
            _ => {
                let label = message.get(position + 1..position + 1 + length)?;
                labels.push(String::from_utf8(label.to_vec()).ok()?);
                position += 1 + length;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_the_service_and_the_number_of_its_container() {
        for (container, name) in [
            ("flack_users_1", Some("users-1")),
            ("flack-users-12", Some("users-12")),
            ("my-users-users-2", Some("users-2")),
            ("flack_users-b_1", Some("users-b-1")),
            ("users_3", Some("users-3")),
            ("flack_users_run_4f2a", None),
            ("flack_websocket_1", None),
            ("superusers_1", None),
            ("users", None),
        ] {
            assert_eq!(instance("users", container).as_deref(), name, "{container}");
        }
    }

    #[test]
    fn the_name_of_an_address_is_read_from_the_answer_of_a_name_server() {
        let question = question(Ipv4Addr::new(172, 18, 0, 9));
        let mut answer = question.clone();
        answer[7] = 1;
        // A pointer to the question, the type, the class, the time to live and the length.
        answer.extend([0xc0, 12, 0, 12, 0, 1, 0, 0, 2, 88, 0, 27]);
        answer.extend(b"\x0dflack_users_1\x0bflack_flack\x00");
        assert_eq!(answered_name(&answer, question.len()).as_deref(), Some("flack_users_1.flack_flack"));
        assert_eq!(answered_name(&question, question.len()), None, "no answer");
        assert_eq!(answered_name(&answer[..60], question.len()), None, "cut off");
    }
}
