//! One transfer at a time: an object beside the terraform state that only one run can hold.
//!
//! S3's conditional writes decide who gets it
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>). Terraform's own lock covers its
//! plan and apply alone; this one covers everything from there to the last tag. A run that was killed leaves it
//! behind: the next one takes it over at once where it can see that the process is gone, else once it has expired.

use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::process_id::ProcessId;
use super::{Aws, errors::explain};
use crate::error::{Exit, ending, failure};
use crate::interrupt::Interrupt;

/// How long a lease is good for without being renewed.
const TERM: Duration = Duration::from_secs(300);
/// How often it is renewed: often enough for one renewal to fail.
const RENEWAL: Duration = Duration::from_secs(100);
/// How often a lease that somebody else holds is asked for.
const ASKING: Duration = Duration::from_millis(500);

/// Who holds the lease, since when, and until when unless it is renewed.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Holder {
    who: String,
    grid: String,
    since: Timestamp,
    expires: Timestamp,
    /// The process, where its machine can tell whether it still lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<ProcessId>,
}

/// What to do where somebody else holds the lease.
pub struct Patience<'a> {
    /// How long to wait for it.
    pub timeout: Duration,
    /// What ends the waiting.
    pub interrupt: &'a Interrupt,
    /// Is told whom the run waits for, or whose lease it took over.
    pub tell: &'a (dyn Fn(String) + Sync),
}

/// The lease, held until [`Lease::release`].
#[derive(Debug)]
pub struct Lease {
    object: Object,
    renewing: tokio::task::JoinHandle<()>,
    etag: watch::Receiver<Option<String>>,
    waited: bool,
}

impl Lease {
    /// Takes the lease beside the state `key` for the grid `tag`.
    ///
    /// # Errors
    /// Somebody else holds it for longer than the caller's patience: the error names them. S3 refuses or does not answer.
    pub async fn take(
        aws: &Aws,
        bucket: &str,
        key: &str,
        tag: &str,
        patience: &Patience<'_>,
    ) -> anyhow::Result<Self> {
        let object = Object {
            client: Client::new(aws.config()),
            bucket: bucket.into(),
            key: format!("{key}.transfer.lock"),
        };
        let began = tokio::time::Instant::now();
        let mut waited = false;
        loop {
            let now = Timestamp::now();
            let (who, process) = (who(aws), ProcessId::own());
            let holder = Holder { who, grid: tag.to_owned(), since: now, expires: now + TERM, process };
            let current = match object.acquire(&holder, patience).await? {
                Ok(etag) => {
                    let (sender, receiver) = watch::channel(Some(etag));
                    let renewing = tokio::spawn(object.clone().renew(holder, sender));
                    return Ok(Self { object, renewing, etag: receiver, waited });
                }
                Err(current) => current,
            };
            if began.elapsed() >= patience.timeout {
                return Err(held(current.as_ref()));
            }
            if !waited {
                let whom = current.map_or_else(|| "another run".to_owned(), |current| current.who);
                (patience.tell)(format!(
                    "waiting up to {} s for {whom}, who transfers the images of this grid",
                    patience.timeout.as_secs()
                ));
            }
            waited = true;
            let pause = async {
                tokio::time::sleep(ASKING).await;
                Ok(())
            };
            patience.interrupt.guard(pause).await?;
        }
    }

    /// Whether somebody else held it first: what they did is not in a plan that was made before.
    pub fn waited(&self) -> bool {
        self.waited
    }

    /// Waits until the lease is lost, which ends the right to go on; for ever if it is not.
    pub async fn lost(&self) -> anyhow::Error {
        let mut etag = self.etag.clone();
        // An error means that the renewal has ended without losing it: the lease was released.
        if etag.wait_for(Option::is_none).await.is_err() {
            std::future::pending::<()>().await;
        }
        failure(Exit::Terraform, "the lease on this grid's images was taken over by another run")
    }

    /// Gives the lease back.
    ///
    /// # Errors
    /// S3 refuses or does not answer: then it expires by itself.
    pub async fn release(self) -> anyhow::Result<()> {
        self.renewing.abort();
        let etag = self.etag.borrow().clone();
        match etag {
            Some(etag) => self.object.delete(&etag).await,
            None => Ok(()),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

/// How often a lease is tried for that changes hands under the caller's eyes.
const ROUNDS: u32 = 5;

#[derive(Clone, Debug)]
struct Object {
    client: Client,
    bucket: String,
    key: String,
}

impl Object {
    /// Writes the holder if the object is still the one with `etag` (none: if there is no object). Nothing where it
    /// is not.
    async fn put(&self, holder: &Holder, etag: Option<&str>) -> anyhow::Result<Option<String>> {
        let body = serde_json::to_vec(holder)?;
        let request = self.client.put_object().bucket(&self.bucket).key(&self.key).body(body.into());
        let request = match etag {
            Some(etag) => request.if_match(etag),
            None => request.if_none_match("*"),
        };
        match request.send().await {
            Ok(answer) => Ok(Some(answer.e_tag.context("S3 gave no ETag")?)),
            // 409: another conditional write was under way at the same moment; 404: the object of `If-Match` is gone.
            Err(error)
                if matches!(
                    error.code(),
                    Some("PreconditionFailed" | "ConditionalRequestConflict" | "NoSuchKey")
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(explain(error, "s3:PutObject")),
        }
    }

    /// Writes the holder where nobody holds the lease, or nobody does any more; else gives who does, as far as that can be
    /// read.
    async fn acquire(
        &self,
        holder: &Holder,
        patience: &Patience<'_>,
    ) -> anyhow::Result<Result<String, Option<Holder>>> {
        // Each round lost is a round that somebody else won; who that was stands in the object.
        for _ in 0..ROUNDS {
            if let Some(etag) = self.put(holder, None).await? {
                return Ok(Ok(etag));
            }
            let Some((current, etag)) = self.get().await? else { continue };
            let gone = current.process.as_ref().is_some_and(ProcessId::is_gone);
            if current.expires > holder.since && !gone {
                return Ok(Err(Some(current)));
            }
            if let Some(etag) = self.put(holder, Some(&etag)).await? {
                let why = if gone { "whose process is gone" } else { "which has expired" };
                (patience.tell)(format!("took over the lease of {}, {why}", current.who));
                return Ok(Ok(etag));
            }
        }
        Ok(Err(None))
    }

    async fn get(&self) -> anyhow::Result<Option<(Holder, String)>> {
        let answer = match self.client.get_object().bucket(&self.bucket).key(&self.key).send().await {
            Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
            other => other.map_err(|e| explain(e, "s3:GetObject"))?,
        };
        let etag = answer.e_tag.clone().context("S3 gave no ETag")?;
        let bytes = answer.body.collect().await.context("could not read the lease")?.into_bytes();
        let holder =
            serde_json::from_slice(&bytes).with_context(|| format!("{} is not a lease", self.key))?;
        Ok(Some((holder, etag)))
    }

    async fn delete(&self, etag: &str) -> anyhow::Result<()> {
        let request = self.client.delete_object().bucket(&self.bucket).key(&self.key).if_match(etag);
        match request.send().await {
            Err(error) if matches!(error.code(), Some("PreconditionFailed" | "NoSuchKey")) => Ok(()),
            other => other.map(|_| ()).map_err(|e| explain(e, "s3:DeleteObject")),
        }
    }

    async fn renew(self, mut holder: Holder, etag: watch::Sender<Option<String>>) {
        loop {
            tokio::time::sleep(RENEWAL).await;
            holder.expires = Timestamp::now() + TERM;
            let current = etag.borrow().clone();
            match self.put(&holder, current.as_deref()).await {
                Ok(None) => {
                    let _ = etag.send(None);
                    return;
                }
                Ok(renewed) => {
                    let _ = etag.send(renewed);
                }
                // There is another renewal before it expires.
                Err(error) => tracing::warn!("could not renew the lease: {error:#}"),
            }
        }
    }
}

fn held(by: Option<&Holder>) -> anyhow::Error {
    let message = match by {
        Some(holder) => {
            format!("{} transfers the images of grid {} since {}", holder.who, holder.grid, holder.since)
        }
        None => "another run took the lease on this grid's images in this moment".to_owned(),
    };
    let hint = match by {
        Some(holder) => format!(
            "wait for it, or give --lock-timeout; if that run is dead, its lease expires at {} and the next run takes it \
             over (on the same machine at once)",
            holder.expires
        ),
        None => "run it again".to_owned(),
    };
    ending(Exit::Terraform, Some(hint), anyhow::Error::msg(message))
}

fn who(aws: &Aws) -> String {
    format!("{} (process {})", on_this_machine(&aws.identity().arn), std::process::id())
}

/// Somebody at work here, as others are told of them.
pub fn on_this_machine(who: &str) -> String {
    format!("{who} on {}", rustix::system::uname().nodename().to_string_lossy())
}
