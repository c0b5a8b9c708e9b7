//! The stored data, in its format on disk.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One ECR repository with all its data except the bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Repository {
    pub(crate) name: String,
    pub(crate) created: i64,
    pub(crate) encryption: Encryption,
    pub(crate) mutability: String,
    #[serde(default)]
    pub(crate) filters: Vec<String>,
    pub(crate) scan_on_push: bool,
    #[serde(default)]
    pub(crate) resource_tags: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) policy: Option<String>,
    #[serde(default)]
    pub(crate) lifecycle: Option<Lifecycle>,
    #[serde(default)]
    pub(crate) preview: Option<String>,
    #[serde(default)]
    pub(crate) images: BTreeMap<String, Image>,
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) layers: BTreeMap<String, Layer>,
    /// Set if a pull-through cache rule created the repository.
    #[serde(default)]
    pub(crate) pull_through: Option<PullThrough>,
}

impl Repository {
    /// An empty repository with ECR's defaults.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            created: crate::time::now_millis(),
            encryption: Encryption { kind: "AES256".to_owned(), key: None },
            mutability: "MUTABLE".to_owned(),
            filters: Vec::new(),
            scan_on_push: false,
            resource_tags: BTreeMap::new(),
            policy: None,
            lifecycle: None,
            preview: None,
            images: BTreeMap::new(),
            tags: BTreeMap::new(),
            layers: BTreeMap::new(),
            pull_through: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Encryption {
    pub(crate) kind: String,
    /// The key's ARN; `None` with AES256.
    pub(crate) key: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Lifecycle {
    pub(crate) text: String,
    pub(crate) evaluated: i64,
}

/// A manifest in a repository, with the data parsed from it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Image {
    pub(crate) media_type: String,
    /// Size of the manifest itself, in bytes.
    pub(crate) manifest_size: u64,
    /// Size of the layers in bytes, as in `imageSizeInBytes`.
    pub(crate) image_size: u64,
    pub(crate) pushed: i64,
    #[serde(default)]
    pub(crate) pulled: Option<i64>,
    /// Since when it is in the storage class ARCHIVE, in milliseconds since the epoch.
    #[serde(default)]
    pub(crate) archived: Option<i64>,
    /// The digests of configuration and layers.
    #[serde(default)]
    pub(crate) blobs: Vec<String>,
    #[serde(default)]
    pub(crate) children: Vec<String>,
    #[serde(default)]
    pub(crate) subject: Option<String>,
    #[serde(default)]
    pub(crate) artifact_type: Option<String>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    /// The findings of a scan, by severity.
    #[serde(default)]
    pub(crate) findings: BTreeMap<String, u64>,
    /// The signing profiles, each with the failure if it did not sign.
    #[serde(default)]
    pub(crate) signing: BTreeMap<String, Option<SigningFailure>>,
}

/// The media types of an image's configuration, which are the artifact type of container images.
const CONFIGURATIONS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

impl Image {
    /// Whether it is a container image or an index, and not another artifact.
    pub(crate) fn is_container_image(&self) -> bool {
        self.artifact_type.as_deref().is_none_or(|kind| CONFIGURATIONS.contains(&kind))
    }
}

/// Why an image was not signed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SigningFailure {
    pub(crate) code: String,
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Layer {
    pub(crate) size: u64,
    pub(crate) completed: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PullThrough {
    pub(crate) host: String,
    pub(crate) repository: String,
    /// When each tag was last compared with the upstream, in milliseconds since the epoch.
    #[serde(default)]
    pub(crate) checked: BTreeMap<String, i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rule {
    pub(crate) prefix: String,
    pub(crate) host: String,
    pub(crate) registry: String,
    pub(crate) upstream_prefix: String,
    pub(crate) credential: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) created: i64,
    pub(crate) updated: i64,
}

/// ECR's settings of one account and region.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Settings {
    #[serde(default)]
    pub(crate) rules: BTreeMap<String, Rule>,
    #[serde(default)]
    pub(crate) replication: Vec<Value>,
    #[serde(default)]
    pub(crate) account: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) scanning: Option<Value>,
    #[serde(default)]
    pub(crate) policy: Option<String>,
    /// The rules of managed signing in the API's format; `None` without a configuration.
    #[serde(default)]
    pub(crate) signing: Option<Vec<Value>>,
    /// Services of AWS that have a service-linked role in the account.
    #[serde(default)]
    pub(crate) service_roles: BTreeSet<String>,
}

/// Resources without a type of their own: by terraform's type and by name, each in the API's format.
pub(crate) type Shown = BTreeMap<String, BTreeMap<String, Value>>;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Kms {
    #[serde(default)]
    pub(crate) keys: BTreeMap<String, Key>,
    /// By full name (`alias/…`).
    #[serde(default)]
    pub(crate) aliases: BTreeMap<String, Alias>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) description: String,
    pub(crate) enabled: bool,
    pub(crate) deletion: Option<i64>,
    pub(crate) rotation_days: Option<u64>,
    pub(crate) policy: String,
    pub(crate) spec: String,
    pub(crate) usage: String,
    pub(crate) multi_region: bool,
    pub(crate) tags: BTreeMap<String, String>,
    /// `aws/ecr` and similar keys, which AWS creates on first use.
    pub(crate) aws_managed: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Alias {
    pub(crate) target: String,
    pub(crate) created: i64,
    pub(crate) updated: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) created: i64,
    /// Sub-resources (`versioning`, `encryption`, `policy` …) in the XML or JSON in which they were put.
    pub(crate) documents: BTreeMap<String, String>,
    /// The versions of every key, oldest first, stored in separate files.
    #[serde(skip)]
    pub(crate) objects: BTreeMap<String, Vec<Version>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Versions {
    pub(crate) key: String,
    pub(crate) versions: Vec<Version>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) id: String,
    pub(crate) modified: i64,
    /// `None` for a delete marker.
    pub(crate) content: Option<Content>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Content {
    /// The file's name in the bucket's directory `objects`.
    pub(crate) file: String,
    pub(crate) size: u64,
    /// With its quotes.
    pub(crate) etag: String,
    /// The headers that are returned with the object.
    pub(crate) headers: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stack {
    #[serde(flatten)]
    pub(crate) scope: crate::scope::Scope,
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) created: i64,
    pub(crate) outputs: BTreeMap<String, String>,
}
