//! The objects next to the terraform state: the lease, the plan cache, the record of replication rules, the reports of shards. All
//! are read and written here.

use std::fmt;
use std::marker::PhantomData;

use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::store::{ConditionFailed, StateStore, WriteCondition};

/// An object next to the state that holds a `T` as JSON.
pub struct Sidecar<T> {
    store: StateStore,
    key: String,
    /// Its name in errors, with its article.
    what: &'static str,
    content: PhantomData<fn() -> T>,
}

/// A sidecar with its metadata.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// The parsed object.
    pub content: T,
    /// Its ETag, for conditional writes.
    pub etag: String,
    /// When it was written, in seconds since 1970 by S3's clock.
    pub modified: Option<i64>,
}

impl<T> Clone for Sidecar<T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), key: self.key.clone(), what: self.what, content: PhantomData }
    }
}

impl<T> fmt::Debug for Sidecar<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sidecar").field(&self.key).finish()
    }
}

impl<T: Serialize + DeserializeOwned> Sidecar<T> {
    /// The object whose key is the state's with `suffix`. `what` is its name in errors, such as `a lease`.
    pub fn new(store: &StateStore, suffix: &str, what: &'static str) -> Self {
        Self::at(store, store.sidecar(suffix), what)
    }

    /// The object with this key.
    pub(super) fn at(store: &StateStore, key: String, what: &'static str) -> Self {
        Self { store: store.clone(), key, what, content: PhantomData }
    }

    /// Reads the object. `None` if it does not exist.
    ///
    /// # Errors
    /// S3 refuses or does not answer, or the object has another format.
    pub async fn read(&self) -> anyhow::Result<Option<Found<T>>> {
        let Some(object) = self.store.get(&self.key).await? else { return Ok(None) };
        let content = serde_json::from_slice(&object.bytes)
            .with_context(|| format!("{} is not {}", self.key, self.what))?;
        Ok(Some(Found { content, etag: object.etag, modified: object.modified }))
    }

    /// Reads the object. `None` if it does not exist or this version does not understand it.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub async fn read_if_understood(&self) -> anyhow::Result<Option<Found<T>>> {
        let Some(object) = self.store.get(&self.key).await? else { return Ok(None) };
        let content = serde_json::from_slice(&object.bytes).ok();
        Ok(content.map(|content| Found { content, etag: object.etag, modified: object.modified }))
    }

    /// Writes it unconditionally.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub async fn write(&self, content: &T) -> anyhow::Result<()> {
        self.write_if(content, WriteCondition::Always).await.map(drop)
    }

    /// Writes it and returns its ETag, or writes nothing because `condition` is not met.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub async fn write_if(
        &self,
        content: &T,
        condition: WriteCondition<'_>,
    ) -> anyhow::Result<Result<String, ConditionFailed>> {
        self.store.put(&self.key, serde_json::to_vec(content)?, condition).await
    }

    /// Deletes it, if it still has this `etag`.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub async fn delete(&self, etag: &str) -> anyhow::Result<()> {
        self.store.delete(&self.key, Some(etag)).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::{given, listed, refused, scripted};
    use super::*;

    #[tokio::test]
    async fn an_unknown_field_is_an_error_only_where_it_matters() {
        let answers = vec![
            given("7"),
            given("no JSON"),
            given("no JSON"),
            refused(404, "NoSuchKey"),
            listed("another"),
        ];
        let (store, asked) = scripted(answers);
        let sidecar = Sidecar::<u32>::new(&store, "seven", "a number");
        assert_eq!(sidecar.read().await.unwrap().map(|found| found.content), Some(7));
        let error = sidecar.read().await.unwrap_err();
        assert!(error.to_string().ends_with(".seven is not a number"), "{error}");
        assert!(sidecar.read_if_understood().await.unwrap().is_none());
        assert!(sidecar.read().await.unwrap().is_none());
        assert_eq!(asked().len(), 5);
    }

    #[tokio::test]
    async fn a_write_says_whether_its_condition_was_met() {
        let (store, asked) =
            scripted(vec![(200, &[("etag", "\"e2\"")], String::new()), refused(412, "PreconditionFailed")]);
        let sidecar = Sidecar::<u32>::new(&store, "seven", "a number");
        assert_eq!(sidecar.write_if(&7, WriteCondition::Absent).await.unwrap().unwrap(), "\"e2\"");
        assert!(sidecar.write_if(&8, WriteCondition::Is("\"e1\"")).await.unwrap().is_err());
        let asked = asked();
        assert!(asked[0].starts_with("PUT ") && asked[0].ends_with(".seven *"), "{asked:?}");
        assert!(asked[1].ends_with(".seven \"e1\""), "{asked:?}");
    }
}
