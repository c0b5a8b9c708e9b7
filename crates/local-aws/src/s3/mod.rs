//! S3, path-style and as a virtual host below `localhost` (<https://docs.aws.amazon.com/AmazonS3/latest/API/Welcome.html>): what
//! terraform's backend, the check of a state bucket and the aws CLI use.

mod actions;
mod body;
mod buckets;
mod list;
mod needs;
mod objects;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};

use actions::{ACTIONS, Place, SUB_RESOURCES};
use needs::Asked;

use crate::account::{Caller, CallerError};
use crate::app::App;
use crate::fault::Fault;
use crate::http::{Answer, header, percent_decode, query, read, set, value, with_body, without_body};
use crate::iam;
use crate::journal::Entry;
use crate::quirks::Delay;
use crate::request::{note_caller, note_needs};
use crate::store::model::Bucket;
use crate::traffic::RequestBody;
use crate::xml::element;

/// Largest object, in bytes: states, plans and plan caches; images are not stored here.
const MOST_BYTES: usize = 256 * 1024 * 1024;

/// One request with its body.
struct Call<'a> {
    app: &'a App,
    parts: &'a Parts,
    caller: &'a Caller,
    bucket: &'a str,
    key: &'a str,
    query: &'a [(String, String)],
    body: Bytes,
}

impl Call<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        header(self.parts, name)
    }

    fn value(&self, name: &str) -> Option<&str> {
        value(self.query, name)
    }

    /// The bucket, if it exists and is in the region that the request was signed for. Its owner has been checked before.
    fn bucket(&self) -> Result<Arc<Bucket>, Fault> {
        let bucket = self.app.store.buckets().get(self.bucket).ok_or_else(no_such_bucket)?;
        if bucket.region != self.caller.scope.region {
            return Err(Fault::new(
                StatusCode::MOVED_PERMANENTLY,
                "PermanentRedirect",
                "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future \
                 requests to this endpoint.",
            ));
        }
        if let Some(expected) = self.header("x-amz-expected-bucket-owner")
            && expected != bucket.account
        {
            return Err(Fault::new(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"));
        }
        Ok(bucket)
    }
}

/// The names of the implemented actions.
pub(crate) fn actions() -> Vec<&'static str> {
    ACTIONS.iter().map(|(_, _, _, action)| action.name).collect()
}

fn no_such_bucket() -> Fault {
    Fault::not_found("NoSuchBucket", "The specified bucket does not exist")
}

/// Bucket and key: from the path, or the bucket from a host name below `localhost`.
fn address(parts: &Parts) -> (String, String) {
    let host = header(parts, "host").unwrap_or_default().split(':').next().unwrap_or_default();
    let path = parts.uri.path().trim_start_matches('/');
    let virtual_bucket = host.strip_suffix(".localhost").map(|name| name.strip_suffix(".s3").unwrap_or(name));
    match virtual_bucket.filter(|name| *name != "s3") {
        Some(bucket) => (bucket.to_owned(), percent_decode(path)),
        None => {
            let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
            (percent_decode(bucket), percent_decode(key))
        }
    }
}

pub(crate) async fn answer(
    app: &Arc<App>,
    parts: &Parts,
    mut body: RequestBody,
    entry: &mut Entry,
) -> Answer {
    let (bucket, key) = address(parts);
    "s3".clone_into(&mut entry.service);
    entry.resource = match (bucket.as_str(), key.as_str()) {
        ("", _) => "*".to_owned(),
        (bucket, "") => format!("arn:aws:s3:::{bucket}"),
        (bucket, key) => format!("arn:aws:s3:::{bucket}/{key}"),
    };
    let outcome = outcome(app, parts, &mut body, &bucket, &key, entry).await;
    if outcome.is_err() {
        crate::http::drain(&mut body).await;
    }
    let mut answer = outcome.unwrap_or_else(|fault| {
        entry.error.clone_from(&fault.code);
        let details = element("Code", &fault.code)
            + &element("Message", &fault.message)
            + &element("BucketName", &bucket)
            + &element("Resource", parts.uri.path())
            + &element("RequestId", &entry.number.to_string());
        let document = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>{details}</Error>");
        with_body(fault.status, "application/xml", document)
    });
    // Also with errors: clients use it to find the right region.
    if (entry.action == "HeadBucket" || !entry.error.is_empty())
        && let Some(bucket) = app.store.buckets().get(&bucket)
    {
        set(&mut answer, "x-amz-bucket-region", &bucket.region);
    }
    set(&mut answer, "x-amz-request-id", crate::store::new_id());
    if parts.method == Method::HEAD { without_body(answer) } else { answer }
}

async fn outcome(
    app: &Arc<App>,
    parts: &Parts,
    body: &mut RequestBody,
    bucket: &str,
    key: &str,
    entry: &mut Entry,
) -> Result<Answer, Fault> {
    let pairs = query(parts);
    let place = match (bucket, key) {
        ("", _) => Place::Service,
        (_, "") => Place::Bucket,
        _ => Place::Object,
    };
    let sub =
        pairs.iter().map(|(name, _)| name.as_str()).find(|name| SUB_RESOURCES.contains(name)).unwrap_or("");
    let method = parts.method.as_str();
    let found = ACTIONS.iter().find(|(m, p, s, _)| *m == method && *p == place && *s == sub);
    let Some((_, _, _, action)) = found else {
        entry.action = format!("{method} {}{sub}", if place == Place::Object { "object " } else { "" });
        return Err(Fault::not_implemented("s3", &entry.action));
    };
    action.name.clone_into(&mut entry.action);
    let bytes = read(body, MOST_BYTES).await?;
    let caller = Caller::of(parts, app).map_err(|none| match none {
        CallerError::Expired => Fault::client("ExpiredToken", "The provided token has expired."),
        CallerError::Skewed => Fault::new(
            StatusCode::FORBIDDEN,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        ),
        CallerError::Unsigned => Fault::new(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"),
        CallerError::Malformed => Fault::client(
            "AuthorizationHeaderMalformed",
            "The authorization header that you provided is not valid.",
        ),
    })?;
    note_caller(entry, &caller);
    let needs = {
        let (caller, query, body) = (&caller, &pairs, &bytes);
        Asked { app, parts, caller, place, bucket, key, query, body }.needs(action)?
    };
    note_needs(entry, &needs);
    iam::authorize(app, &caller.principal(), &needs).map_err(|fault| Fault {
        status: StatusCode::FORBIDDEN,
        code: fault.code.trim_end_matches("Exception").to_owned(),
        ..fault
    })?;
    if let Some(fault) = quirk_fault(app, parts, sub, place, bucket, key) {
        return Err(fault);
    }
    if app.quirks.throttles.at_random() {
        return Err(Fault::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "SlowDown",
            "Please reduce your request rate.",
        ));
    }
    let body = body::decode(parts, bytes)?;
    let (app, parts, bucket, key) = (Arc::clone(app), parts.clone(), bucket.to_owned(), key.to_owned());
    let handler = action.handler;
    tokio::task::spawn_blocking(move || {
        let call = Call {
            app: &app,
            parts: &parts,
            caller: &caller,
            bucket: &bucket,
            key: &key,
            query: &pairs,
            body,
        };
        handler(&call)
    })
    .await
    .unwrap_or_else(|error| Err(Fault::from(std::io::Error::other(error))))
}

/// Temporary errors of S3, by the enabled quirks.
fn quirk_fault(app: &App, parts: &Parts, sub: &str, place: Place, bucket: &str, key: &str) -> Option<Fault> {
    let conditional = parts.method == Method::DELETE && header(parts, "if-match").is_some();
    match place {
        Place::Bucket if !sub.is_empty() && parts.method != Method::POST => {
            app.quirks.delays.left(Delay::Bucket, bucket).map(|refusal| match refusal % 2 {
                0 => Fault::new(
                    StatusCode::CONFLICT,
                    "OperationAborted",
                    "A conflicting conditional operation is currently in progress against this resource. Please try again.",
                ),
                _ => no_such_bucket(),
            })
        }
        Place::Object if conditional && app.quirks.throttles.conflict() => Some(Fault::new(
            StatusCode::CONFLICT,
            "ConditionalRequestConflict",
            "The conditional request cannot succeed due to a conflicting operation against this resource.",
        )),
        Place::Object if parts.method != Method::PUT || header(parts, "if-match").is_some() => {
            let stands = app.store.buckets().get(bucket).is_some_and(|bucket| bucket.objects.contains_key(key));
            (stands && app.quirks.delays.left(Delay::Versions, bucket).is_some()).then(objects::no_such_key)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(host: &str, uri: &str) -> (String, String) {
        address(&http::Request::builder().uri(uri).header("host", host).body(()).unwrap().into_parts().0)
    }

    #[test]
    fn buckets_in_the_path_and_in_the_host() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            of("127.0.0.1:80", "/state/.terraform/terraform.tfstate"),
            pair("state", ".terraform/terraform.tfstate")
        );
        assert_eq!(of("127.0.0.1:80", "/state"), pair("state", ""));
        assert_eq!(of("state.localhost:80", "/a%20b"), pair("state", "a b"));
        assert_eq!(of("state.s3.localhost", "/"), pair("state", ""));
    }
}
