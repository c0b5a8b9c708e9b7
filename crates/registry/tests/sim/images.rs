//! The images of the other tests, and artifacts about them.

#[path = "../it/support/images.rs"]
mod shared;

pub use shared::*;

/// An artifact about an image.
pub fn about(name: &str, image: &TestImage) -> TestImage {
    image_of(OCI_IMAGE, name, &[bytes(name, 200)], Some(&image.manifest))
}
