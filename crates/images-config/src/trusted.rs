//! Whose images are taken: which rule of `[trust]` is a source's.

use registry::Reference;
use trust::Signer;

use crate::Config;
use crate::pattern::Pattern;

/// A rule of `[trust]`.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// As it is written.
    pub pattern: String,
    /// The same, read.
    pub(crate) sources: Pattern,
    /// Whether nobody has to sign.
    pub unsigned: bool,
    /// Whose signature counts: one of them is enough.
    pub signers: Vec<Signer>,
    /// Its line in images.toml.
    pub line: usize,
}

impl Config {
    /// The rule whose signers count for an image; none where its signature does not matter. The longest pattern is the rule.
    pub fn trusted(&self, source: &Reference) -> Option<&Trusted> {
        let rules = self.trust.iter().filter(|rule| rule.sources.is_for(source));
        rules.max_by_key(|rule| &rule.sources).filter(|rule| !rule.unsigned)
    }
}
