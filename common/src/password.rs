//! Passwords: hashed with argon2id, off the async threads, and never more at once than there are cores.
//!
//! Hashing is made to be expensive. Without a bound, a flood of sign-ins would take all memory and all
//! cores; here the queue ends, and who comes after it is told to come back.

use std::{
    cell::RefCell,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        CustomizedPasswordHasher, Error, PasswordHasher, PasswordVerifier,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};
use flack_api::Problem;
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    runtime::{self, Runtime},
    sync::Semaphore,
};
use tracing::error;

/// The first of OWASP's recommended settings for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Some seconds of work; whoever waits longer has given up.
const QUEUE_MAX: usize = 64;
/// A new thread for each quiet morning would be one more that keeps memory.
const THREAD_IDLE_MAX: Duration = Duration::from_hours(24);
/// A hash of no password, in the settings above: compared against when there is no user.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdG9mbm9ib2R5MTYx$\
                      bm9ib2R5aGFzdGhpc3Bhc3N3b3JkLG5vYm9keSEhISE";

static HASHERS: LazyLock<Hashers> =
    LazyLock::new(|| Hashers::new(available_parallelism().map_or(1, std::num::NonZero::get), QUEUE_MAX));

/// The password as a PHC string, salted.
pub async fn hash(password: SecretString) -> Result<String, Problem> {
    HASHERS
        .run(move || {
            let hash: PasswordHash = Argon2id.hash_password(password.expose_secret().as_bytes())?;
            Ok(hash.to_string())
        })
        .await
}

/// Whether `password` is the one that `hash` was made from.
pub async fn verify(password: SecretString, hash: &str) -> Result<bool, Problem> {
    let hash = hash.to_owned();
    HASHERS
        .run(move || {
            let hash = PasswordHash::new(&hash).map_err(|_| Error::EncodingInvalid)?;
            match Argon2id.verify_password(password.expose_secret().as_bytes(), &hash) {
                Ok(()) => Ok(true),
                Err(Error::PasswordInvalid) => Ok(false),
                Err(problem) => Err(problem),
            }
        })
        .await
}

/// For a nickname that nobody has: takes as long as a verification, so that time does not tell who exists.
pub async fn verify_unknown_user(password: SecretString) -> Result<(), Problem> {
    verify(password, NOBODY).await.map(|_| ())
}

/// Hashes in memory that its thread keeps: given back to the allocator each time, it came to a quarter of a gigabyte.
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

/// What a stored hash is verified with: the settings it was made with, whatever those of today are.
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
    cores: Semaphore,
    /// Only these hash, each with memory of its own: tokio's own pool has hundreds of threads.
    threads: Runtime,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// Counts down also when the request is given up while it waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hashers {
    fn new(cores: usize, waiting_max: usize) -> Self {
        let threads = runtime::Builder::new_current_thread()
            .max_blocking_threads(cores)
            .thread_keep_alive(THREAD_IDLE_MAX)
            .build()
            .expect("a runtime without drivers needs nothing");
        Self { cores: Semaphore::new(cores), threads, waiting: AtomicUsize::new(0), waiting_max }
    }

    async fn run<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Problem> {
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.waiting_max {
            return Err(Problem::unavailable("sign-in"));
        }
        let core = self.cores.acquire().await.expect("the semaphore is never closed");
        drop(waiting);
        // The permit goes along: a request that is given up does not stop the thread that works for it.
        let done = self.threads.spawn_blocking(move || {
            let _core = core;
            work()
        });
        match done.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(problem)) => {
                error!(error = %problem, "a password could not be hashed or compared; is the stored hash whole?");
                Err(Problem::internal())
            }
            Err(problem) => {
                error!(error = %problem, "a password hasher panicked");
                Err(Problem::internal())
            }
        }
    }
}

#[cfg(test)]
mod tests;
