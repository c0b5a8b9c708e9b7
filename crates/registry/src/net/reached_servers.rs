//! Which servers have answered.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use url::Url;

use crate::error::{ErrorKind, NoConnection};

/// A server that has answered before and is away is retried for longer than one that never answered.
#[derive(Debug, Default)]
pub(crate) struct ReachedServers(Mutex<HashSet<String>>);

impl ReachedServers {
    /// Notes that the server at `url` answered.
    pub(crate) fn answered(&self, url: &Url) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(url.authority()) {
            known.insert(url.authority().to_owned());
        }
    }

    /// A failure to reach `url`.
    pub(crate) fn failure(&self, url: &Url, kind: ErrorKind) -> ErrorKind {
        let is_known = || self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(url.authority());
        match kind {
            ErrorKind::NoConnection { why, source: Some(source) } if is_lost(why) && is_known() => {
                ErrorKind::Network { source }
            }
            kind => kind,
        }
    }
}

fn is_lost(why: NoConnection) -> bool {
    matches!(why, NoConnection::Refused | NoConnection::UnknownName)
}
