//! A shard of the work, for several processes on one or many machines that transfer a long list together.

use std::fmt;

use registry::Digest;

/// Shard `index` of `of`, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    of: u32,
}

/// Variables by which services that start a process several times number it: the variable, its first number, and the variable with
/// the total.
///
/// - [AWS Batch, array jobs](https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html)
/// - [Kubernetes, indexed jobs](https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode), which have no
///   total
/// - [GitLab, `parallel`](https://docs.gitlab.com/ci/variables/predefined_variables/)
const SERVICES: [(&str, u32, Option<&str>); 3] = [
    ("AWS_BATCH_JOB_ARRAY_INDEX", 0, Some("AWS_BATCH_JOB_ARRAY_SIZE")),
    ("JOB_COMPLETION_INDEX", 0, None),
    ("CI_NODE_INDEX", 1, Some("CI_NODE_TOTAL")),
];

impl Shard {
    /// Reads `I/N`, or, for `auto` or `auto/N`, the numbers in `variable`.
    ///
    /// # Errors
    /// The text has another format, or no service's variable has the number.
    pub fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let (index, of) = match text.split_once('/') {
            Some((index, of)) => (index, Some(of.to_owned())),
            None => (text, None),
        };
        let wrong = || format!("{text:?} is not I/N with I from 1 to N, `auto` or `auto/N`");
        if index != "auto" {
            let of = of.ok_or_else(wrong)?;
            return Self::new(number(index).ok_or_else(wrong)?, number(&of).ok_or_else(wrong)?)
                .ok_or_else(wrong);
        }
        let said = SERVICES.iter().find_map(|service| Some((service, variable(service.0)?)));
        let ((name, first, size), said) = said.ok_or_else(|| {
            let names = SERVICES.map(|(name, ..)| name).join(", ");
            format!("nothing says which one this is: {names} are not set")
        })?;
        let of = of.or_else(|| variable((*size)?)).ok_or_else(|| match size {
            Some(size) => format!("{name} is set and {size} is not: use `auto/N`"),
            None => format!("{name} does not say how many there are: use `auto/N`"),
        })?;
        let read = || Self::new(number(&said)?.checked_add(1)?.checked_sub(*first)?, number(&of)?);
        read().ok_or_else(|| format!("{name}={said} is not one of {of}"))
    }

    fn new(index: u32, of: u32) -> Option<Self> {
        (1..=of).contains(&index).then_some(Self { index, of })
    }

    /// Whether `name` belongs to this shard: the same on every machine, in every version and with any other names.
    pub fn has(self, name: &str) -> bool {
        let hash = Digest::of(name.as_bytes()).short();
        // Twelve hexadecimal digits.
        let number = u64::from_str_radix(&hash, 16).unwrap_or_default();
        number % u64::from(self.of) == u64::from(self.index - 1)
    }

    /// Whether this is the first shard.
    pub fn is_first(self) -> bool {
        self.index == 1
    }

    /// All shards with the same total.
    pub fn all(self) -> impl Iterator<Item = Self> {
        (1..=self.of).map(move |index| Self { index, ..self })
    }

    /// `2-of-4`, for use in names.
    pub fn slug(self) -> String {
        format!("{}-of-{}", self.index, self.of)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(text: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Shard::parse(text, variable).map(|shard| shard.to_string())
    }

    #[test]
    fn a_shard_is_set_by_option_or_by_the_service_that_starts_the_process() {
        assert_eq!(shard("2/4", &[]).unwrap(), "2/4");
        assert_eq!(shard("1/1", &[("CI_NODE_INDEX", "7")]).unwrap(), "1/1");
        let batch = [("AWS_BATCH_JOB_ARRAY_INDEX", "0"), ("AWS_BATCH_JOB_ARRAY_SIZE", "16")];
        assert_eq!(shard("auto", &batch).unwrap(), "1/16");
        assert_eq!(shard("auto/4", &[("JOB_COMPLETION_INDEX", "3")]).unwrap(), "4/4");
        assert_eq!(shard("auto", &[("CI_NODE_INDEX", "3"), ("CI_NODE_TOTAL", "3")]).unwrap(), "3/3");
    }

    #[test]
    fn an_invalid_shard_is_refused() {
        for text in
            ["", "2", "/", "0/4", "5/4", "1/0", "-1/4", "+1/4", "1/4/4", "a/4", "1/99999999999", "AUTO"]
        {
            let why = shard(text, &[]).unwrap_err();
            assert!(why.contains("I/N"), "{text}: {why}");
        }
        for (text, variables, why) in [
            ("auto", &[][..], "AWS_BATCH_JOB_ARRAY_INDEX, JOB_COMPLETION_INDEX, CI_NODE_INDEX are not set"),
            ("auto", &[("JOB_COMPLETION_INDEX", "0")], "use `auto/N`"),
            ("auto", &[("CI_NODE_INDEX", "1")], "CI_NODE_TOTAL is not: use `auto/N`"),
            ("auto/4", &[("JOB_COMPLETION_INDEX", "4")], "JOB_COMPLETION_INDEX=4 is not one of 4"),
            ("auto/4", &[("CI_NODE_INDEX", "0")], "CI_NODE_INDEX=0 is not one of 4"),
            ("auto/4", &[("CI_NODE_INDEX", "x")], "CI_NODE_INDEX=x is not one of 4"),
        ] {
            let refused = shard(text, variables).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn every_name_is_in_one_shard_and_shards_have_equal_sizes() {
        let names: Vec<String> = (0..4_000).map(|number| format!("team/app-{number}")).collect();
        let shards: Vec<Shard> = Shard::new(1, 8).unwrap().all().collect();
        for name in &names {
            assert_eq!(shards.iter().filter(|shard| shard.has(name)).count(), 1, "{name}");
        }
        for shard in &shards {
            let count = names.iter().filter(|name| shard.has(name)).count();
            assert!((400..600).contains(&count), "{shard}: {count}");
        }
        // Other versions must divide in the same way: a restarted shard may run on another machine.
        let shares: Vec<String> = ["curl", "grafana/grafana", "kedacore/keda"]
            .iter()
            .map(|name| shards.iter().find(|shard| shard.has(name)).unwrap().slug())
            .collect();
        assert_eq!(shares, ["1-of-8", "4-of-8", "2-of-8"]);
    }
}
