//! The XML functions that S3 and the query services need: escaping, and reading the text of named elements.

/// `text` with the five reserved characters of XML as entities.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c => out.push(c),
        }
    }
    out
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

/// The inner text of each `<name>` of `document`, in order. Elements of one name are never nested in requests to S3.
pub(crate) fn elements<'a>(document: &'a str, name: &str) -> Vec<&'a str> {
    let (mut found, mut rest) = (Vec::new(), document);
    while let Some(start) = rest.find(&format!("<{name}")) {
        let after = &rest[start + 1 + name.len()..];
        // `<Key` also begins `<KeyMarker>`: the name has to end here.
        if !after.starts_with(['>', ' ', '/', '\n', '\r', '\t']) {
            rest = after;
            continue;
        }
        let Some(open_end) = after.find('>') else { break };
        if after[..open_end].ends_with('/') {
            found.push("");
            rest = &after[open_end + 1..];
            continue;
        }
        let inner = &after[open_end + 1..];
        let Some(close) = inner.find(&format!("</{name}>")) else { break };
        found.push(&inner[..close]);
        rest = &inner[close..];
    }
    found
}

/// The text of the first `<name>`, unescaped.
pub(crate) fn text(document: &str, name: &str) -> Option<String> {
    elements(document, name).first().map(|inner| unescape(inner.trim()))
}

/// `<name>text</name>`.
pub(crate) fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escape(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_completely() {
        let document = "<A xmlns=\"x\"><KeyMarker>no</KeyMarker><Key>a&amp;b</Key><Key/><Key>c</Key></A>";
        assert_eq!(elements(document, "Key"), ["a&amp;b", "", "c"]);
        assert_eq!(text(document, "Key").as_deref(), Some("a&b"));
        assert_eq!(text(document, "Missing"), None);
        assert_eq!(element("Key", "<&>"), "<Key>&lt;&amp;&gt;</Key>");
    }
}
