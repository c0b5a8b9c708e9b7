//! Proves that an entry is in a transparency log: an inclusion proof, and the log's checkpoint.

use ring::digest::{Context, SHA256};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::refusal::Refusal;
use crate::root::Log;

/// The path from an entry to the root of the log's tree ([RFC 9162, 2.1.3](https://www.rfc-editor.org/rfc/rfc9162#section-2.1.3)), and the
/// log's statement about that tree.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    /// The entry's index in the tree, from 0.
    pub(crate) index: u64,
    /// The audit path: the sibling hashes, from the entry upwards.
    pub(crate) hashes: Vec<Vec<u8>>,
    /// Size and root of the tree, signed ([form](https://github.com/C2SP/C2SP/blob/main/tlog-checkpoint.md)).
    pub(crate) checkpoint: String,
}

impl Proof {
    /// Checks that `body` is in the tree of `log`.
    pub(crate) fn holds(&self, body: &[u8], log: &Log) -> Result<(), Refusal> {
        let wrong = |why| Refusal::LogEntry { why };
        let (size, root) = signed(&self.checkpoint, log)?;
        let found =
            self.root(body, size).ok_or(wrong("its inclusion proof is none of a tree of that size"))?;
        if found != root {
            Err(wrong("its inclusion proof does not lead to the log's checkpoint"))
        } else {
            Ok(())
        }
    }

    /// The root of a tree of `size` entries with `body` at this index; `None` if the path has the wrong length.
    fn root(&self, body: &[u8], size: u64) -> Option<Vec<u8>> {
        if self.index >= size {
            return None;
        }
        let (mut place, mut last) = (self.index, size - 1);
        let mut hash = hashed(&[&[0], body]);
        for sibling in &self.hashes {
            if last == 0 {
                return None;
            }
            if place % 2 == 1 || place == last {
                hash = hashed(&[&[1], sibling, &hash]);
                // At the right edge, up to the next node with a left sibling.
                while place % 2 == 0 && place != 0 {
                    place >>= 1;
                    last >>= 1;
                }
            } else {
                hash = hashed(&[&[1], &hash, sibling]);
            }
            place >>= 1;
            last >>= 1;
        }
        (last == 0).then_some(hash)
    }
}

fn hashed(parts: &[&[u8]]) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().to_vec()
}

/// Size and root of the tree in a checkpoint that the log signed: a [signed note](https://github.com/C2SP/C2SP/blob/main/signed-note.md).
/// It may have other signatures too, such as those of witnesses.
fn signed(checkpoint: &str, log: &Log) -> Result<(u64, Vec<u8>), Refusal> {
    let wrong = |why| Refusal::LogEntry { why };
    let unreadable = || wrong("its checkpoint cannot be read");
    let (text, signatures) = checkpoint.rsplit_once("\n\n").ok_or_else(unreadable)?;
    let text = format!("{text}\n");
    let by_log = signatures.lines().any(|line| {
        let signature = line.strip_prefix("\u{2014} ").and_then(|line| line.split_once(' '));
        let signature = signature.and_then(|(_, signature)| STANDARD.decode(signature).ok());
        // The signature follows four bytes of the key's ID.
        signature.is_some_and(|signature| {
            signature.split_at_checked(4).is_some_and(|(name, signature)| {
                log.is_named(name) && log.key.has_signed(text.as_bytes(), signature)
            })
        })
    });
    if !by_log {
        return Err(wrong("its checkpoint is not signed by the log"));
    }
    let mut lines = text.lines().skip(1);
    let size = lines.next().and_then(|size| size.parse().ok());
    let root = lines.next().and_then(|root| STANDARD.decode(root).ok());
    size.zip(root).ok_or_else(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::TrustRoot;
    use crate::testing::{path, tree};

    /// Checkpoints of sigstore's public log from two days.
    #[test]
    fn checkpoints_of_the_public_log_are_signed_by_the_key_of_the_public_root() {
        let root = TrustRoot::public().unwrap();
        let id = "cf1199155bddd051268d1f16ac5c0c75c009f6fb5a63f4177f8e18d7051e3fa0";
        let log = root.log(id, 1_790_000_000).unwrap();
        for (size, hash, signature) in [
            (
                412_115,
                "+8vUkEgBK/ansexBUomzocaWoPEmPIzxJC/y+xNMQN4=",
                "zxGZFahCZ/+MqTjH4rC5MWcdLDWbpetE5l30RZfQc4BQkRjWSoKipEUPjvHENeZDHIlAsuezJcLzUVvItpNjaSRoMAs=",
            ),
            (
                34_356_369,
                "dA9mMr0smTXgo7nGsE01Zdc5KOOqTs2/zYfdSqxO+ks=",
                "zxGZFQZgTebN28s0D7vKP5gX8R+CsXCved700HCQAHgDHbdkaH3tfx7+DMPkccNhzsnSy7LijLzWMa+evZduylLs0wc=",
            ),
        ] {
            let name = "log2025-1.rekor.sigstore.dev";
            let note = |size: u64| format!("{name}\n{size}\n{hash}\n\n\u{2014} {name} {signature}\n");
            assert_eq!(signed(&note(size), log), Ok((size, STANDARD.decode(hash).unwrap())));
            assert!(signed(&note(size + 1), log).is_err());
        }
    }

    #[test]
    fn inclusion_proofs_hold_for_every_entry_and_nothing_else() {
        let entries: Vec<Vec<u8>> = (0..40_u8).map(|number| vec![number]).collect();
        for size in 1..=entries.len() {
            let entries = &entries[..size];
            for place in 0..size {
                let proof =
                    |index: usize, hashes| Proof { index: index as u64, hashes, checkpoint: String::new() };
                let hashes = path(place, entries);
                let root = tree(entries);
                let right = proof(place, hashes.clone());
                assert_eq!(right.root(&entries[place], size as u64), Some(root.clone()), "{place} of {size}");
                assert_ne!(right.root(b"another", size as u64), Some(root.clone()));
                for at in 0..hashes.len() {
                    let mut changed = hashes.clone();
                    changed[at][0] ^= 1;
                    assert_ne!(proof(place, changed).root(&entries[place], size as u64), Some(root.clone()));
                    let mut short = hashes.clone();
                    short.remove(at);
                    assert_eq!(proof(place, short).root(&entries[place], size as u64), None);
                }
                let long = [hashes.clone(), vec![root.clone()]].concat();
                assert_eq!(proof(place, long).root(&entries[place], size as u64), None);
                assert_eq!(proof(size, hashes).root(&entries[place], size as u64), None);
            }
        }
    }
}
