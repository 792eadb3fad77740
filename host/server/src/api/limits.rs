//! The limits of the HTTP API: sizes, counts and times of requests.

use std::time::Duration;

/// Largest body of a request, in bytes.
pub(super) const BODY_MAX: usize = 1024 * 1024;
/// Longest time until a request has its answer.
pub(super) const REQUEST_MAX: Duration = Duration::from_secs(30);
/// The same for a request that may wait for the end of an operation.
pub(super) const WAITING_REQUEST_MAX: Duration = Duration::from_secs(45);
/// Longest wait for the end of an operation; shorter than [`WAITING_REQUEST_MAX`].
pub(super) const WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest request id that the host accepts from a client.
pub(super) const REQUEST_ID_MAX: usize = 64;
/// Longest `Idempotency-Key`.
pub(super) const IDEMPOTENCY_KEY_MAX: usize = 255;
/// Items of a page if the client does not set a limit.
pub(super) const PAGE_DEFAULT: u32 = 50;
/// Most items of a page.
pub(super) const PAGE_MAX: u32 = 200;
/// Points of a series if the client does not set a limit.
pub(super) const SAMPLES_DEFAULT: u32 = 500;
/// Most points of a series.
pub(super) const SAMPLES_MAX: u32 = 5_000;
/// Time range of a series if the client does not set one, in milliseconds.
pub(super) const SERIES_WINDOW_DEFAULT_MS: i64 = 3_600_000;
