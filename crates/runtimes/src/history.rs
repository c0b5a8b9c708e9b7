//! The record of a runtime's tag: when it was moved, by whom, from which build to which.
//!
//! A registry does not keep what a tag referred to before, and the builds' own times do not show it either: a cached build and a return to
//! earlier inputs are older than the build they replace. So each move is recorded next to the tag, as an OCI artifact under
//! `<runtime>-history`. This works with and without AWS, and grids that share a repository share the record.
//!
//! A move is recorded before it is made and confirmed after it. If a run ends in between, the tag shows whether the move was made
//! ([`History::now`]). If the tag refers to a build that the last move does not explain, it was moved by a tool that keeps no record
//! (`docker push`); this is detected and recorded too.

use jiff::Timestamp;
use registry::mirror::{differs, look_again};
use registry::{Digest, Manifest, Reference};
use serde::{Deserialize, Serialize};

use super::empty_blob::{ArtifactManifest, EMPTY, MANIFEST, empty};
use super::planned::tagged;
use super::{Context, RuntimeError, build_tag};

/// The artifact's type.
const KIND: &str = "application/vnd.htc-grid.runtime-history.v1+json";
/// The annotation that holds the moves, as JSON.
const MOVES: &str = "io.htc-grid.runtime-history";

/// How many moves are kept.
const KEPT: usize = 100;
/// Attempts to write a record that another run overwrites.
const ROUNDS: u32 = 5;

/// How a runtime's tag was moved to another build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// To a new build.
    Built,
    /// To a build that was at the registry already.
    Promoted,
    /// `--rollback`.
    RolledBack,
    /// By another tool, or before there was a record.
    Elsewhere,
}

/// One move of a runtime's tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// When it was made; for a move by another tool, when it was detected.
    pub at: Timestamp,
    /// Who made it; `None` if that was not recorded.
    pub by: Option<String>,
    /// The build that the tag referred to before.
    pub from: Option<Digest>,
    /// The build that it refers to since.
    pub to: Option<Digest>,
    /// How it was made.
    pub cause: Cause,
    /// Whether it is confirmed.
    made: bool,
}

impl Move {
    /// A move that is to be made next.
    pub(super) fn new(context: &Context, from: Option<Digest>, to: Digest, cause: Cause) -> Self {
        Self { at: Timestamp::now(), by: Some(context.who.clone()), from, to: Some(to), cause, made: false }
    }

    fn is(&self, other: &Self) -> bool {
        (self.at, &self.by, self.to) == (other.at, &other.by, other.to)
    }
}

/// The moves of one runtime's tag, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(Vec<Move>);

impl History {
    /// Reads the record; empty if there is none.
    ///
    /// # Errors
    /// The registry cannot be reached, or the record's tag refers to something else.
    pub(super) async fn read(
        context: &Context,
        repository: &Reference,
        runtime: &str,
    ) -> Result<Self, RuntimeError> {
        let image = tagged(repository, runtime, &history_tag(runtime))?;
        Ok(Self::stored(context, &image).await?.0)
    }

    /// The record, and the digest of its artifact.
    async fn stored(context: &Context, image: &Reference) -> Result<(Self, Option<Digest>), RuntimeError> {
        let Some(manifest) = context.client.manifest(image).await? else {
            return Ok((Self::default(), None));
        };
        let found = Self::from_manifest(&manifest).map_err(|reason| RuntimeError::Unreadable {
            image: image.to_string(),
            reason: format!("it is not a record of a runtime's builds: {reason}"),
        })?;
        Ok((found, Some(manifest.digest())))
    }

    fn from_manifest(manifest: &Manifest) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            artifact_type: Option<String>,
            #[serde(default)]
            annotations: std::collections::BTreeMap<String, String>,
        }
        let shape: Shape = serde_json::from_slice(manifest.bytes()).map_err(|error| error.to_string())?;
        let moves = shape.annotations.get(MOVES).filter(|_| shape.artifact_type.as_deref() == Some(KIND));
        let moves = moves.ok_or_else(|| format!("its type is not {KIND}"))?;
        serde_json::from_str(moves).map(Self).map_err(|error| error.to_string())
    }

    fn to_manifest(&self) -> Result<Manifest, serde_json::Error> {
        let (content, kept) = (empty(), &self.0[self.0.len().saturating_sub(KEPT)..]);
        let mut shape = ArtifactManifest::new(KIND, &content);
        shape.annotations.insert(MOVES, serde_json::to_string(kept)?);
        Ok(Manifest::new(MANIFEST, serde_json::to_vec(&shape)?))
    }

    /// The record, compared with the tag's digest `now`: an unconfirmed last move was made if it leads there. If no move leads there, one
    /// by another tool is added.
    #[must_use]
    pub fn now(mut self, now: Option<Digest>) -> Self {
        if let Some(last) = self.0.last_mut() {
            last.made |= last.to == now;
        }
        // A move that may not have been made is not a build to roll back to.
        self.0.retain(|made| made.made);
        let last = self.0.last().and_then(|last| last.to);
        if last != now {
            let cause = Cause::Elsewhere;
            self.0.push(Move { at: Timestamp::now(), by: None, from: last, to: now, cause, made: true });
        }
        self
    }

    /// The moves, oldest first.
    pub fn moves(&self) -> &[Move] {
        &self.0
    }

    /// The build to go back to: the one before the current build. A rollback undoes the moves in between, so the next one goes further
    /// back.
    pub fn before(&self) -> Option<Digest> {
        let mut way: Vec<Option<Digest>> = self.0.first().map(|first| first.from).into_iter().collect();
        for made in &self.0 {
            let earlier = way.iter().rposition(|build| *build == made.to);
            match earlier.filter(|_| made.cause == Cause::RolledBack) {
                Some(at) => way.truncate(at + 1),
                None => way.push(made.to),
            }
        }
        way.pop();
        way.into_iter().rev().flatten().next()
    }

    /// Adds `made`: confirms it if it is there already, else puts it after the last confirmed move.
    fn put(&mut self, made: &Move) {
        match self.0.iter_mut().find(|known| known.is(made)) {
            Some(known) => known.made |= made.made,
            None if made.made => {
                let at = self.0.iter().rposition(|known| known.made).map_or(0, |at| at + 1);
                self.0.insert(at, made.clone());
            }
            None => self.0.push(made.clone()),
        }
    }
}

/// The tag of a runtime's record.
pub fn history_tag(runtime: &str) -> String {
    format!("{runtime}-history")
}

/// The record of a move while it is being made.
pub(super) struct Record<'a> {
    context: &'a Context,
    image: Reference,
    planned: Move,
}

impl<'a> Record<'a> {
    /// Records that `planned` will be made, and moves by other tools that are detected now.
    ///
    /// # Errors
    /// The registry cannot be reached, or does not accept the artifact.
    pub(super) async fn begin(
        context: &'a Context,
        repository: &Reference,
        runtime: &str,
        planned: Move,
    ) -> Result<Self, RuntimeError> {
        let image = tagged(repository, runtime, &history_tag(runtime))?;
        let record = Self { context, image, planned };
        record.write(Some(record.planned.from)).await?;
        keep(context, repository, runtime, record.planned.from).await?;
        Ok(record)
    }

    /// Confirms the move.
    ///
    /// # Errors
    /// The registry cannot be reached.
    pub(super) async fn made(mut self) -> Result<(), RuntimeError> {
        self.planned.made = true;
        self.write(None).await
    }

    /// Writes this move into the record. A registry has no conditional write: the record is read back, and written again if another run
    /// wrote at the same time. `now`: the tag's digest before the move, to detect moves by other tools.
    async fn write(&self, now: Option<Option<Digest>>) -> Result<(), RuntimeError> {
        let client = &self.context.client;
        for _ in 0..ROUNDS {
            let (mut history, before) = History::stored(self.context, &self.image).await?;
            if let Some(now) = now {
                history = history.now(now);
            }
            history.put(&self.planned);
            let manifest = history.to_manifest().map_err(|error| RuntimeError::Unreadable {
                image: self.image.to_string(),
                reason: error.to_string(),
            })?;
            if before == Some(manifest.digest()) {
                return Ok(());
            }
            registry::resend::push(client, &self.image, &manifest, &[(empty(), EMPTY.to_vec())]).await?;
            let look = || async {
                let found = client.head(&self.image).await?.map(|found| found.digest);
                if found == before {
                    return Err(differs(&self.image, "it is what it was before"));
                }
                Ok(found == Some(manifest.digest()))
            };
            if look_again(client, look).await? {
                return Ok(());
            }
        }
        let reason = "another run keeps changing it".to_owned();
        Err(RuntimeError::Unreadable { image: self.image.to_string(), reason })
    }
}

/// A build that another tool put there has only the runtime's own tag: it gets a build tag before that one moves.
async fn keep(
    context: &Context,
    repository: &Reference,
    runtime: &str,
    build: Option<Digest>,
) -> Result<(), RuntimeError> {
    let Some(build) = build else { return Ok(()) };
    let name = build_tag(runtime, &build);
    if context.client.head(&tagged(repository, runtime, &name)?).await?.is_none() {
        context.client.retag(&repository.with_digest(build), &name).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(name: &str) -> Option<Digest> {
        (!name.is_empty()).then(|| Digest::of(name.as_bytes()))
    }

    fn step(from: &str, to: &str, cause: Cause, made: bool) -> Move {
        let (from, to) = (digest(from), digest(to));
        Move { at: Timestamp::now(), by: Some("me".into()), from, to, cause, made }
    }

    /// The result for these moves and a tag that refers to `now`: the builds that it referred to, and the one to go back to.
    fn read(moves: &[Move], now: &str) -> (Vec<Option<Digest>>, Option<Digest>) {
        let history = History(moves.to_vec()).now(digest(now));
        (history.0.iter().map(|made| made.to).collect(), history.before())
    }

    #[test]
    fn the_tags_digest_shows_which_recorded_moves_were_made() {
        use Cause::{Built, RolledBack};
        let (ab, bc) = (step("a", "b", Built, true), step("b", "c", Built, false));
        let (a, b, c, x) = (digest("a"), digest("b"), digest("c"), digest("x"));
        // (the record, the tag's build, its builds in order, the build to go back to)
        let table = [
            (vec![], "", vec![], None),
            (vec![], "a", vec![a], None),
            (vec![ab.clone()], "b", vec![b], a),
            // Killed before the move, after it, and after it was confirmed.
            (vec![ab.clone(), bc.clone()], "b", vec![b], a),
            (vec![ab.clone(), bc.clone()], "c", vec![b, c], b),
            (vec![ab.clone(), Move { made: true, ..bc.clone() }], "c", vec![b, c], b),
            // Moved by hand: to a new build, back, deleted.
            (vec![ab.clone()], "x", vec![b, x], b),
            (vec![ab.clone()], "a", vec![b, a], b),
            (vec![ab.clone()], "", vec![b, None], b),
            (vec![ab.clone(), bc.clone()], "x", vec![b, x], b),
            // Back, and further back; a return to earlier inputs is a normal move.
            (vec![ab.clone(), step("b", "a", Cause::Promoted, true)], "a", vec![b, a], b),
            (vec![ab.clone(), step("b", "a", RolledBack, true)], "a", vec![b, a], None),
            (vec![ab, Move { made: true, ..bc }, step("c", "b", RolledBack, true)], "b", vec![b, c, b], a),
        ];
        for (moves, now, meant, back) in table {
            assert_eq!(read(&moves, now), (meant, back), "{moves:?} and {now:?}");
        }
    }

    #[test]
    fn a_move_lost_in_a_concurrent_record_is_restored_before_pending_ones() {
        let (ab, bc) = (step("a", "b", Cause::Built, true), step("b", "c", Cause::Built, true));
        let theirs = step("b", "d", Cause::Built, false);
        let mut history = History(vec![ab.clone(), theirs.clone()]);
        history.put(&bc);
        assert_eq!(history.0, [ab, bc.clone(), theirs]);
        history.put(&bc);
        assert_eq!(history.0.len(), 3);
        assert_eq!(History::from_manifest(&history.to_manifest().unwrap()).unwrap(), history);
    }

    #[test]
    fn only_the_last_moves_are_kept() {
        let all: Vec<Move> = (0..KEPT + 5).map(|n| step("a", &n.to_string(), Cause::Built, true)).collect();
        let read = History::from_manifest(&History(all.clone()).to_manifest().unwrap()).unwrap();
        assert_eq!(read.0, all[5..]);
    }

    #[test]
    fn another_manifest_is_not_read_as_a_record() {
        for text in
            ["{}", "[]", "{\"artifactType\":\"x\",\"annotations\":{\"io.htc-grid.runtime-history\":\"[]\"}}"]
        {
            assert!(History::from_manifest(&Manifest::new(MANIFEST, text)).is_err(), "{text}");
        }
    }
}
