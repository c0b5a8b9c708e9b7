//! The buckets of a world's account.

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use crate::aws::{ADMINISTRATOR, Caller};
use crate::{ACCOUNT, BUCKET, STATE};

/// The account's S3.
#[derive(Clone, Debug)]
pub struct S3 {
    pub(crate) host: String,
}

impl S3 {
    /// A request about a bucket, such as `DELETE bucket?publicAccessBlock`, from the account itself or another one.
    pub fn bucket(&self, account: &str, method: &str, path: &str, body: &str) {
        let access_key = if account == ACCOUNT { ADMINISTRATOR } else { account };
        // S3 requires a checksum for settings.
        let settings = path.contains('?') && !body.is_empty();
        let sum = base64::prelude::BASE64_STANDARD.encode(Sha256::digest(body));
        let sums = [("x-amz-checksum-sha256", sum.as_str())];
        let headers = if settings { &sums[..] } else { &[] };
        let answer = self.caller(access_key).send(method, path, headers, body.as_bytes());
        assert!(answer.status < 300, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// Puts an object into a bucket.
    pub fn put(&self, bucket: &str, key: &str, body: &[u8]) {
        self.put_with(bucket, key, &[], body);
    }

    /// Puts an object with these headers into a bucket.
    pub fn put_with(&self, bucket: &str, key: &str, headers: &[(&str, &str)], body: &[u8]) {
        let answer = self.caller(ADMINISTRATOR).send("PUT", &format!("{bucket}/{key}"), headers, body);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// An object of a bucket, if it exists.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let answer = self.caller(ADMINISTRATOR).send("GET", &format!("{bucket}/{key}"), &[], b"");
        (answer.status == 200).then_some(answer.body)
    }

    /// An object's encryption: the algorithm, and the key in KMS.
    pub fn encryption(&self, bucket: &str, key: &str) -> (String, Option<String>) {
        let answer = self.caller(ADMINISTRATOR).send("GET", &format!("{bucket}/{key}"), &[], b"");
        assert_eq!(answer.status, 200, "{key}");
        let header = |name: &str| answer.header(name).map(str::to_owned);
        let key = header("x-amz-server-side-encryption-aws-kms-key-id");
        (header("x-amz-server-side-encryption").unwrap(), key)
    }

    /// A lock next to the state, by its suffix: `tflock` is terraform's, `transfer.lock` the lease.
    pub fn lock(&self, suffix: &str) -> Option<Vec<u8>> {
        self.get(BUCKET, &format!("{STATE}.{suffix}"))
    }

    fn caller<'a>(&'a self, access_key: &'a str) -> Caller<'a> {
        Caller { host: &self.host, service: "s3", access_key }
    }
}
