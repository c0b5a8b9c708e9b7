//! Direct requests to the emulated AWS of a world, and the aws CLI for it.

use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use rustix::process::Pid;
use serde_json::{Value, json};

use crate::{Emulator, MANIFESTS, REGION, Response, S3, get, request};

/// The emulated AWS: its ECR with the registry, and its KMS.
#[derive(Clone, Debug)]
pub struct Aws {
    /// Its process.
    pub pid: Pid,
    /// Its host.
    pub host: String,
    /// Its S3.
    pub s3: S3,
    /// The emulator's own interface.
    pub emulator: Emulator,
    home: PathBuf,
}

impl Aws {
    pub(crate) fn new(pid: Pid, port: u16, home: PathBuf) -> Self {
        let host = format!("127.0.0.1:{port}");
        let (s3, emulator) = (S3 { host: host.clone() }, Emulator { host: host.clone() });
        Self { pid, host, s3, emulator, home }
    }

    /// The IDs of the customer's KMS keys in the world's region that are not pending deletion, and their aliases. AWS's own keys, such as
    /// `aws/s3`, are created by the first request that needs them and remain.
    pub fn keys(&self) -> (Vec<String>, Vec<String>) {
        let mut existing = self.emulator.resources();
        let mut of = |kind| existing.remove(kind).unwrap();
        (of("aws_kms_key"), of("aws_kms_alias"))
    }

    /// Calls an action of KMS.
    pub fn kms(&self, action: &str, input: &Value) -> Value {
        self.json("kms", &format!("TrentService.{action}"), input)
    }

    /// Calls an action of ECR.
    pub fn ecr(&self, action: &str, input: &Value) -> Value {
        self.json("ecr", &format!("AmazonEC2ContainerRegistry_V20150921.{action}"), input)
    }

    fn json(&self, service: &str, target: &str, input: &Value) -> Value {
        let headers = [("x-amz-target", target), ("content-type", "application/x-amz-json-1.1")];
        let caller = Caller { host: &self.host, service, access_key: ADMINISTRATOR };
        let answer = caller.send("POST", "", &headers, input.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{target}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// The names of all repositories.
    pub fn repositories(&self) -> Vec<String> {
        let answer = self.ecr("DescribeRepositories", &json!({ "maxResults": 1000 }));
        let all = answer["repositories"].as_array().unwrap();
        all.iter().map(|repository| repository["repositoryName"].as_str().unwrap().to_owned()).collect()
    }

    /// User name and password for the registry.
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
        let headers = [("authorization", basic.as_str()), MANIFESTS];
        request(method, &format!("http://{}/v2/{path}", self.host), &headers, b"")
    }

    /// Every tag of every repository with the digest of its manifest, after reading everything that it refers to.
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

    /// Reads a manifest and everything below it, and checks every digest.
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

    /// A blob, which the registry may redirect to another server.
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

    /// The aws CLI, configured for this server.
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

/// The access key of an administrator of the account, whatever the policy of its user `local` is.
pub(crate) const ADMINISTRATOR: &str = "admin";

/// The caller of a service; the emulated AWS accepts any signature.
pub(crate) struct Caller<'a> {
    pub(crate) host: &'a str,
    pub(crate) service: &'a str,
    pub(crate) access_key: &'a str,
}

impl Caller<'_> {
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let Self { host, service, access_key } = self;
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={access_key}/20261122/{REGION}/{service}/aws4_request, SignedHeaders=host, \
             Signature=00"
        );
        let headers = [&[("authorization", authorization.as_str())], headers].concat();
        request(method, &format!("http://{host}/{path}"), &headers, body)
    }
}
