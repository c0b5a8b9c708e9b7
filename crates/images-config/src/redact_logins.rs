//! Removes logins from texts before they are shown.

/// `text` without the user, password and query of the URLs and hosts in it.
pub fn without_logins(text: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || "`'\"<>".contains(c);
    let mut shown = String::with_capacity(text.len());
    for part in text.split_inclusive(is_end) {
        let word = part.trim_end_matches(is_end);
        shown.push_str(&without_login(word));
        shown.push_str(&part[word.len()..]);
    }
    shown
}

fn without_login(word: &str) -> String {
    let (scheme, rest) = word.find("://").map_or(("", word), |at| word.split_at(at + 3));
    let is_url = !scheme.is_empty();
    let (rest, query) = match rest.split_once('?') {
        Some((rest, _)) if is_url => (rest, "?***"),
        _ => (rest, ""),
    };
    let login = rest.rsplit_once('@').filter(|(login, after)| {
        // `keda:2.8@sha256:...` has no login, and `me@example` is not a secret.
        !after.starts_with("sha256:") && !after.starts_with("sha512:") && (is_url || login.contains(':'))
    });
    match login {
        Some((_, host)) => format!("{scheme}***@{host}{query}"),
        None => format!("{scheme}{rest}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_logins_are_redacted() {
        for (text, shown) in [
            ("`https://me:hunter2@m.example/a` is a URL", "`https://***@m.example/a` is a URL"),
            ("'x=http://me:hunter2@m.example'", "'x=http://***@m.example'"),
            ("http://me:hun/ter2@m.example", "http://***@m.example"),
            ("`me:hunter2@m.example/a/b:1`", "`***@m.example/a/b:1`"),
            ("https://m.example/v2?token=hunter2 and so on", "https://m.example/v2?*** and so on"),
            ("https://ghp_hunter2@ghcr.io", "https://***@ghcr.io"),
        ] {
            assert_eq!(without_logins(text), shown);
        }
        for same in [
            "`kedacore/keda:2.8@sha256:aa` is listed twice",
            "did you mean `linux/amd64`?",
            "`https://m.example/a` can have a path, but not `?` or `#`",
            "x: me@example.org\n  --> \"y\"",
            "https://m.example/x@sha256:aa",
        ] {
            assert_eq!(without_logins(same), same);
        }
    }
}
