//! What can be wrong with the state bucket.

use failure::Kind;

/// One thing that is wrong with the bucket, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It does not exist.
    Missing,
    /// It belongs to somebody else.
    Foreign,
    /// It stands in this region instead.
    Region(String),
    /// Old states are not kept.
    Unversioned,
    /// Nothing is said about encryption.
    Unencrypted,
    /// S3's own key encrypts, in a bucket whose creation was cut off.
    Unfinished,
    /// It may be opened to the public.
    Public,
    /// Requests without TLS are answered.
    Plain,
    /// Whether requests without TLS are answered may not be read.
    PolicyHidden,
}

impl Problem {
    /// Whether `--create-state-bucket` can mend it.
    pub fn mendable(&self) -> bool {
        !matches!(self, Self::Foreign | Self::Region(_) | Self::PolicyHidden)
    }

    /// The exit code that it ends a run with.
    pub(super) fn exit(&self) -> Kind {
        match self {
            Self::Foreign | Self::PolicyHidden => Kind::Credentials,
            _ => Kind::Config,
        }
    }

    /// Whether the bucket serves all the same. All that this tool and terraform send goes over TLS anyway, and the bucket that
    /// HTC-Grid's CloudFormation makes has no policy.
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
