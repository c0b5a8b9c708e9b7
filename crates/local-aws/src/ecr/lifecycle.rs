//! Lifecycle policies: which images a policy expires, calculated only from the policy and the images
//! (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html>).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::wildcard;

/// An image as an input of the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its digest.
    pub digest: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Push time, in milliseconds since the epoch.
    pub pushed: i64,
    /// Time of the last pull, in milliseconds since the epoch.
    pub pulled: Option<i64>,
    /// The images in an index.
    pub holds: Vec<String>,
}

/// An invalid policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("lifecycle policy validation failure: {0}")]
pub struct PolicyError(String);

/// A valid policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    priority: u64,
    status: Status,
    count: Count,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Status {
    Any,
    Untagged,
    Prefixes(Vec<String>),
    Patterns(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    MoreThan(usize),
    DaysSincePushed(i64),
    DaysSincePulled(i64),
}

const DAY: i64 = 24 * 3600 * 1000;

impl Policy {
    /// Parses a policy's text.
    ///
    /// # Errors
    /// The text is not JSON or violates one of ECR's rules for policies; the message names the rule's priority and member.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let fail = |message: String| PolicyError(message);
        let policy: Value =
            serde_json::from_str(text).map_err(|error| fail(format!("invalid JSON: {error}")))?;
        let list = policy["rules"]
            .as_array()
            .ok_or_else(|| fail("object has missing required property 'rules'".to_owned()))?;
        if list.is_empty() || list.len() > 50 {
            return Err(fail(format!("'rules' has {} members; between 1 and 50 are allowed", list.len())));
        }
        let mut rules = list.iter().map(Rule::parse).collect::<Result<Vec<_>, _>>()?;
        rules.sort_by_key(|rule| rule.priority);
        if let Some(pair) = rules.windows(2).find(|pair| pair[0].priority == pair[1].priority) {
            return Err(fail(format!("rule priority {} is used twice", pair[0].priority)));
        }
        for status in [Status::Any, Status::Untagged] {
            let same: Vec<u64> =
                rules.iter().filter(|rule| rule.status == status).map(|rule| rule.priority).collect();
            if status == Status::Any && same.len() > 1 {
                return Err(fail("only one rule may have tagStatus 'any'".to_owned()));
            }
            if status == Status::Any
                && same.first().is_some_and(|priority| rules.iter().any(|rule| rule.priority > *priority))
            {
                return Err(fail(
                    "a rule with tagStatus 'any' must have the highest rulePriority".to_owned(),
                ));
            }
        }
        Ok(Self { rules })
    }

    /// The images that the policy expires at `now`, each with the priority of its rule.
    ///
    /// If a rule's tag selection matches an image, later rules ignore that image, whether it expires or not. Images of an index are kept as
    /// long as the index.
    #[must_use]
    pub fn expired(&self, images: &[Candidate], now: i64) -> BTreeMap<String, u64> {
        let mut expired = BTreeMap::new();
        let mut taken: BTreeSet<&str> = BTreeSet::new();
        for rule in &self.rules {
            let mut matching: Vec<&Candidate> = images
                .iter()
                .filter(|image| !taken.contains(image.digest.as_str()) && rule.status.matches(image))
                .collect();
            taken.extend(matching.iter().map(|image| image.digest.as_str()));
            // The newest first; images pushed at the same time are sorted by digest, so that the result is always the same.
            matching.sort_by(|a, b| b.pushed.cmp(&a.pushed).then_with(|| a.digest.cmp(&b.digest)));
            let gone: Vec<&Candidate> = match rule.count {
                Count::MoreThan(keep) => matching.into_iter().skip(keep).collect(),
                Count::DaysSincePushed(days) => {
                    matching.into_iter().filter(|image| now - image.pushed > days * DAY).collect()
                }
                Count::DaysSincePulled(days) => matching
                    .into_iter()
                    .filter(|image| now - image.pulled.unwrap_or(image.pushed) > days * DAY)
                    .collect(),
            };
            expired.extend(gone.into_iter().map(|image| (image.digest.clone(), rule.priority)));
        }
        let kept_by_index: BTreeSet<&String> = images
            .iter()
            .filter(|image| !expired.contains_key(&image.digest))
            .flat_map(|image| &image.holds)
            .collect();
        expired.retain(|digest, _| !kept_by_index.contains(digest));
        expired
    }
}

impl Status {
    fn matches(&self, image: &Candidate) -> bool {
        let all = |wanted: &[String], fits: fn(&str, &str) -> bool| {
            wanted.iter().all(|one| image.tags.iter().any(|tag| fits(one, tag)))
        };
        match self {
            Self::Any => true,
            Self::Untagged => image.tags.is_empty(),
            Self::Prefixes(prefixes) => all(prefixes, |prefix, tag| tag.starts_with(prefix)),
            Self::Patterns(patterns) => all(patterns, wildcard::matches),
        }
    }
}

impl Rule {
    fn parse(rule: &Value) -> Result<Self, PolicyError> {
        let priority = rule["rulePriority"]
            .as_u64()
            .filter(|priority| *priority > 0)
            .ok_or_else(|| PolicyError("'rulePriority' must be a number from 1".to_owned()))?;
        let fail = |message: &str| PolicyError(format!("rule {priority}: {message}"));
        let selection = &rule["selection"];
        let list = |member: &str| -> Vec<String> {
            selection[member]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        let (prefixes, patterns) = (list("tagPrefixList"), list("tagPatternList"));
        let listed = !prefixes.is_empty() || !patterns.is_empty();
        let status = match selection["tagStatus"].as_str() {
            Some("any" | "untagged") if listed => {
                return Err(fail("a tag list is only allowed with tagStatus 'tagged'"));
            }
            Some("any") => Status::Any,
            Some("untagged") => Status::Untagged,
            Some("tagged") if !prefixes.is_empty() && !patterns.is_empty() => {
                return Err(fail("tagPrefixList and tagPatternList exclude each other"));
            }
            Some("tagged") if !patterns.is_empty() => Status::Patterns(patterns),
            Some("tagged") if !prefixes.is_empty() => Status::Prefixes(prefixes),
            Some("tagged") => {
                return Err(fail("tagStatus 'tagged' needs a tagPrefixList or a tagPatternList"));
            }
            _ => return Err(fail("'tagStatus' must be one of tagged, untagged, any")),
        };
        if let Status::Patterns(patterns) = &status
            && patterns.iter().any(|pattern| pattern.matches('*').count() > 4)
        {
            return Err(fail("a tag pattern has at most four wildcards"));
        }
        let number = selection["countNumber"]
            .as_i64()
            .filter(|number| *number > 0)
            .ok_or_else(|| fail("'countNumber' must be a number from 1"))?;
        let unit = selection["countUnit"].as_str();
        let count = match (selection["countType"].as_str(), unit) {
            (Some("imageCountMoreThan"), None) => {
                Count::MoreThan(usize::try_from(number).unwrap_or(usize::MAX))
            }
            (Some("imageCountMoreThan"), Some(_)) => {
                return Err(fail("imageCountMoreThan takes no countUnit"));
            }
            (Some("sinceImagePushed"), Some("days")) => Count::DaysSincePushed(number),
            (Some("sinceImagePulled"), Some("days")) => Count::DaysSincePulled(number),
            (Some("sinceImagePushed" | "sinceImagePulled"), _) => {
                return Err(fail("countUnit must be 'days'"));
            }
            _ => {
                return Err(fail(
                    "'countType' must be one of imageCountMoreThan, sinceImagePushed, sinceImagePulled",
                ));
            }
        };
        if rule["action"]["type"] != "expire" {
            return Err(fail("'action.type' must be expire"));
        }
        Ok(Self { priority, status, count })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn image(digest: &str, tags: &[&str], days_old: i64) -> Candidate {
        Candidate {
            digest: digest.to_owned(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            pushed: -days_old * DAY,
            pulled: None,
            holds: Vec::new(),
        }
    }

    fn rule(priority: u64, selection: &Value) -> Value {
        json!({ "rulePriority": priority, "selection": selection, "action": { "type": "expire" } })
    }

    fn expired(rules: &[Value], images: &[Candidate]) -> Vec<(String, u64)> {
        Policy::parse(&json!({ "rules": rules }).to_string())
            .unwrap()
            .expired(images, 0)
            .into_iter()
            .collect()
    }

    #[test]
    fn the_newest_builds_are_kept_and_the_runtime_tag_is_protected() {
        let protect = rule(
            1,
            &json!({ "tagStatus": "tagged", "tagPatternList": ["java17"], "countType": "imageCountMoreThan", "countNumber": 1 }),
        );
        let keep_two = rule(
            2,
            &json!({ "tagStatus": "tagged", "tagPatternList": ["java17-sha256-*"], "countType": "imageCountMoreThan", "countNumber": 2 }),
        );
        let images = [
            image("old-in-use", &["java17", "java17-sha256-a"], 40),
            image("oldest", &["java17-sha256-b"], 30),
            image("middle", &["java17-sha256-c"], 20),
            image("newest", &["java17-sha256-d"], 10),
            image("other", &["python3.8-sha256-e"], 90),
        ];
        assert_eq!(expired(&[keep_two, protect], &images), [("oldest".to_owned(), 2)]);
    }

    #[test]
    fn patterns_of_one_rule_have_to_match_all() {
        let both = rule(
            1,
            &json!({ "tagStatus": "tagged", "tagPrefixList": ["a", "b"], "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 5 }),
        );
        let images =
            [image("one", &["a1"], 10), image("two", &["a1", "b1"], 10), image("young", &["a2", "b2"], 5)];
        assert_eq!(expired(&[both], &images), [("two".to_owned(), 1)]);
    }

    #[test]
    fn images_of_an_index_stay_with_it() {
        let untagged = rule(
            1,
            &json!({ "tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 1 }),
        );
        let mut index = image("index", &["latest"], 10);
        index.holds = vec!["child".to_owned()];
        let images = [index, image("child", &[], 10), image("alone", &[], 10)];
        assert_eq!(expired(&[untagged], &images), [("alone".to_owned(), 1)]);
    }

    #[test]
    fn invalid_policies_name_the_rule() {
        let parse = |rules: &[Value]| Policy::parse(&json!({ "rules": rules }).to_string());
        let any = |priority| {
            rule(
                priority,
                &json!({ "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1 }),
            )
        };
        assert!(parse(&[any(1), any(2)]).is_err());
        assert!(parse(&[any(3)]).is_ok());
        let untagged = |priority| {
            rule(
                priority,
                &json!({ "tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 1 }),
            )
        };
        assert!(parse(&[any(1), untagged(2)]).unwrap_err().to_string().contains("highest rulePriority"));
        assert!(parse(&[untagged(2), untagged(2)]).unwrap_err().to_string().contains("used twice"));
        let tagged =
            rule(7, &json!({ "tagStatus": "tagged", "countType": "imageCountMoreThan", "countNumber": 1 }));
        assert!(parse(&[tagged]).unwrap_err().to_string().contains("rule 7"));
        assert!(Policy::parse("{").is_err());
    }
}
