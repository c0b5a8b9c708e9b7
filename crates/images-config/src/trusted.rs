//! Whose images are taken: which rule of `[trust]` is a source's.

use registry::Reference;
use trust::Signer;

use crate::Config;

/// A rule of `[trust]`.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// As it is written.
    pub pattern: String,
    /// What the full name of a repository begins with, or is.
    pub(crate) begin: String,
    /// Whether it is the whole name.
    pub(crate) exact: bool,
    /// Whether nobody has to sign.
    pub unsigned: bool,
    /// Whose signature counts: one of them is enough.
    pub signers: Vec<Signer>,
    /// Its line in images.toml.
    pub line: usize,
}

impl Trusted {
    fn is_for(&self, name: &str) -> bool {
        if self.exact { self.begin == name } else { name.starts_with(&self.begin) }
    }
}

impl Config {
    /// The rule whose signers count for an image; none where its signature does not matter. The longest pattern is the rule.
    pub fn trusted(&self, source: &Reference) -> Option<&Trusted> {
        let name = format!("{}/{}", source.registry(), source.repository());
        let rules = self.trust.iter().filter(|rule| rule.is_for(&name));
        rules.max_by_key(|rule| (rule.begin.len(), rule.exact)).filter(|rule| !rule.unsigned)
    }
}
