//! Which signatures an image must have: checked before anything of it is read that costs a pull.

use std::sync::Arc;

use super::Mirror;
use super::job::{Action, Job};
use super::plan::{Inspection, Step};
use crate::BoxFuture;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::reference::Reference;

/// Decides which signatures an image must have.
pub trait SignaturePolicy: Send + Sync {
    /// Who signed exactly `digest`, which the source's name or the lock points to (an index's digest, if it is one). `None` if
    /// no signature is required.
    ///
    /// # Errors
    /// The required signature is missing, or its registry cannot be asked: then the image is not copied.
    fn check_signature<'a>(
        &'a self,
        job: &'a Job,
        digest: Digest,
    ) -> BoxFuture<'a, Result<Option<String>, Error>>;
}

/// `image` does not have the required signature; `wanted` names the signers and the rule.
pub fn untrusted(
    image: &Reference,
    digest: Digest,
    wanted: String,
    why: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::of(image, ErrorKind::Untrusted { digest, wanted, source: Arc::new(why) })
}

/// `digest` of `image` is too new, and `why`.
pub fn too_fresh(image: &Reference, digest: Digest, why: String) -> Error {
    Error::of(image, ErrorKind::TooFresh { digest, why })
}

/// The inspection, failed if the image does not have the required signature.
pub(super) async fn refuse_unsigned(mirror: &Mirror, mut inspection: Inspection) -> Inspection {
    let Some(policy) = &mirror.signature_policy else { return inspection };
    if matches!(inspection.step, Step::Done(Action::Failed(_))) {
        return inspection;
    }
    let job = &inspection.job;
    let by_name = || inspection.source.as_ref().map(|source| source.digest);
    let known = || match &inspection.step {
        // The source does not answer: it last pointed to this.
        Step::Done(Action::UpToDate { digest }) => {
            Some(mirror.mapping.source_digest(&job.source).unwrap_or(*digest))
        }
        _ => None,
    };
    let signed = match job.source_digest.or_else(by_name).or_else(known) {
        Some(digest) => policy.check_signature(job, digest).await,
        None => Err(Error::of(&job.source, ErrorKind::Unidentified)),
    };
    match signed {
        Ok(signed) => inspection.signed = signed,
        Err(error) => inspection.step = Step::Done(Action::Failed(error)),
    }
    inspection
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;

    /// Accepts every image.
    struct Anybody;

    impl SignaturePolicy for Anybody {
        fn check_signature<'a>(
            &'a self,
            _: &'a Job,
            _: Digest,
        ) -> BoxFuture<'a, Result<Option<String>, Error>> {
            Box::pin(async { Ok(None) })
        }
    }

    #[tokio::test]
    async fn an_image_without_a_known_digest_is_refused() {
        let mirror = Mirror::new(Client::builder().build().unwrap()).signature_policy(Arc::new(Anybody));
        let source: Reference = "h.example/a:1".parse().unwrap();
        let job = Arc::new(Job::new(source.clone(), source));
        let digest = Digest::of(b"");
        let unknown = Inspection::new(job, Step::Top { source: digest, wanted: None });
        let Step::Done(Action::Failed(error)) = refuse_unsigned(&mirror, unknown).await.step else {
            panic!("it is let through");
        };
        assert!(matches!(error.kind(), ErrorKind::Unidentified), "{error}");
    }
}
