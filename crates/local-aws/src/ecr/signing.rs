//! Managed signing, as configured by `PutSigningConfiguration`
//! (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/managed-signing.html>).
//!
//! ECR signs after the push, with the permissions of the pusher; here it is done before the push is answered, so that tests need not wait.
//! Only new images are signed: it is not documented whether ECR signs an image again when it gets another tag, nor which failure codes
//! exist. Every profile exists: the error for a missing one can only be tested at AWS. The signature is a referrer in Notation's format,
//! without a real signature.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::image_actions::Wanted;
use super::images::{self, Put, not_found};
use super::{ON_REPOSITORY, repositories, wildcard};
use crate::app::App;
use crate::fault::Fault;
use crate::iam;
use crate::input::Input;
use crate::manifest;
use crate::policy::{Need, Principal};
use crate::quirks::Delay;
use crate::resource::{Asked, Call, ON_ALL, Resource, ask};
use crate::scope::Scope;
use crate::store::model::{Image, Layer, SigningFailure};

pub(super) const RESOURCE: Resource = Resource {
    actions: &[
        ("DeleteSigningConfiguration", ON_ALL, delete),
        ("DescribeImageSigningStatus", ON_REPOSITORY, describe_status),
        ("GetSigningConfiguration", ON_ALL, get),
        ("PutSigningConfiguration", ON_ALL, put),
    ],
    existing: None,
    scenarios: &[("signatures", SIGNING)],
};

/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_SigningConfiguration.html>
const MOST_RULES: usize = 10;
/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_SigningRule.html>
const MOST_FILTERS: usize = 100;

fn get(call: &Call<'_>, _: &Input) -> Result<Value, Fault> {
    let settings = call.app.store.region(&call.scope).settings();
    let rules = settings.signing.as_ref().ok_or_else(|| none(call))?;
    Ok(json!({ "registryId": call.scope.account, "signingConfiguration": { "rules": rules } }))
}

fn put(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let rules = input.value("signingConfiguration").and_then(|wanted| wanted["rules"].as_array());
    let rules = rules.ok_or_else(|| invalid("signingConfiguration.rules", "Member must not be null"))?;
    if rules.len() > MOST_RULES {
        let most = format!("Member must have length less than or equal to {MOST_RULES}");
        return Err(invalid("signingConfiguration.rules", &most));
    }
    rules.iter().try_for_each(|rule| check(&call.scope, rule))?;
    call.app.store.region(&call.scope).change_settings(|settings| {
        settings.signing = Some(rules.clone());
        Ok(())
    })?;
    Ok(json!({ "signingConfiguration": { "rules": rules } }))
}

fn delete(call: &Call<'_>, _: &Input) -> Result<Value, Fault> {
    let region = call.app.store.region(&call.scope);
    let rules = region.change_settings(|settings| settings.signing.take().ok_or_else(|| none(call)))?;
    Ok(json!({ "registryId": call.scope.account, "signingConfiguration": { "rules": rules } }))
}

/// A status for each profile in the rules when the image was pushed.
fn describe_status(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let id = input.value("imageId").cloned().unwrap_or_default();
    let want = Wanted { digest: id["imageDigest"].as_str(), tag: id["imageTag"].as_str() };
    if want.digest.or(want.tag).is_none() {
        return Err(invalid("imageId", "both tag and digest cannot be null"));
    }
    let repository = repositories::find(call.app, &call.scope, name)?;
    let found = want.find(&repository);
    let (digest, image) = found.map_err(|_| not_found(&call.scope, name, want.digest, want.tag))?;
    let in_progress = call.app.quirks.delays.left(Delay::Signing, digest).is_some();
    let statuses = image.signing.iter().map(|(profile, failure)| {
        let (status, failure) = match failure {
            _ if in_progress => ("IN_PROGRESS", None),
            Some(failure) => ("FAILED", Some(failure)),
            None => ("COMPLETE", None),
        };
        json!({
            "signingProfileArn": profile,
            "status": status,
            "failureCode": failure.map(|failure| &failure.code),
            "failureReason": failure.map(|failure| &failure.reason),
        })
    });
    Ok(json!({
        "registryId": call.scope.account,
        "repositoryName": name,
        "imageId": { "imageDigest": digest, "imageTag": want.tag },
        "signingStatuses": statuses.collect::<Vec<_>>(),
    }))
}

/// Signs a new image with the profile of each rule for its repository, and returns the permissions that `pusher` needed for it.
pub(super) fn sign(
    app: &App,
    scope: &Scope,
    name: &str,
    digest: &str,
    pusher: &Principal,
) -> Result<Vec<Need>, Fault> {
    let settings = app.store.region(scope).settings();
    let rules = settings.signing.iter().flatten().filter(|rule| applies(rule, name));
    let profiles: BTreeSet<&str> = rules.filter_map(|rule| rule["signingProfileArn"].as_str()).collect();
    let repository = repositories::find(app, scope, name)?;
    let image = repository.images.get(digest);
    // Signatures and other artifacts are not signed.
    let Some(image) = image.filter(|image| image.subject.is_none() && image.is_container_image()) else {
        return Ok(Vec::new());
    };
    let mut needs = Vec::new();
    for profile in profiles {
        let need = Need::new("signer:SignPayload", profile);
        let failure = match iam::authorize(app, pusher, std::slice::from_ref(&need)) {
            Ok(()) => {
                let signature = Signature { subject: (digest, image), profile, pusher };
                signature.attach(app, scope, name)?;
                None
            }
            Err(fault) => Some(SigningFailure { code: fault.code, reason: fault.message }),
        };
        repositories::change(app, scope, name, |repository| {
            if let Some(image) = repository.images.get_mut(digest) {
                image.signing.insert(profile.to_owned(), failure);
            }
            Ok(())
        })?;
        needs.push(need);
    }
    if !needs.is_empty() {
        app.quirks.delays.begin(Delay::Signing, digest);
    }
    Ok(needs)
}

/// A rule without filters applies to every repository.
fn applies(rule: &Value, name: &str) -> bool {
    let Some(filters) = rule["repositoryFilters"].as_array() else { return true };
    filters
        .iter()
        .filter_map(|filter| filter["filter"].as_str())
        .any(|filter| wildcard::matches(filter, name))
}

/// The signature artifact of an image.
struct Signature<'a> {
    subject: (&'a str, &'a Image),
    profile: &'a str,
    pusher: &'a Principal,
}

impl Signature<'_> {
    /// <https://github.com/notaryproject/specifications/blob/main/specs/signature-specification.md>
    fn attach(&self, app: &App, scope: &Scope, name: &str) -> Result<(), Fault> {
        let (digest, image) = self.subject;
        let envelope = json!({ "emulated": true, "signer": self.profile, "subject": digest }).to_string();
        let config = blob(app, scope, name, "application/vnd.oci.empty.v1+json", b"{}")?;
        let layer = blob(app, scope, name, "application/jose+json", envelope.as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest::OCI_MANIFEST,
            "artifactType": "application/vnd.cncf.notary.signature",
            "config": config,
            "layers": [layer],
            "subject": { "mediaType": image.media_type, "digest": digest, "size": image.manifest_size },
        });
        let bytes = manifest.to_string().into_bytes();
        let put = Put { bytes: &bytes, media_type: None, tag: None, digest: None, by: self.pusher };
        images::store(app, scope, name, &put).map(drop)
    }
}

/// Stores a blob of ECR's own, and returns its descriptor.
fn blob(app: &App, scope: &Scope, name: &str, media_type: &str, bytes: &[u8]) -> Result<Value, Fault> {
    let digest = app.store.contents.put(bytes)?;
    let size = bytes.len() as u64;
    repositories::change(app, scope, name, |repository| {
        // Completed long ago, so that manifests can refer to it immediately.
        repository.layers.entry(digest.clone()).or_insert(Layer { size, completed: 0 });
        Ok(())
    })?;
    Ok(json!({ "mediaType": media_type, "digest": digest, "size": size }))
}

fn none(call: &Call<'_>) -> Fault {
    Fault::client(
        "SigningConfigurationNotFoundException",
        format!("Signing configuration does not exist in the registry with id '{}'", call.scope.account),
    )
}

fn invalid(member: &str, constraint: &str) -> Fault {
    Fault::invalid_parameter(format!(
        "Invalid parameter at '{member}' failed to satisfy constraint: '{constraint}'"
    ))
}

/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_SigningRule.html>
fn check(scope: &Scope, rule: &Value) -> Result<(), Fault> {
    let arn = rule["signingProfileArn"].as_str().unwrap_or_default();
    let place = place(arn).ok_or_else(|| {
        invalid("signingProfileArn", &format!("Member must satisfy regular expression pattern ({arn})"))
    })?;
    if place != (scope.partition(), scope.region.as_str()) {
        let message =
            format!("The signing profile '{arn}' is not in the region of the registry, {}", scope.region);
        return Err(Fault::client("ValidationException", message));
    }
    let Some(filters) = rule["repositoryFilters"].as_array() else { return Ok(()) };
    if !(1..=MOST_FILTERS).contains(&filters.len()) {
        let bounds = format!("Member must have length between 1 and {MOST_FILTERS}");
        return Err(invalid("repositoryFilters", &bounds));
    }
    let is_wrong = |filter: &&Value| {
        filter["filterType"] != "WILDCARD_MATCH" || !filter["filter"].as_str().is_some_and(is_valid_filter)
    };
    match filters.iter().find(is_wrong) {
        Some(filter) => Err(invalid("repositoryFilters", &format!("Invalid filter {filter}"))),
        None => Ok(()),
    }
}

/// The partition and the region of a signing profile.
fn place(arn: &str) -> Option<(&str, &str)> {
    let fields: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, "signer", region, account, name] = fields[..] else { return None };
    let name = name.strip_prefix("/signing-profiles/")?;
    let fits = arn.len() <= 200
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && name.len() >= 2
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    fits.then_some((partition, region))
}

/// A repository's name in which `*` matches anything.
fn is_valid_filter(filter: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'*')
    };
    filter.len() <= 256 && filter.split('/').all(|part| part.split(['.', '_', '-']).all(word))
}

/// The registry's rules, and an image that is signed by one of them.
const SIGNING: &[Asked] = &[
    ask("rules of a new one", "GetSigningConfiguration", "{}", &["/signingConfiguration"]),
    ask("delete the rules of a new one", "DeleteSigningConfiguration", "{}", &[]),
    ask("no rules", "PutSigningConfiguration", r#"{"signingConfiguration":{"rules":[]}}"#, &[]),
    ask(
        "rules, none of them",
        "GetSigningConfiguration",
        "{}",
        &["/registryId", "/signingConfiguration/rules/0"],
    ),
    ask(
        "a profile that is none",
        "PutSigningConfiguration",
        r#"{"signingConfiguration":{"rules":[{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/htc-grid"}]}}"#,
        &[],
    ),
    ask(
        "a profile's version",
        "PutSigningConfiguration",
        r#"{"signingConfiguration":{"rules":[{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/htc_grid/0123456789"}]}}"#,
        &[],
    ),
    ask(
        "a profile of another region",
        "PutSigningConfiguration",
        r#"{"signingConfiguration":{"rules":[{"signingProfileArn":"arn:aws:signer:us-east-1:123456789012:/signing-profiles/htc_grid"}]}}"#,
        &[],
    ),
    ask(
        "a filter that no repository fits",
        "PutSigningConfiguration",
        r#"{"signingConfiguration":{"rules":[{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/htc_grid","repositoryFilters":[{"filter":"Signed/*","filterType":"WILDCARD_MATCH"}]}]}}"#,
        &[],
    ),
    ask(
        "a filter of another type",
        "PutSigningConfiguration",
        r#"{"signingConfiguration":{"rules":[{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/htc_grid","repositoryFilters":[{"filter":"signed","filterType":"PREFIX_MATCH"}]}]}}"#,
        &[],
    ),
    ask(
        "eleven rules",
        "PutSigningConfiguration",
        r#"{"signingConfiguration":{"rules":[{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_1"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_2"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_3"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_4"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_5"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_6"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_7"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_8"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_9"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_10"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_11"}]}}"#,
        &[],
    ),
    ask(
        "sign some",
        "PutSigningConfiguration",
        r#"{"signingConfiguration":{"rules":[{"signingProfileArn":"arn:aws:signer:eu-west-1:210987654321:/signing-profiles/htc_grid","repositoryFilters":[{"filter":"signed/*","filterType":"WILDCARD_MATCH"}]}]}}"#,
        &["/signingConfiguration/rules/0/signingProfileArn"],
    ),
    ask(
        "rules",
        "GetSigningConfiguration",
        "{}",
        &["/registryId", "/signingConfiguration/rules/0/repositoryFilters/0/filter"],
    ),
    ask("create", "CreateRepository", r#"{"repositoryName":"signed/a"}"#, &["/repository/repositoryName"]),
    ask("begin an upload", "InitiateLayerUpload", r#"{"repositoryName":"signed/a"}"#, &["upload</uploadId"]),
    ask(
        "a part",
        "UploadLayerPart",
        r#"{"repositoryName":"signed/a","uploadId":"{upload}","partFirstByte":0,"partLastByte":1,"layerPartBlob":"e30="}"#,
        &[],
    ),
    ask(
        "complete",
        "CompleteLayerUpload",
        r#"{"repositoryName":"signed/a","uploadId":"{upload}","layerDigests":["sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"]}"#,
        &[],
    ),
    ask(
        "push an image",
        "PutImage",
        r#"{"repositoryName":"signed/a","imageManifest":"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manifest.v2+json\",\"config\":{\"mediaType\":\"application/vnd.docker.container.image.v1+json\",\"size\":2,\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"},\"layers\":[]}","imageTag":"1"}"#,
        &["image</image/imageId/imageDigest"],
    ),
    ask(
        "its signature",
        "DescribeImageSigningStatus",
        r#"{"repositoryName":"signed/a","imageId":{"imageTag":"1"}}"#,
        &[
            "/imageId/imageTag",
            "/signingStatuses/0/signingProfileArn",
            "/signingStatuses/0/status",
            "/signingStatuses/0/failureCode",
            "/signingStatuses/1",
        ],
    ),
    ask(
        "its signature by its digest",
        "DescribeImageSigningStatus",
        r#"{"repositoryName":"signed/a","imageId":{"imageDigest":"{image}"}}"#,
        &["/imageId/imageTag", "/signingStatuses/0/status"],
    ),
    ask(
        "signatures of none",
        "DescribeImageSigningStatus",
        r#"{"repositoryName":"signed/a","imageId":{"imageTag":"2"}}"#,
        &[],
    ),
    ask(
        "signatures of no tag and no digest",
        "DescribeImageSigningStatus",
        r#"{"repositoryName":"signed/a","imageId":{}}"#,
        &[],
    ),
    ask(
        "signatures where nothing is",
        "DescribeImageSigningStatus",
        r#"{"repositoryName":"none","imageId":{"imageTag":"1"}}"#,
        &[],
    ),
    ask(
        "delete the rules",
        "DeleteSigningConfiguration",
        "{}",
        &["/signingConfiguration/rules/0/signingProfileArn"],
    ),
    ask("delete them again", "DeleteSigningConfiguration", "{}", &[]),
    ask("delete the repository", "DeleteRepository", r#"{"repositoryName":"signed/a","force":true}"#, &[]),
];
