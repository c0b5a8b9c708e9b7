//! How much this crate accepts from a server. Everything that a registry sends is bounded by one of these.

/// A manifest or an index. The specification asks registries for
/// [at least 4 MiB](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests).
pub const MANIFEST: usize = 8 << 20;

/// The body of an error reply: enough for every registry's JSON.
pub(crate) const ERROR_BODY: usize = 64 << 10;

/// A token service's reply.
pub(crate) const TOKEN_BODY: usize = 256 << 10;

/// One page of tags or referrers.
pub(crate) const LIST_PAGE: usize = 8 << 20;

/// Pages of one list.
pub(crate) const LIST_PAGES: usize = 200;

/// Tags of one repository: twice as many as ECR allows.
pub(crate) const TAGS: usize = 200_000;

/// A blob that is read into memory: configurations, never layers.
pub const BLOB_IN_MEMORY: u64 = 16 << 20;

/// Descriptors in one manifest or index.
pub(crate) const DESCRIPTORS: usize = 10_000;

/// All manifests of one image together: ten thousand of usual size.
pub(crate) const MANIFESTS: u64 = 64 << 20;

/// Images of an index that are read because it does not say what they are for.
pub(crate) const UNSAID: usize = 100;

/// Indexes inside indexes.
pub(crate) const INDEX_DEPTH: usize = 4;

/// Redirects followed for one request.
pub(crate) const REDIRECTS: usize = 5;

/// A `Location`, `Link` or `WWW-Authenticate` header. Presigned S3 addresses take about 2 KiB, addresses of upload sessions
/// that carry all of their state tens of KiB.
pub(crate) const HEADER: usize = 48 << 10;

/// Headers of one reply.
pub(crate) const HEADERS: usize = 256;
