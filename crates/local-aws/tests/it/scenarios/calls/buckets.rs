//! S3: the bucket of a terraform state, its lock, and the other settings of a bucket.

use reqwest::Method;

use super::{Call, Request};

const fn s3(
    name: &'static str,
    method: Method,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    shown: &'static [&'static str],
) -> Call {
    Call { name, request: Request::S3 { method, path, headers, body }, shown }
}

const GET: Method = Method::GET;
const PUT: Method = Method::PUT;
const HEAD: Method = Method::HEAD;
const DELETE: Method = Method::DELETE;
const POST: Method = Method::POST;

const TLS_ONLY: &str = r#"{"Version":"2012-10-17","Statement":[{"Sid":"TlsOnly","Effect":"Deny","Principal":"*","Action":"s3:*",
    "Resource":["arn:aws:s3:::state","arn:aws:s3:::state/*"],"Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}"#;
const CONSTRAINT: &str = "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
const VERSIONED: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
const KMS_ENCRYPTED: &str = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms\
    </SSEAlgorithm></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>true</BucketKeyEnabled></Rule>\
    </ServerSideEncryptionConfiguration>";
const PRIVATE: &str = "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true\
    </IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets>\
    </PublicAccessBlockConfiguration>";
const ANOTHER_TLS_ONLY: &str = r#"{"Version":"2012-10-17","Statement":[{"Sid":"TlsOnly","Effect":"Deny","Principal":"*","Action":"s3:*",
    "Resource":["arn:aws:s3:::another","arn:aws:s3:::another/*"],"Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}"#;
const TAGS: &str = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
const OWNED: &str = "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>";
const TWO: &str = "<Delete><Object><Key>a</Key></Object><Object><Key>none</Key></Object></Delete>";

/// Checks and creates a state bucket.
pub(super) const STATE: &[Call] = &[
    s3("look for a bucket that is not there", HEAD, "state", &[], "", &[]),
    s3("create without a region", PUT, "state", &[], "", &[]),
    s3("create", PUT, "state", &[], CONSTRAINT, &[]),
    s3("create again", PUT, "state", &[], CONSTRAINT, &[]),
    s3("look for it", HEAD, "state", &[], "", &["header:x-amz-bucket-region"]),
    s3("location", GET, "state?location", &[], "", &["LocationConstraint"]),
    s3("versioning of a new one", GET, "state?versioning", &[], "", &["Status"]),
    s3("set versioning", PUT, "state?versioning", &[], VERSIONED, &[]),
    s3("versioning", GET, "state?versioning", &[], "", &["Status"]),
    s3("encryption of a new one", GET, "state?encryption", &[], "", &["SSEAlgorithm"]),
    s3("set encryption", PUT, "state?encryption", &[], KMS_ENCRYPTED, &[]),
    s3("encryption", GET, "state?encryption", &[], "", &["SSEAlgorithm", "BucketKeyEnabled"]),
    s3("public access of a new one", GET, "state?publicAccessBlock", &[], "", &["BlockPublicPolicy"]),
    s3("block public access", PUT, "state?publicAccessBlock", &[], PRIVATE, &[]),
    s3(
        "public access",
        GET,
        "state?publicAccessBlock",
        &[],
        "",
        &["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"],
    ),
    s3("policy of a new one", GET, "state?policy", &[], "", &[]),
    s3("set a policy that is no JSON", PUT, "state?policy", &[], "{", &[]),
    s3("set a policy", PUT, "state?policy", &[], TLS_ONLY, &[]),
    s3("policy", GET, "state?policy", &[], "", &["/Statement/0/Sid"]),
    s3("objects of an empty one", GET, "state?list-type=2&prefix=env:/", &[], "", &["KeyCount"]),
];

/// The state and its lock.
pub(super) const LOCKS: &[Call] = &[
    s3("create the bucket", PUT, "locks", &[], CONSTRAINT, &[]),
    s3("version it", PUT, "locks?versioning", &[], VERSIONED, &[]),
    s3("a state that is not there", GET, "locks/s", &[], "", &[]),
    s3("head of it", HEAD, "locks/s", &[], "", &[]),
    s3("take the lock", PUT, "locks/s.tflock", &[("if-none-match", "*")], "{}", &["lock<header:etag"]),
    s3("take it again", PUT, "locks/s.tflock", &[("if-none-match", "*")], "{}", &[]),
    s3("who has it", GET, "locks/s.tflock", &[], "", &[]),
    s3("write the state", PUT, "locks/s", &[], "one", &["first<header:etag"]),
    s3("replace what was seen", PUT, "locks/s", &[("if-match", "{first}")], "two", &["second<header:etag"]),
    s3("replace what is no more", PUT, "locks/s", &[("if-match", "{first}")], "three", &[]),
    s3("replace what never was", PUT, "locks/none", &[("if-match", "{first}")], "four", &[]),
    s3("read it if it is another", GET, "locks/s", &[("if-none-match", "{second}")], "", &[]),
    s3("read it", GET, "locks/s", &[], "", &["header:content-length"]),
    s3("release the lock", DELETE, "locks/s.tflock", &[], "", &["header:x-amz-delete-marker"]),
    s3("the lock is gone", GET, "locks/s.tflock", &[], "", &[]),
    s3("take it once more", PUT, "locks/s.tflock", &[("if-none-match", "*")], "{}", &[]),
    s3("what stands", GET, "locks?list-type=2", &[], "", &["KeyCount"]),
];

/// The other settings of a bucket, and its deletion.
pub(super) const ANOTHER: &[Call] = &[
    s3("create", PUT, "another", &[], CONSTRAINT, &[]),
    s3("buckets", GET, "", &[], "", &["Name"]),
    s3("tags of a new one", GET, "another?tagging", &[], "", &[]),
    s3("tag", PUT, "another?tagging", &[], TAGS, &[]),
    s3("tags", GET, "another?tagging", &[], "", &["Key", "Value"]),
    s3("untag", DELETE, "another?tagging", &[], "", &[]),
    s3("tags of an untagged one", GET, "another?tagging", &[], "", &[]),
    s3("ownership", PUT, "another?ownershipControls", &[], OWNED, &[]),
    s3("whose its objects are", GET, "another?ownershipControls", &[], "", &["ObjectOwnership"]),
    s3("whether it is public", GET, "another?policyStatus", &[], "", &[]),
    s3("set a policy", PUT, "another?policy", &[], ANOTHER_TLS_ONLY, &[]),
    s3("whether the policy makes it public", GET, "another?policyStatus", &[], "", &["IsPublic"]),
    s3("delete the policy", DELETE, "another?policy", &[], "", &[]),
    s3("policy of one that has none any more", GET, "another?policy", &[], "", &[]),
    s3("set encryption", PUT, "another?encryption", &[], KMS_ENCRYPTED, &[]),
    s3("delete the encryption", DELETE, "another?encryption", &[], "", &[]),
    s3("encryption after that", GET, "another?encryption", &[], "", &["SSEAlgorithm"]),
    s3("block public access", PUT, "another?publicAccessBlock", &[], PRIVATE, &[]),
    s3("allow public access", DELETE, "another?publicAccessBlock", &[], "", &[]),
    s3("public access after that", GET, "another?publicAccessBlock", &[], "", &[]),
    s3("write an object", PUT, "another/a", &[], "one", &[]),
    s3("write another", PUT, "another/b", &[], "two", &[]),
    s3("objects, the old way", GET, "another?prefix=a", &[], "", &["Key", "Size"]),
    s3("versions", GET, "another?versions", &[], "", &["Key", "IsLatest"]),
    s3("delete a full one", DELETE, "another", &[], "", &[]),
    s3("delete objects, one of them none", POST, "another?delete", &[], TWO, &["Key"]),
    s3("delete an object", DELETE, "another/b", &[], "", &[]),
    s3("objects after that", GET, "another", &[], "", &["Key"]),
    s3("delete", DELETE, "another", &[], "", &[]),
    s3("delete again", DELETE, "another", &[], "", &[]),
];
