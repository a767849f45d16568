//! Password hashing with argon2id, on threads of its own, one for each core.
//!
//! Hashing is expensive on purpose. Without a limit, many sign-ins would use all memory and all cores. Here a `queue`
//! has as many places as can be served in time, and decides who is served first.

mod queue;

use std::{cell::RefCell, sync::LazyLock, thread::available_parallelism, time::Duration};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        CustomizedPasswordHasher, Error, PasswordHasher, PasswordVerifier,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};
use flack_api::Problem;
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::{self, Runtime};
use tracing::error;

use queue::Queue;
pub use queue::{Class, Origin};

/// The first of OWASP's recommended settings for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// An idle thread ends, and with it the memory of its hashes. A new one allocates it again, in some milliseconds.
const THREAD_IDLE_MAX: Duration = Duration::from_secs(10);
/// A hash with the settings above that no password matches, for sign-ins with an unknown nickname.
const DUMMY_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdG9mbm9ib2R5MTYx$\
                      bm9ib2R5aGFzdGhpc3Bhc3N3b3JkLG5vYm9keSEhISE";

static HASHERS: LazyLock<Hashers> =
    LazyLock::new(|| Hashers::new(available_parallelism().map_or(1, std::num::NonZero::get)));

/// Returns the salted hash of a password as a PHC string.
pub async fn hash(origin: Origin, password: SecretString) -> Result<String, Problem> {
    HASHERS
        .run(origin, move || {
            let hash: PasswordHash = Argon2id.hash_password(password.expose_secret().as_bytes())?;
            Ok(hash.to_string())
        })
        .await
}

/// Returns whether `password` matches `hash`.
pub async fn verify(origin: Origin, password: SecretString, hash: &str) -> Result<bool, Problem> {
    let hash = hash.to_owned();
    HASHERS
        .run(origin, move || {
            let hash = PasswordHash::new(&hash).map_err(|_| Error::EncodingInvalid)?;
            match Argon2id.verify_password(password.expose_secret().as_bytes(), &hash) {
                Ok(()) => Ok(true),
                Err(Error::PasswordInvalid) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
}

/// Works as long as [`verify`], so that the duration does not show whether a nickname exists.
pub async fn verify_unknown_user(origin: Origin, password: SecretString) -> Result<(), Problem> {
    verify(origin, password, DUMMY_HASH).await.map(|_| ())
}

/// argon2id with memory that each thread reuses. Memory allocated for each hash made the process grow to 256 MiB.
struct Argon2id;

thread_local! {
    static MEMORY: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

impl PasswordHasher<PasswordHash> for Argon2id {
    fn hash_password_with_salt(&self, password: &[u8], salt: &[u8]) -> Result<PasswordHash, Error> {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| Error::ParamsInvalid)?;
        self.hash_password_with_params(password, salt, params)
    }
}

/// Verifies a stored hash with the settings that it was made with.
impl CustomizedPasswordHasher<PasswordHash> for Argon2id {
    type Params = Params;

    fn hash_password_customized(
        &self,
        password: &[u8],
        salt: &[u8],
        algorithm: Option<&str>,
        version: Option<u32>,
        params: Params,
    ) -> Result<PasswordHash, Error> {
        let algorithm = algorithm.map(Algorithm::try_from).transpose()?.unwrap_or_default();
        let version = version.map(Version::try_from).transpose()?.unwrap_or_default();
        let mut output = vec![0; params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN)];
        let argon2 = Argon2::new(algorithm, version, params.clone());
        MEMORY.with_borrow_mut(|memory| {
            if memory.len() < params.block_count() {
                memory.resize(params.block_count(), Block::new());
            }
            argon2.hash_password_into_with_memory(password, salt, &mut output, memory)
        })?;
        Ok(PasswordHash {
            algorithm: algorithm.ident(),
            version: Some(version.into()),
            params: ParamsString::try_from(&params)?,
            salt: Some(Salt::new(salt)?),
            hash: Some(Output::new(&output)?),
        })
    }
}

struct Hashers {
    queue: Queue,
    /// Few threads, because each keeps memory; tokio's own pool has hundreds.
    threads: Runtime,
}

impl Hashers {
    fn new(cores: usize) -> Self {
        let threads = runtime::Builder::new_current_thread()
            .max_blocking_threads(cores)
            .thread_keep_alive(THREAD_IDLE_MAX)
            .build()
            .expect("a runtime without drivers needs nothing");
        Self { queue: Queue::new(cores), threads }
    }

    async fn run<T: Send + 'static>(
        &'static self,
        origin: Origin,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = self.queue.acquire(origin).await?;
        // The thread has the permit, because it continues when the request is dropped.
        let done = self.threads.spawn_blocking(move || permit.run(work));
        match done.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                error!(%error, "a password could not be hashed or verified; the stored hash may be malformed");
                Err(Problem::internal())
            }
            Err(error) => {
                error!(%error, "password hashing panicked");
                Err(Problem::internal())
            }
        }
    }
}

#[cfg(test)]
mod tests;
