//! Doing a transaction again that the database undid because another one was in its way.
//!
//! Only work that reads, decides and writes inside one transaction is repeated, from its beginning: what it decided on the
//! first time may not be true any more. Anything that is not known to be undone, such as a commit whose answer was lost, is
//! left to the caller.

use std::future::Future;
use std::time::Duration;

use rand::RngExt;

use super::error::StoreError;

/// Tries, the first one included.
const TRIES_MAX: u32 = 5;
/// The longest pause before the second try; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(20);

/// An error that may mean that nothing happened.
pub trait Undone {
    /// Whether nothing of the transaction counts, for sure.
    fn is_undone(&self) -> bool;
}

impl Undone for StoreError {
    fn is_undone(&self) -> bool {
        matches!(self, Self::Undone(_))
    }
}

/// Does `work`, again after a random pause when the database undid it, a few times at most.
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
                // The whole pause is random: two that met once do not meet again.
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
