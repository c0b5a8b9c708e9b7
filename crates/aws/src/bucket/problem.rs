//! Problems of the state bucket.

use failure::Kind;

/// A problem of the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It does not exist.
    Missing,
    /// It belongs to another account, or access is denied.
    Foreign,
    /// It is in this region instead.
    Region(String),
    /// Versioning is off: old states are not kept.
    Unversioned,
    /// It has no default encryption.
    Unencrypted,
    /// It is encrypted with S3's own key because its creation was interrupted.
    Unfinished,
    /// Public access is not blocked.
    Public,
    /// It accepts requests without TLS.
    Plain,
    /// The caller may not read whether it accepts requests without TLS.
    PolicyHidden,
}

impl Problem {
    /// Whether `--create-state-bucket` can correct it.
    pub fn fixable(&self) -> bool {
        !matches!(self, Self::Foreign | Self::Region(_) | Self::PolicyHidden)
    }

    /// The kind of failure that it ends a run with.
    pub(super) fn exit(&self) -> Kind {
        match self {
            Self::Foreign | Self::PolicyHidden => Kind::Credentials,
            _ => Kind::Config,
        }
    }

    /// Whether the bucket can be used in spite of it. This tool and terraform always use TLS, and the bucket that HTC-Grid's
    /// CloudFormation creates has no policy.
    pub(super) fn is_advice(&self) -> bool {
        matches!(self, Self::Plain | Self::PolicyHidden)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("it does not exist"),
            Self::Foreign => f.write_str(
                "it exists, but these credentials cannot read it: it belongs to another account, or s3:ListBucket is not allowed",
            ),
            Self::Region(region) => write!(f, "it is in {region}"),
            Self::Unversioned => f.write_str("it is not versioned, so a lost state cannot be brought back"),
            Self::Unencrypted => f.write_str("it has no default encryption"),
            Self::Unfinished => {
                f.write_str("its creation was interrupted: it has neither versioning nor a KMS key")
            }
            Self::Public => f.write_str("public access is not blocked"),
            Self::Plain => f.write_str("its policy does not refuse requests without TLS (aws:SecureTransport)"),
            Self::PolicyHidden => {
                f.write_str("whether it refuses requests without TLS cannot be seen: s3:GetBucketPolicy is not allowed")
            }
        }
    }
}
