//! The blobs that were checked: each once, for all images that use it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use super::DifferenceKind;
use crate::digest::Digest;
use crate::error::Error;

type Answer = Arc<OnceCell<Option<DifferenceKind>>>;

/// What is known of a blob.
enum Look {
    /// The check is in progress.
    Begun(Answer),
    /// Nothing is wrong. Most blobs are right, and are kept for the whole run, so this takes no more room than necessary.
    Right,
}

/// Blobs by repository: that one of them has a blob says nothing of another.
#[derive(Default)]
pub(super) struct CheckedBlobs(Mutex<HashMap<String, HashMap<Digest, Look>>>);

impl CheckedBlobs {
    /// What is wrong with the blob: by `look`, or by that of the first caller.
    pub(super) async fn once(
        &self,
        repository: &str,
        digest: Digest,
        look: impl Future<Output = Result<Option<DifferenceKind>, Error>>,
    ) -> Result<Option<DifferenceKind>, Error> {
        let Some(answer) = self.begin(repository, digest) else { return Ok(None) };
        let difference = answer.get_or_try_init(|| look).await?.clone();
        if let Some(blobs) = self.repositories().get_mut(repository) {
            match difference {
                None => drop(blobs.insert(digest, Look::Right)),
                // The next check has to see what is there by then.
                Some(_) => drop(blobs.remove(&digest)),
            }
        }
        Ok(difference)
    }

    /// Where the answer will be; `None` if it is known that nothing is wrong.
    fn begin(&self, repository: &str, digest: Digest) -> Option<Answer> {
        let mut repositories = self.repositories();
        let blobs = match repositories.get_mut(repository) {
            Some(blobs) => blobs,
            None => repositories.entry(repository.to_owned()).or_default(),
        };
        match blobs.entry(digest).or_insert_with(|| Look::Begun(Answer::default())) {
            Look::Begun(answer) => Some(Arc::clone(answer)),
            Look::Right => None,
        }
    }

    fn repositories(&self) -> MutexGuard<'_, HashMap<String, HashMap<Digest, Look>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn correct_blobs_are_checked_once_and_wrong_ones_each_time() {
        let checked = CheckedBlobs::default();
        let asked = std::cell::Cell::new(0);
        let digest = Digest::of(b"a");
        let look = |repository, kind: Option<DifferenceKind>| {
            let asked = &asked;
            checked.once(repository, digest, async move {
                asked.set(asked.get() + 1);
                Ok(kind)
            })
        };
        let absent = Some(DifferenceKind::BlobAbsent);
        for count in [1, 2] {
            assert_eq!(look("r", absent.clone()).await.unwrap(), absent);
            assert_eq!(asked.get(), count);
        }
        for _ in 0..2 {
            assert_eq!(look("r", None).await.unwrap(), None);
            assert_eq!(asked.get(), 3);
        }
        assert_eq!(look("s", absent.clone()).await.unwrap(), absent, "another repository");
    }
}
