//! ECR's signatures of the runtimes that a run put in place.

use aws::signing::{self, Signing};
use futures_util::future::join_all;
use images_config::RUNTIMES_REPOSITORY;

use super::{Done, Run};

/// The hint for a missing signature: ECR signs only at a push, and an existing build is not pushed again.
const AGAIN: &str = "change its `epoch` in images.toml to build, push and sign it again";

/// Warns about each runtime of this run that is not signed, if images.toml asks for signatures. This does not fail the run: the
/// runtimes themselves are in place.
pub(super) async fn warn_unsigned(run: &Run<'_>, done: Option<&Done>) -> anyhow::Result<()> {
    let (Some(account), Some(profile), Some(done)) =
        (&run.target.account, &run.config.registry.sign_runtimes, done)
    else {
        return Ok(());
    };
    let put = done.runtimes.iter().filter_map(|outcome| {
        let digest = outcome.result.as_ref().ok()?.digest?;
        Some((outcome.name.as_str(), digest.to_string()))
    });
    let asked = put.map(|(name, digest)| async move {
        (name, signing::wait_for_signature(&account.aws, RUNTIMES_REPOSITORY, &digest, &profile.arn).await)
    });
    let found = run.interrupt.guard(async { Ok(join_all(asked).await) }).await?;
    for (name, signing) in found {
        match signing {
            Ok(Signing::InProgress) => run.printer.line(format!(
                "{RUNTIMES_REPOSITORY}:{name}: ECR is still at work on its signature; `cargo xtask list-images` says what came of it"
            )),
            Ok(signing) => why_unsigned(name, &signing).into_iter().for_each(|line| run.printer.warn(line)),
            Err(error) => {
                run.printer.warn(format!("{RUNTIMES_REPOSITORY}:{name}: not known whether it is signed: {error:#}"));
            }
        }
    }
    Ok(())
}

/// Why a runtime is not signed, with a hint. `None` if it is, or if ECR is still signing it.
pub fn why_unsigned(name: &str, signing: &Signing) -> Option<String> {
    let why = match signing {
        Signing::Signed | Signing::InProgress => return None,
        Signing::Failed { code, reason } => format!("ECR could not sign it: {code}: {reason}"),
        Signing::NotSigned => "it was pushed before ECR had the rule".to_owned(),
    };
    Some(format!("{RUNTIMES_REPOSITORY}:{name} is not signed: {why}; {AGAIN}"))
}
