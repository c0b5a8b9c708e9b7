//! Files as written by hand, by scripts and by old clients.

use super::tests::{Fixture, SECRET, basic};

/// `me:hunter2`
const ME: &str = "bWU6aHVudGVyMg==";

#[test]
fn odd_spellings_of_a_login_are_read() {
    let entry = |key: &str, entry: &str| format!("{{\"auths\": {{\"{key}\": {entry}}}}}");
    let auth = |auth: &str| entry("quay.io", &format!("{{\"auth\": \"{auth}\"}}"));
    for text in [
        auth(ME),
        auth("bWU6aHVudGVyMg"),
        auth("bWU6aHVudGVyMg="),
        auth("bWU6aHVudGVyMg==\\n"),
        auth("bWU6aHVudGVyMg==\\u0000"),
        auth(" bWU6aHVudGVyMg== "),
        // me:hunter2 with a zero, and with the end of a line
        auth("bWU6aHVudGVyMgA="),
        auth("bWU6aHVudGVyMgo="),
        auth("bWU6aHVudGVyMg0K"),
        format!("\u{feff}{}", auth(ME)),
        format!("\n\t {} \n", auth(ME)),
        entry("quay.io/", &format!("{{\"auth\": \"{ME}\"}}")),
        entry(" quay.io ", &format!("{{\"auth\": \"{ME}\"}}")),
        entry("quay.io/v1/", &format!("{{\"auth\": \"{ME}\"}}")),
        entry("https://quay.io/v1/", &format!("{{\"auth\": \"{ME}\"}}")),
        entry("https://quay.io/v2/", &format!("{{\"auth\": \"{ME}\"}}")),
        entry("QUAY.IO:443", &format!("{{\"auth\": \"{ME}\"}}")),
        entry("quay.io", &format!("{{\"Auth\": \"{ME}\"}}")),
        entry("quay.io", "{\"Username\": \"me\", \"Password\": \"hunter2\", \"auth\": null}"),
        format!("{{\"Auths\": {{\"quay.io\": {{\"auth\": \"{ME}\"}}}}}}"),
        format!("{{\"credsStore\": \"\", \"auths\": {{\"quay.io\": {{\"auth\": \"{ME}\"}}}}}}"),
        format!(
            "{{\"credsStore\": null, \"credHelpers\": null, \"auths\": {{\"quay.io\": {{\"auth\": \"{ME}\"}}}}}}"
        ),
        // No helper for this registry, although there is one for all others.
        format!(
            "{{\"credsStore\": \"x\", \"credHelpers\": {{\"quay.io\": \"\"}}, \"auths\": {{\"quay.io\": {{\"auth\": \"{ME}\"}}}}}}"
        ),
    ] {
        assert_eq!(Fixture::new(&text).find("quay.io"), basic("me", SECRET), "{text}");
    }
}

#[test]
fn an_unreadable_login_is_named_and_not_quoted() {
    for (text, problem) in [
        ("{\"Auths\": [\"hunter2\"]}", "auths is not an object"),
        ("{\"auths\": {\"quay.io\": {\"AUTH\": [\"hunter2\"]}}}", "auths.\"quay.io\".auth is not a string"),
        (
            "{\"auths\": {\"quay.io\": {\"auth\": \"bWU6aHVudGVyMg==x\"}}}",
            "auths.\"quay.io\".auth is not base64 of user:password",
        ),
        ("{\"credHelpers\": \"hunter2\"}", "credHelpers is not an object"),
        ("\u{feff}", "is not JSON from line 1, column 0 on"),
    ] {
        let error = Fixture::new(text).error("quay.io");
        assert_eq!(error, format!("~/.docker/config.json: {problem}; `docker login` writes a new one | "));
    }
}
