//! Direct requests to the emulated AWS.

use serde_json::{Value, json};

pub(crate) const REGION: &str = "eu-west-1";

/// A client of its services.
pub(crate) struct Aws {
    url: String,
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
}

impl Aws {
    pub(crate) fn at(url: String) -> Self {
        // Another test of this process may have done it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url, runtime: tokio::runtime::Runtime::new().unwrap(), http }
    }

    pub(crate) fn create_bucket(&self, name: &str) {
        let place = format!(
            "<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
        );
        self.s3("PUT", &format!("/{name}"), place.into_bytes());
    }

    fn authorization(service: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential=local/20260101/{REGION}/{service}/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature={:064}",
            0
        )
    }

    fn send(&self, request: reqwest::RequestBuilder) -> (u16, String) {
        self.runtime.block_on(async {
            let response = request.header("x-amz-date", "20260101T000000Z").send().await.unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        })
    }

    pub(crate) fn s3(&self, method: &str, path: &str, body: Vec<u8>) -> String {
        let method = method.parse::<reqwest::Method>().unwrap();
        let request = self.http.request(method, format!("{}{path}", self.url));
        let request = request.header("authorization", Self::authorization("s3")).body(body);
        let (status, text) = self.send(request);
        assert!(status < 300, "{path}: {status} {text}");
        text
    }

    fn call(&self, service: &str, target: &str, action: &str, body: &Value) -> Value {
        let request = self
            .http
            .post(&self.url)
            .header("authorization", Self::authorization(service))
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("{target}.{action}"))
            .body(body.to_string());
        let (status, text) = self.send(request);
        assert!(status < 300, "{action}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) fn ecr(&self, action: &str, body: &Value) -> Value {
        self.call("ecr", "AmazonEC2ContainerRegistry_V20150921", action, body)
    }

    pub(crate) fn kms(&self, action: &str, body: &Value) -> Value {
        self.call("kms", "TrentService", action, body)
    }

    pub(crate) fn repository(&self, name: &str) -> Value {
        self.ecr("DescribeRepositories", &json!({ "repositoryNames": [name] }))["repositories"][0].clone()
    }

    pub(crate) fn tags(&self, name: &str) -> Vec<String> {
        let arn = self.repository(name)["repositoryArn"].clone();
        let answer = self.ecr("ListTagsForResource", &json!({ "resourceArn": arn }));
        let tags = answer["tags"].as_array().unwrap().iter();
        tags.map(|tag| format!("{}={}", tag["Key"].as_str().unwrap(), tag["Value"].as_str().unwrap()))
            .collect()
    }
}
