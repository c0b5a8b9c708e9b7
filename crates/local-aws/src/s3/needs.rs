//! The permissions for a request to S3 (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html>).

use http::request::Parts;

use super::actions::{Action, Place};
use crate::account::Caller;
use crate::app::App;
use crate::fault::Fault;
use crate::http::{header, value};
use crate::kms;
use crate::policy::{Need, headers};
use crate::scope::Scope;
use crate::store::model::Bucket;
use crate::xml;

/// The parts of a request that determine its permissions.
pub(super) struct Asked<'a> {
    pub(super) app: &'a App,
    pub(super) parts: &'a Parts,
    pub(super) caller: &'a Caller,
    pub(super) place: Place,
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    pub(super) query: &'a [(String, String)],
    pub(super) body: &'a [u8],
}

impl Asked<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        header(self.parts, name)
    }

    fn arn(&self, rest: &str) -> String {
        format!("arn:{}:s3:::{}{rest}", self.caller.scope.partition(), self.bucket)
    }

    /// A permission with the headers that are condition keys.
    fn need(&self, action: &str, resource: String) -> Need {
        let known = headers().filter_map(|name| Some((format!("s3:{name}"), self.header(name)?)));
        known.fold(Need::new(action, resource), |need, (key, value)| need.with(&key, value))
    }

    /// All permissions for `action`.
    pub(super) fn needs(&self, action: &Action) -> Result<Vec<Need>, Fault> {
        let object = || self.arn(&format!("/{}", self.key));
        let mut needs = match (action.name, self.place) {
            // One for each object. AWS deletes the permitted ones and lists the others; here one denied object fails the request.
            ("DeleteObjects", _) => {
                let body = String::from_utf8_lossy(self.body);
                let keys = xml::elements(&body, "Object").into_iter().filter_map(|one| xml::text(one, "Key"));
                keys.map(|key| self.need(action.iam, self.arn(&format!("/{key}")))).collect()
            }
            // With a version, AWS checks another permission.
            (_, Place::Object) if value(self.query, "versionId").is_some() => {
                vec![self.need(&format!("{}Version", action.iam), object())]
            }
            (_, Place::Object) => vec![self.need(action.iam, object())],
            (_, Place::Bucket) => vec![self.need(action.iam, self.arn(""))],
            (_, Place::Service) => vec![self.need(action.iam, "*".to_owned())],
        };
        if action.name == "CreateBucket" {
            for (name, iam) in [
                ("x-amz-acl", "s3:PutBucketAcl"),
                ("x-amz-object-ownership", "s3:PutBucketOwnershipControls"),
            ] {
                needs.extend(self.header(name).map(|_| self.need(iam, self.arn(""))));
            }
        }
        if let Some(bucket) = self.app.store.buckets().get(self.bucket) {
            needs.extend(self.of_content(action, &bucket)?);
        }
        Ok(needs)
    }

    /// The permissions for the stored or written content, in addition to S3's own.
    fn of_content(&self, action: &Action, bucket: &Bucket) -> Result<Vec<Need>, Fault> {
        let scope = Scope { account: bucket.account.clone(), region: bucket.region.clone() };
        let key = |iam: &str, name: Option<&str>| {
            let arn = kms::key_arn(self.app, &scope, name, "s3")?;
            Ok::<_, Fault>(Need::new(iam, arn).via("s3", &scope))
        };
        match action.name {
            "PutObject" => {
                let default =
                    |name| bucket.documents.get("encryption").and_then(|text| xml::text(text, name));
                let asked = self.header("x-amz-server-side-encryption").map(str::to_owned);
                let algorithm = asked.or_else(|| default("SSEAlgorithm")).unwrap_or_default();
                let named = self.header("x-amz-server-side-encryption-aws-kms-key-id").map(str::to_owned);
                let named = named.or_else(|| default("KMSMasterKeyID"));
                // A conditional overwrite also needs permission to read the object
                // (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>).
                let sees = self.header("if-match").is_some();
                let sees = sees.then(|| self.need("s3:GetObject", self.arn(&format!("/{}", self.key))));
                let encrypts = algorithm.starts_with("aws:kms");
                let encrypts = encrypts.then(|| key("kms:GenerateDataKey", named.as_deref())).transpose()?;
                Ok(sees.into_iter().chain(encrypts).collect())
            }
            "GetObject" | "HeadObject" => {
                let versions = bucket.objects.get(self.key);
                let Some(content) = versions.and_then(|versions| versions.last()?.content.as_ref()) else {
                    // Without permission to list the bucket, a missing object is reported as forbidden
                    // (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>).
                    return Ok(vec![self.need("s3:ListBucket", self.arn(""))]);
                };
                let stored = |name: &str| content.headers.get(name).map(String::as_str);
                let encrypted = stored("x-amz-server-side-encryption")
                    .is_some_and(|algorithm| algorithm.starts_with("aws:kms"));
                let decrypts = encrypted && action.name == "GetObject";
                let named = stored("x-amz-server-side-encryption-aws-kms-key-id");
                Ok(decrypts.then(|| key("kms:Decrypt", named)).transpose()?.into_iter().collect())
            }
            _ => Ok(Vec::new()),
        }
    }
}
