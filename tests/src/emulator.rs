//! The emulated AWS of a world, asked directly and by the aws CLI.

use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use rustix::process::Pid;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{ACCOUNT, BUCKET, REGION, Response, get, request};

/// The alias of the key that HTC-Grid's template encrypts its bucket with.
pub const STATE_ALIAS: &str = "alias/htc/mainline-htc-state-s3";

/// The emulated AWS.
#[derive(Clone, Debug)]
pub struct Aws {
    /// Its process.
    pub pid: Pid,
    /// Its host.
    pub host: String,
    home: PathBuf,
}

impl Aws {
    pub(crate) fn new(pid: Pid, port: u16, home: PathBuf) -> Self {
        Self { pid, host: format!("127.0.0.1:{port}"), home }
    }

    /// The requests since the last [`Aws::forget`].
    pub fn log(&self) -> Vec<Value> {
        serde_json::from_value(get(&format!("http://{}/_local/log", self.host)).json()).unwrap()
    }

    /// Starts the log anew.
    pub fn forget(&self) {
        self.own("reset-requests", &json!({}));
    }

    /// Sets the emulator's quirks.
    pub fn quirks(&self, names: &[&str]) {
        self.own("quirks", &json!({ "quirks": names }));
    }

    /// Waits until the emulator keeps an answer back (`hold-answer`), and gives its request; none where `over` says that no
    /// more requests come.
    pub fn held(&self, mut over: impl FnMut() -> bool) -> Option<String> {
        let started = std::time::Instant::now();
        loop {
            // Asked before the look: what was held before the end is seen.
            let last = over();
            let held: Vec<String> =
                serde_json::from_value(get(&format!("http://{}/_local/held", self.host)).json()).unwrap();
            if let Some(request) = held.into_iter().next() {
                return Some(request);
            }
            if last {
                return None;
            }
            assert!(started.elapsed() < crate::gate::BOUND, "no such request came");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// The ids of the customer's KMS keys in the world's region that are not on their way out, and their aliases. AWS's own keys,
    /// such as `aws/s3`, are made by the first request that needs them and stay.
    pub fn keys(&self) -> (Vec<String>, Vec<String>) {
        let all = self.kms("ListKeys", &json!({}));
        let ids = all["Keys"].as_array().unwrap().iter().map(|key| key["KeyId"].as_str().unwrap().to_owned());
        let lives = |id: &String| {
            let key = self.kms("DescribeKey", &json!({ "KeyId": id }));
            key["KeyMetadata"]["KeyState"] == "Enabled" && key["KeyMetadata"]["KeyManager"] == "CUSTOMER"
        };
        let aliases = self.kms("ListAliases", &json!({}));
        let aliases = aliases["Aliases"].as_array().unwrap().iter();
        let aliases = aliases.map(|alias| alias["AliasName"].as_str().unwrap().to_owned());
        (ids.filter(lives).collect(), aliases.filter(|name| !name.starts_with("alias/aws/")).collect())
    }

    /// An action of KMS's.
    pub fn kms(&self, action: &str, input: &Value) -> Value {
        self.json("kms", &format!("TrentService.{action}"), input)
    }

    /// Whoever runs commands is from here on this user, with this as the only policy.
    pub fn caller(&self, user: &str, policy: &Value) {
        self.own("users", &json!({ "access_key": "local", "user": user }));
        let principal = format!("arn:aws:iam::{ACCOUNT}:user/{user}");
        self.own("policies", &json!({ "principal": principal, "policy": policy }));
    }

    /// Puts a CloudFormation stack into the account: `name`, `region`, `outputs`.
    pub fn stack(&self, stack: &Value) {
        self.own("stacks", stack);
    }

    /// What a scan of an image in the world's region has found, by severity; `tag`: or its digest.
    pub fn findings(&self, repository: &str, tag: &str, findings: &Value) {
        let body = json!({ "region": REGION, "repository": repository, "tag": tag, "findings": findings });
        self.own("findings", &body);
    }

    fn own(&self, path: &str, body: &Value) {
        let answer =
            request("POST", &format!("http://{}/_local/{path}", self.host), &[], body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// What was changed since the last [`Aws::forget`]. Terraform's own lock, which a plan takes and gives back, does not
    /// count.
    pub fn changes(&self) -> Vec<String> {
        let reads =
            ["Get", "Head", "List", "Describe", "BatchGet", "BatchCheck", "GET", "HEAD", "Decrypt", "Assume"];
        self.log()
            .into_iter()
            .filter(|entry| entry["status"].as_u64().unwrap() < 400)
            .filter(|entry| !reads.iter().any(|read| entry["action"].as_str().unwrap().starts_with(read)))
            .filter(|entry| !entry["path"].as_str().unwrap().ends_with(".tflock"))
            .map(|entry| format!("{} {} {}", entry["service"], entry["action"], entry["path"]))
            .collect()
    }

    fn signed(
        &self,
        service: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=admin/20261122/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=00"
        );
        let all: Vec<_> =
            [("authorization", authorization.as_str())].into_iter().chain(headers.iter().copied()).collect();
        request(method, &format!("http://{}/{path}", self.host), &all, body)
    }

    /// A request about a bucket, as `DELETE bucket?publicAccessBlock`, by the account itself or by another.
    pub fn bucket(&self, account: &str, method: &str, path: &str, body: &str) {
        // The account's own is an administrator, whatever policy its user `local` has.
        let key = if account == ACCOUNT { "admin" } else { account };
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={key}/20261122/{REGION}/s3/aws4_request, SignedHeaders=host, Signature=00"
        );
        let url = format!("http://{}/{path}", self.host);
        // S3 takes no settings without a checksum.
        let settings = path.contains('?') && !body.is_empty();
        let sum = base64::prelude::BASE64_STANDARD.encode(Sha256::digest(body));
        let headers = [("authorization", authorization.as_str()), ("x-amz-checksum-sha256", &sum)];
        let answer = request(method, &url, &headers[..if settings { 2 } else { 1 }], body.as_bytes());
        assert!(answer.status < 300, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// The settings that HTC-Grid's CloudFormation template gives a bucket: encrypted with a key of its own that is named by its
    /// alias, versioned, and no object is taken whose request does not say aws:kms.
    pub fn as_cloudformation_sets_it(&self) {
        let key = self.kms("CreateKey", &json!({}))["KeyMetadata"]["KeyId"].clone();
        self.kms("CreateAlias", &json!({ "AliasName": STATE_ALIAS, "TargetKeyId": key }));
        let encryption = format!(
            "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm>\
             <KMSMasterKeyID>arn:aws:kms:{REGION}:{ACCOUNT}:{STATE_ALIAS}</KMSMasterKeyID></ApplyServerSideEncryptionByDefault>\
             <BucketKeyEnabled>true</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>"
        );
        self.bucket(ACCOUNT, "PUT", &format!("{BUCKET}?encryption"), &encryption);
        let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        self.bucket(ACCOUNT, "PUT", &format!("{BUCKET}?versioning"), versioning);
        let objects = format!("arn:aws:s3:::{BUCKET}/*");
        let deny = |sid: &str, condition: Value| {
            json!({
                "Sid": sid, "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": objects,
                "Condition": condition,
            })
        };
        let policy = json!({ "Statement": [
            deny("WithoutAnyEncryption", json!({ "Null": { "s3:x-amz-server-side-encryption": true } })),
            deny("WithAnotherEncryption", json!({ "StringNotEquals": { "s3:x-amz-server-side-encryption": "aws:kms" } })),
            deny("WithoutTls", json!({ "Bool": { "aws:SecureTransport": false } })),
            deny("ForEverybody", json!({ "StringEquals": { "s3:x-amz-acl": ["public-read", "public-read-write"] } })),
        ] });
        self.bucket(ACCOUNT, "PUT", &format!("{BUCKET}?policy"), &policy.to_string());
    }

    /// Puts an object into a bucket.
    pub fn put_object(&self, bucket: &str, key: &str, body: &[u8]) {
        self.put_object_with(bucket, key, &[], body);
    }

    /// Puts an object into a bucket with these headers.
    pub fn put_object_with(&self, bucket: &str, key: &str, headers: &[(&str, &str)], body: &[u8]) {
        let answer = self.signed("s3", "PUT", &format!("{bucket}/{key}"), headers, body);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// An object of a bucket, if it is there.
    pub fn object(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let answer = self.signed("s3", "GET", &format!("{bucket}/{key}"), &[], b"");
        (answer.status == 200).then_some(answer.body)
    }

    /// What an object of a bucket is encrypted with: the algorithm, and the key in KMS.
    pub fn encryption(&self, bucket: &str, key: &str) -> (String, Option<String>) {
        let answer = self.signed("s3", "GET", &format!("{bucket}/{key}"), &[], b"");
        assert_eq!(answer.status, 200, "{key}");
        let header = |name: &str| answer.header(name).map(str::to_owned);
        let key = header("x-amz-server-side-encryption-aws-kms-key-id");
        (header("x-amz-server-side-encryption").unwrap(), key)
    }

    /// An action of ECR's.
    pub fn ecr(&self, action: &str, input: &Value) -> Value {
        self.json("ecr", &format!("AmazonEC2ContainerRegistry_V20150921.{action}"), input)
    }

    fn json(&self, service: &str, target: &str, input: &Value) -> Value {
        let headers = [("x-amz-target", target), ("content-type", "application/x-amz-json-1.1")];
        let answer = self.signed(service, "POST", "", &headers, input.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{target}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// The names of all repositories.
    pub fn repositories(&self) -> Vec<String> {
        let answer = self.ecr("DescribeRepositories", &json!({ "maxResults": 1000 }));
        let all = answer["repositories"].as_array().unwrap();
        all.iter().map(|repository| repository["repositoryName"].as_str().unwrap().to_owned()).collect()
    }

    /// User and password of the registry.
    pub fn login(&self) -> (String, String) {
        let answer = self.ecr("GetAuthorizationToken", &json!({}));
        let token = answer["authorizationData"][0]["authorizationToken"].as_str().unwrap();
        let token = base64::prelude::BASE64_STANDARD.decode(token).unwrap();
        let token = String::from_utf8(token).unwrap();
        let (user, password) = token.split_once(':').unwrap();
        (user.to_owned(), password.to_owned())
    }

    /// A request to the registry, with its token.
    pub fn registry(&self, method: &str, path: &str) -> Response {
        let (user, password) = self.login();
        let basic =
            format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}")));
        let accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.docker.distribution.manifest.v2+json";
        let headers = [("authorization", basic.as_str()), ("accept", accept)];
        request(method, &format!("http://{}/v2/{path}", self.host), &headers, b"")
    }

    /// Every tag of every repository, each with the digest of its manifest, after all that it stands on was read whole.
    pub fn whole_tags(&self) -> Vec<(String, String)> {
        let mut whole = Vec::new();
        for repository in self.repositories() {
            let answer = self.registry("GET", &format!("{repository}/tags/list"));
            let tags = answer.json()["tags"].as_array().cloned().unwrap_or_default();
            for tag in tags.iter().map(|tag| tag.as_str().unwrap()) {
                whole.push((format!("{repository}:{tag}"), self.whole(&repository, tag)));
            }
        }
        whole
    }

    /// Reads a manifest and all below it, and checks every digest.
    fn whole(&self, repository: &str, reference: &str) -> String {
        let answer = self.registry("GET", &format!("{repository}/manifests/{reference}"));
        assert_eq!(answer.status, 200, "{repository}:{reference}");
        let manifest = answer.json();
        for child in manifest["manifests"].as_array().into_iter().flatten() {
            let child = child["digest"].as_str().unwrap();
            assert_eq!(self.whole(repository, child), child);
        }
        for blob in manifest["layers"].as_array().into_iter().flatten().chain(manifest.get("config")) {
            let wanted = blob["digest"].as_str().unwrap();
            assert_eq!(crate::digest(&self.blob(repository, wanted)), wanted, "{repository}:{reference}");
        }
        crate::digest(&answer.body)
    }

    /// A blob, which the registry may keep elsewhere.
    fn blob(&self, repository: &str, wanted: &str) -> Vec<u8> {
        let answer = self.registry("GET", &format!("{repository}/blobs/{wanted}"));
        match answer.header("location") {
            Some(elsewhere) if answer.status == 307 => get(elsewhere).body,
            _ => {
                assert_eq!(answer.status, 200, "{repository} {wanted}");
                answer.body
            }
        }
    }

    /// The aws CLI, pointed here.
    pub fn cli(&self, line: &str) -> Command {
        let mut aws = crate::traffic::aws_command();
        aws.args(line.split_whitespace()).env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            aws.env("PATH", path);
        }
        aws.env("HOME", &self.home)
            .env("AWS_ENDPOINT_URL", format!("http://{}", self.host))
            .env("AWS_ACCESS_KEY_ID", "local")
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .env("AWS_REGION", REGION)
            .env("AWS_DEFAULT_REGION", REGION)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_PAGER", "");
        aws
    }
}
