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
    /// The platforms of entries that do not say one, from their configurations, as far as those were read: positions in
    /// `manifests`, and for an index each platform in it.
    pub(crate) told: Vec<(usize, Platform)>,
    /// The position of each of them among all entries.
    pub(super) positions: Vec<usize>,
    /// Entries whose digest is of another algorithm than sha256. They are only an error if they have to be copied.
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
