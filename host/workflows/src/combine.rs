//! `join` and the two-way `select`, polled without wakers.
//!
//! An engine replays a workflow by polling it as a whole, without wake-ups for its parts; common combinators for many
//! futures wait for such wake-ups and would hang. These poll everything that is pending, in the order of their
//! arguments, so that a replay decides as the first run did.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Which of two futures completed first; on a tie, the first argument.
#[derive(Debug)]
pub enum Either<A, B> {
    /// The first future's value.
    First(A),
    /// The second future's value.
    Second(B),
}

/// Waits for the first of two. When the second one wins, its value comes with the first future, which the caller may
/// await or drop; dropping it cancels it.
pub fn select<A, B>(first: A, second: B) -> Select<A, B>
where
    A: Future + Unpin,
    B: Future + Unpin,
{
    Select {
        first: Some(first),
        second,
    }
}

/// The future of [`select`].
pub struct Select<A, B> {
    first: Option<A>,
    second: B,
}

impl<A, B> Future for Select<A, B>
where
    A: Future + Unpin,
    B: Future + Unpin,
{
    type Output = Either<A::Output, (B::Output, A)>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(first) = this.first.as_mut() else {
            return Poll::Pending;
        };
        if let Poll::Ready(value) = Pin::new(first).poll(cx) {
            return Poll::Ready(Either::First(value));
        }
        match Pin::new(&mut this.second).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(value) => match this.first.take() {
                Some(first) => Poll::Ready(Either::Second((value, first))),
                None => Poll::Pending,
            },
        }
    }
}

/// Waits for all futures; the values have the order of the futures.
pub fn join<F: Future>(futures: Vec<F>) -> Join<F> {
    Join {
        parts: futures
            .into_iter()
            .map(|future| Part::Pending(Box::pin(future)))
            .collect(),
    }
}

/// The future of [`join`].
pub struct Join<F: Future> {
    parts: Vec<Part<F>>,
}

enum Part<F: Future> {
    Pending(Pin<Box<F>>),
    Done(Option<F::Output>),
}

// The futures are boxed and the values are never pinned.
impl<F: Future> Unpin for Join<F> {}

impl<F: Future> Future for Join<F> {
    type Output = Vec<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut is_done = true;
        for part in &mut this.parts {
            if let Part::Pending(future) = part {
                match future.as_mut().poll(cx) {
                    Poll::Ready(value) => *part = Part::Done(Some(value)),
                    Poll::Pending => is_done = false,
                }
            }
        }
        if !is_done {
            return Poll::Pending;
        }
        let values = this.parts.iter_mut().filter_map(|part| match part {
            Part::Done(value) => value.take(),
            Part::Pending(_) => None,
        });
        Poll::Ready(values.collect())
    }
}
