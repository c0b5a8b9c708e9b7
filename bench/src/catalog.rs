//! The catalogue of the created image sets and their images.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::content::Blob;

/// Which images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Set {
    /// The grid's shape: 5 images, 194 MiB, 38 unique blobs, 62 repository/blob pairs.
    Grid,
    /// 50 small images that share layers: 24 MiB unique, 279 MiB as pairs.
    Small,
    /// One image with a layer of 4 GiB.
    Big,
    /// 500 tiny images: a run with nothing to do.
    Tiny,
    /// Two images of a few KiB: for tests.
    Smoke,
    /// 100, 1,000 and 10,000 images of one small layer: what an image costs must not depend on how many there are.
    Scale,
    /// 100 of them.
    #[value(skip)]
    Scale100,
    /// 1,000 of them.
    #[value(skip)]
    Scale1000,
    /// 10,000 of them.
    #[value(skip)]
    Scale10000,
    /// No images: four runtimes, built.
    Runtimes,
}

impl Set {
    /// The sets of [`Set::Scale`].
    pub const SCALE: [Self; 3] = [Self::Scale100, Self::Scale1000, Self::Scale10000];

    /// The command line's name of this set.
    pub fn named(self) -> Self {
        if Self::SCALE.contains(&self) { Self::Scale } else { self }
    }

    /// Its name in files; except for the parts of `scale` also the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grid => "grid",
            Self::Small => "small",
            Self::Big => "big",
            Self::Tiny => "tiny",
            Self::Smoke => "smoke",
            Self::Scale => "scale",
            Self::Scale100 => "scale-100",
            Self::Scale1000 => "scale-1000",
            Self::Scale10000 => "scale-10000",
            Self::Runtimes => "runtimes",
        }
    }
}

/// The form of the images at the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// The tag is one manifest.
    Single,
    /// The tag is an index of 4 platforms and their attestations; linux/amd64 is wanted.
    Index,
}

impl Variant {
    /// The tag at the source.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Single => "1.0",
            Self::Index => "1.0-multi",
        }
    }

    /// Name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Index => "index",
        }
    }
}

/// One image at the source, in both variants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    /// Its repository.
    pub repository: String,
    /// Its tag, if its repository has many images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_tag: Option<String>,
    /// The manifest of linux/amd64, which the target must have.
    pub manifest: Blob,
    /// The index.
    pub index: Blob,
    /// The configuration.
    pub config: Blob,
    /// The layers of linux/amd64.
    pub layers: Vec<Blob>,
}

impl Image {
    /// The tag at the source.
    pub fn tag(&self, variant: Variant) -> &str {
        self.own_tag.as_deref().unwrap_or(variant.tag())
    }

    /// Configuration and layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

/// A created set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Catalog {
    /// The version of the sets.
    pub version: u32,
    /// The set.
    pub set: Set,
    /// Its images.
    pub images: Vec<Image>,
}

impl Catalog {
    /// The blobs of linux/amd64, each once.
    pub fn unique(&self) -> Vec<&Blob> {
        let mut seen = HashSet::new();
        self.images.iter().flat_map(Image::blobs).filter(|blob| seen.insert(&blob.digest)).collect()
    }

    /// Bytes of [`Self::unique`].
    pub fn unique_bytes(&self) -> u64 {
        self.unique().iter().map(|blob| blob.size).sum()
    }

    /// Repository/blob pairs, and their bytes.
    pub fn pairs(&self) -> (usize, u64) {
        let blobs = self.images.iter().flat_map(Image::blobs);
        blobs.fold((0, 0), |(count, bytes), blob| (count + 1, bytes + blob.size))
    }

    /// Sizes by digest and, for the manifests, also by `repository:tag`.
    pub fn sizes(&self) -> HashMap<String, u64> {
        let mut sizes = HashMap::new();
        for image in &self.images {
            for blob in image.blobs().chain([&image.manifest, &image.index]) {
                sizes.insert(blob.digest.clone(), blob.size);
            }
            for variant in [Variant::Single, Variant::Index] {
                sizes.insert(format!("{}:{}", image.repository, image.tag(variant)), image.manifest.size);
            }
        }
        sizes
    }
}
