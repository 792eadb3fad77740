//! Waiting on a value, with a bound and the last thing that was seen.

use std::fmt::Debug;
use std::time::Duration;

/// The bound of every wait; machines that test are slow and shared.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(30);

/// Looks until `look` is content. `Err` is what it saw instead.
pub(crate) async fn until<T, S: Debug>(what: &str, mut look: impl FnMut() -> Result<T, S>) -> T {
    let mut waited = Duration::ZERO;
    let pause = Duration::from_millis(10);
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) => assert!(waited < WAIT_MAX, "waited for {what}, saw {seen:#?}"),
        }
        tokio::time::sleep(pause).await;
        waited += pause;
    }
}

/// Looks until there is a value.
pub(crate) async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let looked = tokio::time::timeout(limit, async {
        loop {
            if let Some(value) = look().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    looked
        .await
        .unwrap_or_else(|_| panic!("not within {limit:?}: {what}"))
}
