//! Authorizes each request by the caller's own policy and the bucket's, the key's or the repository's.

pub(crate) mod api;

use crate::app::App;
use crate::fault::Fault;
use crate::kms;
use crate::policy::{Kind, Need, Owner, Policy, Principal, Question, decide, no, refusal};
use crate::quirks::Quirk;
use crate::scope::Scope;

/// Returns AWS's error for the first of `needs` that the caller lacks
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html>).
pub(crate) fn authorize(app: &App, principal: &Principal, needs: &[Need]) -> Result<(), Fault> {
    // A request to this machine counts as one over TLS, as clients use TLS for AWS.
    let secure = !app.quirks.is_on(&Quirk::PlainHttp);
    needs.iter().try_for_each(|need| {
        if app.quirks.denies(&need.action) {
            return Err(refusal(principal, need, &no("identity", need)));
        }
        let question = Question { principal, need, secure };
        decide(app.identities.judge(&question), owner(app, need).as_ref(), &question)
    })
}

/// Policies were validated when they were put: one that cannot be parsed now is of an older version, and allows nothing.
fn read(text: &str, kind: Kind) -> Option<Policy> {
    Policy::parse(text, kind)
        .inspect_err(|error| tracing::warn!(%error, "a stored policy is not enforced: it allows nothing"))
        .ok()
}

/// The owner of the needed resource; `None` if the resource does not exist or has no owner.
fn owner(app: &App, need: &Need) -> Option<Owner> {
    let mut fields = need.resource.splitn(6, ':').skip(2);
    let (service, region, account, name) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let scope = Scope { account: account.to_owned(), region: region.to_owned() };
    match service {
        // A name that another account uses is a conflict, not forbidden.
        "s3" if need.action == "s3:CreateBucket" => None,
        "s3" => {
            let bucket = app.store.buckets().get(name.split('/').next().unwrap_or_default())?;
            let policy = bucket.documents.get("policy").and_then(|text| read(text, Kind::Resource));
            Some(Owner { account: bucket.account.clone(), policy, is_key: false })
        }
        "ecr" => {
            let repository = app.store.region(&scope).repository(name.strip_prefix("repository/")?)?;
            let policy = repository.policy.as_deref().and_then(|text| read(text, Kind::Repository));
            Some(Owner { account: scope.account, policy, is_key: false })
        }
        "kms" => {
            let policy = kms::policy(app, &scope, name.strip_prefix("key/")?)?;
            Some(Owner { account: scope.account, policy: read(&policy, Kind::Resource), is_key: true })
        }
        _ => None,
    }
}
