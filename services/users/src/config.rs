//! Configuration from environment variables.

use std::{num::NonZeroU32, time::Duration};

use flack_common::config::ServiceConfig;

/// Shorter than the two seconds that tokens waits for users.
const REFUSAL_DELAY_MAX: Duration = Duration::from_millis(1_500);

/// users: nicknames, passwords and presence
#[derive(conf::Conf, Debug)]
pub struct Config {
    #[conf(flatten)]
    pub service: ServiceConfig,
    #[conf(flatten)]
    pub limits: GuessLimits,
}

/// Limits of the guesses of passwords, over all instances. Load tests that sign in often as one user raise them.
#[derive(conf::Conf, Debug, Clone)]
pub struct GuessLimits {
    /// Guesses for one account in a minute, after so many at once
    #[conf(env = "LIMIT_GUESSES_PER_ACCOUNT_PER_MINUTE", default_value = "10")]
    pub per_account_per_minute: NonZeroU32,
    /// Guesses from one address in a minute, after twice as many at once; accounts known at this address do not count
    #[conf(env = "LIMIT_GUESSES_PER_ADDRESS_PER_MINUTE", default_value = "20")]
    pub per_address_per_minute: NonZeroU32,
    /// Milliseconds until a refused guess is answered, so that a client cannot try again without a pause
    #[conf(env = "LIMIT_GUESS_REFUSAL_DELAY_MS", default_value = "1000", value_parser = parse_delay)]
    pub refusal_delay: Duration,
}

fn parse_delay(text: &str) -> Result<Duration, String> {
    let delay = text.parse().ok().map(Duration::from_millis).filter(|delay| *delay <= REFUSAL_DELAY_MAX);
    delay.ok_or_else(|| format!("use a number of milliseconds, at most {}", REFUSAL_DELAY_MAX.as_millis()))
}

impl Default for GuessLimits {
    fn default() -> Self {
        let number = |number| NonZeroU32::new(number).expect("it is not zero");
        Self {
            per_account_per_minute: number(10),
            per_address_per_minute: number(20),
            refusal_delay: Duration::from_secs(1),
        }
    }
}
