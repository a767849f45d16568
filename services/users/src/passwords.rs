//! The rules for new passwords of version 2 of the API, which version 1 applies on request: NIST SP 800-63B and OWASP
//! ASVS 5 (a minimum length, no common passwords, no rules about kinds of characters).

use flack_api::Problem;

/// OWASP ASVS 5 asks for at least 8, and recommends 15.
const CHARACTERS_MIN: usize = 8;

/// The most common passwords that are long enough, in lower case. Lines with `#` have their origin and licence.
const COMMON: &str = include_str!("passwords/common.txt");

/// Returns 400 for a password that is guessed early.
pub fn check(password: &str, nickname: &str) -> Result<(), Problem> {
    let lower_case = password.to_lowercase();
    let reason = if password.chars().count() < CHARACTERS_MIN {
        format!("it has to have at least {CHARACTERS_MIN} characters, better 15 or more")
    } else if lower_case == nickname.to_lowercase() {
        "it is the nickname".to_owned()
    } else if COMMON.lines().any(|common| common == lower_case) {
        "it is one of the most common passwords".to_owned()
    } else {
        return Ok(());
    };
    Err(Problem::bad_request(format!("choose another password: {reason}")))
}
