//! Futures on the heap.

use futures_util::future::LocalBoxFuture;

/// The future that `make` makes, on the heap. Where an `async fn` awaits another one directly, unoptimised code keeps room for it in
/// the stack frame of each poll, and touches all of that frame each time that anything below it is woken: megabytes, for a command
/// that waits for thousands of replies.
pub fn boxed<'a, F: Future + 'a>(make: impl FnOnce() -> F) -> LocalBoxFuture<'a, F::Output> {
    Box::pin(make())
}
