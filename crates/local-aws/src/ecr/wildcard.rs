//! ECR's patterns: `*` matches any characters, all others match themselves.

/// Whether `pattern` matches the whole of `text`.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(first) = parts.next() else { return text.is_empty() };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    // No star: the prefix has to be the whole text.
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_match_any_characters() {
        assert!(matches("*-sha256-*", "python3.8-sha256-0123456789ab"));
        assert!(!matches("*-sha256-*", "python3.8"));
        assert!(matches("v*", "v1"));
        assert!(!matches("v*", "1v"));
        assert!(matches("latest", "latest"));
        assert!(!matches("latest", "latest1"));
        assert!(matches("*", ""));
        assert!(!matches("a*a", "a"));
        assert!(matches("a*b*c", "a-b-b-c"));
    }
}
