//! A blob's bytes, for whoever wants them here.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;

use super::source::{self, Meter, Transfer};
use crate::client::Client;
use crate::error::Error;
use crate::manifest::Descriptor;
use crate::reference::Reference;

impl Client {
    /// The bytes of a blob of any size, as they come. A connection that breaks is gone on from where it was. The last bytes are only
    /// given out where the digest of all is right: else the stream ends with an error in their place.
    pub fn pull_blob(
        &self,
        from: &Reference,
        blob: &Descriptor,
    ) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
        source::body(Transfer::new(self, from, blob.into()), Arc::new(Meter::default()))
    }
}
