//! Puts futures on the heap.

use futures_util::future::LocalBoxFuture;

/// The future from `make`, on the heap. If an `async fn` awaits another one directly, unoptimised code reserves space for it in the
/// stack frame of each poll, and touches the whole frame whenever something below it is woken: megabytes, for a command that waits
/// for thousands of replies.
pub fn boxed<'a, F: Future + 'a>(make: impl FnOnce() -> F) -> LocalBoxFuture<'a, F::Output> {
    Box::pin(make())
}
