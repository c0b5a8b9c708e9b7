//! Upload sessions. They are in memory and end with the process, as ECR's end after some time; completed layers are persistent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use crate::fault::Fault;
use crate::scope::Scope;
use crate::store::content::Incoming;

/// One upload in progress.
pub(crate) struct Upload {
    pub(crate) scope: Scope,
    pub(crate) repository: String,
    /// `None` once the upload is completed.
    pub(crate) incoming: Option<Incoming>,
    pub(crate) parts: Vec<u64>,
}

/// A session: locked while a part is received, so that two parts cannot mix.
pub(crate) type Session = Arc<AsyncMutex<Upload>>;

/// The sessions by their id.
#[derive(Default)]
pub(crate) struct Uploads(Mutex<HashMap<String, Session>>);

impl Upload {
    pub(crate) fn offset(&self) -> u64 {
        self.incoming.as_ref().map_or(0, Incoming::size)
    }

    /// The last byte of the first part, which ECR still returns in `Range` after further parts (aws/containers-roadmap#2831).
    pub(crate) fn stale_range_end(&self) -> u64 {
        self.parts.first().copied().unwrap_or(0).saturating_sub(1)
    }

    /// Begins a part with the first byte at `first`.
    pub(crate) fn begin_part(&mut self, first: u64) -> Result<(), Fault> {
        let offset = self.offset();
        if first != offset {
            return Err(Fault::new(
                http::StatusCode::RANGE_NOT_SATISFIABLE,
                "InvalidLayerPartException",
                format!("First byte of the layer part is {first} instead of {offset}"),
            ));
        }
        self.parts.push(0);
        Ok(())
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if let (Some(incoming), Some(part)) = (&mut self.incoming, self.parts.last_mut()) {
            incoming.write(bytes)?;
            *part += bytes.len() as u64;
        }
        Ok(())
    }
}

impl Uploads {
    /// Stores a session under a new ID.
    pub(crate) fn insert(&self, upload: Upload) -> String {
        let id = crate::store::new_id();
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(id.clone(), Arc::new(AsyncMutex::new(upload)));
        id
    }

    pub(crate) fn get(&self, id: &str) -> Option<Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    pub(crate) fn remove(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}
