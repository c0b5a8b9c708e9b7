//! What an index names.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Descriptor, ManifestError};
use crate::digest::{Digest, DigestError, excerpt};
use crate::platform::Platform;

/// What an index names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The manifests in order.
    pub manifests: Vec<Descriptor>,
    /// What those that do not say a platform are for, by their own configurations, as far as that was looked at: their positions in
    /// `manifests`, and for an index each platform in it.
    pub(crate) told: Vec<(usize, Platform)>,
    /// The position of each of them among all entries.
    pub(super) positions: Vec<usize>,
    /// Entries whose digest is of an algorithm that no registry of ours takes. Nobody may want them.
    pub(crate) foreign: Vec<Foreign>,
}

/// An entry of an index that can only be left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Foreign {
    pub(crate) digest: String,
    pub(super) platform: Option<Platform>,
}

impl Index {
    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.manifests.len() + self.foreign.len()
    }

    pub(crate) fn read(entries: &[&RawValue]) -> Result<Self, ManifestError> {
        let mut index =
            Self { manifests: Vec::new(), told: Vec::new(), positions: Vec::new(), foreign: Vec::new() };
        for (position, entry) in entries.iter().enumerate() {
            match serde_json::from_str::<Descriptor>(entry.get()) {
                Ok(descriptor) => {
                    index.manifests.push(descriptor);
                    index.positions.push(position);
                }
                Err(error) => match serde_json::from_str::<Foreign>(entry.get()) {
                    Ok(foreign) if foreign.is_of_another_algorithm() => index.foreign.push(foreign),
                    _ => return Err(ManifestError::Json(error.to_string())),
                },
            }
        }
        Ok(index)
    }
}

impl Foreign {
    fn is_of_another_algorithm(&self) -> bool {
        matches!(self.digest.parse::<Digest>(), Err(DigestError::Algorithm(_)))
    }

    pub(crate) fn error(&self) -> ManifestError {
        ManifestError::Algorithm(excerpt(&self.digest))
    }
}
