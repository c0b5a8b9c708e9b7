//! Finds the rule of `[trust]` for a source.

use registry::Reference;
use trust::Signer;

use crate::Config;
use crate::pattern::Pattern;

/// A rule of `[trust]`.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// As written in the file.
    pub pattern: String,
    /// The parsed pattern.
    pub(crate) sources: Pattern,
    /// Whether no signature is needed.
    pub unsigned: bool,
    /// The trusted signers; a signature of one of them is enough.
    pub signers: Vec<Signer>,
    /// Its line in images.toml.
    pub line: usize,
}

impl Config {
    /// The rule for an image. `None` if its signature is not checked. The longest matching pattern counts.
    pub fn trusted(&self, source: &Reference) -> Option<&Trusted> {
        let rules = self.trust.iter().filter(|rule| rule.sources.is_for(source));
        rules.max_by_key(|rule| &rule.sources).filter(|rule| !rule.unsigned)
    }
}
