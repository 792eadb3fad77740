//! Retries a transaction that the database rolled back because of a conflict with another one.
//!
//! Only work that reads, decides and writes inside one transaction is retried, from its start, because its first
//! decision may be outdated. If a rollback is not certain, as after a commit without an answer, the caller gets the
//! error.

use std::future::Future;
use std::time::Duration;

use rand::RngExt;

use super::error::StoreError;

/// The number of attempts, including the first.
const TRIES_MAX: u32 = 5;
/// The longest pause before the second attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(20);

/// An error that may mean that nothing was committed.
pub trait Undone {
    /// Whether the transaction was certainly rolled back.
    fn is_undone(&self) -> bool;
}

impl Undone for StoreError {
    fn is_undone(&self) -> bool {
        matches!(self, Self::Undone(_))
    }
}

/// Runs `work`, and retries it a few times after a random pause when the database rolled it back.
pub async fn retried<T, E, F>(mut work: impl FnMut() -> F) -> Result<T, E>
where
    E: Undone,
    F: Future<Output = Result<T, E>>,
{
    let mut tries = 1;
    loop {
        match work().await {
            Err(error) if error.is_undone() && tries < TRIES_MAX => {
                crate::metrics::retry();
                // The whole pause is random, so that two conflicting transactions do not meet again.
                let share = rand::rng().random_range(0.0..1.0);
                let pause = PAUSE.mul_f64(f64::from(1 << (tries - 1)) * share);
                tokio::time::sleep(pause).await;
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Error(bool);

    impl Undone for Error {
        fn is_undone(&self) -> bool {
            self.0
        }
    }

    async fn tries_of(outcomes: impl Fn(u32) -> Result<(), Error>) -> (u32, Result<(), Error>) {
        let tries = Cell::new(0);
        let outcome = retried(async || {
            tries.set(tries.get() + 1);
            outcomes(tries.get())
        });
        let outcome = outcome.await;
        (tries.get(), outcome)
    }

    #[tokio::test]
    async fn what_was_undone_is_done_again_and_nothing_else_is() {
        assert_eq!(tries_of(|_| Ok(())).await, (1, Ok(())));
        assert_eq!(
            tries_of(|_| Err(Error(false))).await,
            (1, Err(Error(false)))
        );
        let third = |tries| if tries < 3 { Err(Error(true)) } else { Ok(()) };
        assert_eq!(tries_of(third).await, (3, Ok(())));
        let always = tries_of(|_| Err(Error(true))).await;
        assert_eq!(always, (TRIES_MAX, Err(Error(true))));
    }
}
