//! Files and helpers of every kind, with secrets that must not appear anywhere.

use std::path::Path;

use process::{Cmd, Secret};

use super::*;
use places::{in_file, in_variable};

pub(super) const SECRET: &str = "hunter2";

/// Files of one test.
pub(super) struct Fixture {
    dir: tempfile::TempDir,
}

/// Runs the crate's work to its end.
pub(super) fn now<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

impl Fixture {
    pub(super) fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        Self { dir }
    }

    /// A helper that logs its requests, and runs `script`.
    pub(super) fn helper(self, name: &str, script: &str) -> Self {
        let path = self.dir.path().join(format!("docker-credential-{name}"));
        let note = self.dir.path().join("asked");
        let text = format!("#!/bin/sh\nread -r host\necho \"$1 $host\" >> '{}'\n{script}\n", note.display());
        // Written by another program: if this process had the file open for writing, a child that another test starts at that
        // moment could inherit it, and a program that is open for writing cannot be started.
        Cmd::new("sh")
            .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
            .arg(path)
            .stdin(Secret::new(text))
            .read()
            .unwrap();
        self
    }

    pub(super) fn credentials(&self) -> DockerCredentials {
        let mut path = self.dir.path().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let places = vec![docker(&self.dir.path().join("config.json"))];
        DockerCredentials { places, path: Some(path), timeout: TIMEOUT }
    }

    pub(super) fn find(&self, registry: &str) -> Option<Credential> {
        now(self.credentials().find(&server(registry))).unwrap()
    }

    pub(super) fn error(&self, registry: &str) -> String {
        let error = now(self.credentials().find(&server(registry))).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(!format!("{error:?} {error} {cause}").contains(SECRET), "{error:?}");
        [error.to_string(), cause].join(" | ")
    }

    fn asked(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("asked")).unwrap_or_default()
    }
}

fn docker(path: &Path) -> Place {
    in_file(path.into(), "~/.docker/config.json", "docker login")
}

/// The server of a host (by https) or of an address.
pub(super) fn server(text: &str) -> Server {
    let address = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    Server::of(&address).unwrap()
}

pub(super) fn basic(username: &str, password: &str) -> Option<Credential> {
    Some(Credential::Basic { username: username.to_owned(), password: password.to_owned() })
}

#[test]
fn keys_of_every_spelling_are_found() {
    // me:hunter2, you:hunter2
    let fixture = Fixture::new(
        r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "bWU6aHVudGVyMg=="},
            "https://quay.io": {"auth": "bWU6aHVudGVyMg"},
            "http://localhost:5000/v2/": {"auth": "eW91Omh1bnRlcjI="},
            "ghcr.io": {"identitytoken": "hunter2", "auth": "bWU6aHVudGVyMg=="},
            "ghcr.io/team": {"auth": "eW91Omh1bnRlcjI="},
            "plain.example": {"username": "me", "password": "hunter2"},
            "nul.example": {"auth": "bWU6aHVudGVyMgAA"},
            "lines.example": {"auth": "bWU6aHVu\ndGVyMg==\n"},
            "null.example": null,
            "empty.example": {}
        }, "HttpHeaders": {"X": "y"}}"#,
    );
    for hub in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
        assert_eq!(fixture.find(hub), basic("me", SECRET), "{hub}");
    }
    assert_eq!(fixture.find("quay.io"), basic("me", SECRET));
    assert_eq!(fixture.find("localhost:5000"), basic("you", SECRET));
    assert_eq!(fixture.find("ghcr.io"), Some(Credential::IdentityToken(SECRET.to_owned())));
    assert_eq!(fixture.find("plain.example"), basic("me", SECRET));
    assert_eq!(fixture.find("nul.example"), basic("me", SECRET));
    assert_eq!(fixture.find("lines.example"), basic("me", SECRET));
    for nobody in ["empty.example", "null.example", "public.ecr.aws", "localhost", "localhost:5001", "io"] {
        assert_eq!(fixture.find(nobody), None, "{nobody}");
    }
}

#[test]
fn helpers_have_precedence_over_the_file() {
    let fixture = Fixture::new(
        r#"{"auths": {"ghcr.io": {"auth": "bWU6aHVudGVyMg=="}, "quay.io": {}},
            "credHelpers": {"https://ecr.example": "own", "docker.io": "own"}, "credsStore": "store"}"#,
    )
    .helper("own", r#"printf '{"ServerURL": "x", "Username": "AWS", "Secret": "hunter2"}'"#)
    .helper(
        "store",
        r#"if [ "$host" = quay.io ]; then printf '{"ServerURL":"x","Username":"<token>","Secret":"hunter2"}'; exit; fi
           echo "a warning" >&2; echo "credentials not found in native keychain"; exit 1"#,
    );
    assert_eq!(fixture.find("ecr.example"), basic("AWS", SECRET));
    assert_eq!(fixture.find("docker.io"), basic("AWS", SECRET));
    assert_eq!(fixture.find("quay.io"), Some(Credential::IdentityToken(SECRET.to_owned())));
    assert_eq!(fixture.find("ghcr.io"), basic("me", SECRET), "the store has nothing");
    assert_eq!(fixture.find("other.example"), None);
    assert_eq!(
        fixture.asked(),
        "get ecr.example\nget https://index.docker.io/v1/\nget quay.io\nget ghcr.io\nget other.example\n"
    );
}

#[test]
fn broken_files_are_clear_errors_without_their_content() {
    for (text, problem) in [
        ("{\"auths\": {\"a\": hunter2}}", "is not JSON from line 1, column 17 on"),
        ("[\"hunter2\"]", "is not a JSON object"),
        ("{\"auths\": \"hunter2\"}", "auths is not an object"),
        ("{\"auths\": {\"a.b\": \"hunter2\"}}", "auths.\"a.b\" is not an object"),
        (
            "{\"auths\": {\"a.b\": {\"auth\": \"hunter2!\"}}}",
            "auths.\"a.b\".auth is not base64 of user:password",
        ),
        (
            "{\"auths\": {\"a.b\": {\"auth\": \"aHVudGVyMg==\"}}}",
            "auths.\"a.b\".auth is not base64 of user:password",
        ),
        (
            "{\"auths\": {\"a.b\": {\"identitytoken\": [\"hunter2\"]}}}",
            "auths.\"a.b\".identitytoken is not a string",
        ),
        ("{\"credsStore\": \"../hunter2\"}", "credsStore is not a valid name of a credential helper"),
        ("{\"credHelpers\": {\"x\": 1}}", "credHelpers.\"x\" is not a valid name of a credential helper"),
        (" ", "is not JSON from line 1, column 1 on"),
    ] {
        let fixture = Fixture::new(text);
        assert_eq!(
            fixture.error("a.b"),
            format!("~/.docker/config.json: {problem}; `docker login` writes a new one | ")
        );
        assert!(fixture.credentials().check().is_err());
    }
}

#[test]
fn a_helper_that_breaks_is_named_and_never_quoted() {
    let config = |name: &str| format!("{{\"credsStore\": \"{name}\"}}");
    let run = |script: &str| Fixture::new(&config("x")).helper("x", script).error("ghcr.io");
    assert_eq!(
        run("echo 'the keychain is locked'; exit 1"),
        "docker-credential-x has no answer for ghcr.io: the keychain is locked | "
    );
    assert_eq!(
        run("echo '{\"Secret\": \"hunter2\"}'; echo why >&2; exit 1"),
        "docker-credential-x has no answer for ghcr.io: why | "
    );
    assert!(run("exit 1").contains("it failed without a word"));
    for answer in ["hunter2", "{\"Username\": 1, \"Secret\": \"hunter2\"}", "{\"Secret\": \"hunter2\"}", ""] {
        assert!(run(&format!("echo '{answer}'")).contains("an answer for ghcr.io that is not"), "{answer}");
    }
}

#[tokio::test]
async fn the_registry_crate_gets_the_current_login() {
    let fixture = Fixture::new("{}");
    let credentials = fixture.credentials();
    assert_eq!(Credentials::get(&credentials, &server("quay.io"), None).await.unwrap(), None);
    let login = r#"{"auths": {"quay.io": {"auth": "bWU6aHVudGVyMg=="}}}"#;
    std::fs::write(fixture.dir.path().join("config.json"), login).unwrap();
    assert_eq!(Credentials::get(&credentials, &server("quay.io"), None).await.unwrap(), basic("me", SECRET));
    assert!(!format!("{credentials:?}").contains(SECRET));
}

#[test]
fn no_file_is_required() {
    let dir = tempfile::tempdir().unwrap();
    let credentials = |places| DockerCredentials { places, path: None, timeout: TIMEOUT };
    let absent = credentials(vec![docker(&dir.path().join("absent"))]);
    assert!(now(absent.find(&server("quay.io"))).unwrap().is_none());
    assert!(now(credentials(Vec::new()).find(&server("quay.io"))).unwrap().is_none());
    // A directory instead of the file exists and cannot be read.
    let broken = credentials(vec![docker(dir.path())]);
    assert_eq!(broken.check().unwrap_err().to_string(), "~/.docker/config.json cannot be read");
}

#[test]
fn over_plain_http_only_a_login_for_that_address_is_used() {
    // me:hunter2
    let keys = |keys: &[&str]| {
        let entries = keys.iter().map(|key| format!("\"{key}\": {{\"auth\": \"bWU6aHVudGVyMg==\"}}"));
        Fixture::new(&format!("{{\"auths\": {{{}}}}}", entries.collect::<Vec<_>>().join(",")))
    };
    for (key, address, is_used) in [
        ("mirror.corp", "http://mirror.corp", true),
        ("MIRROR.corp", "http://mirror.corp", true),
        ("mirror.corp:80", "http://mirror.corp", true),
        ("http://mirror.corp/v2/", "http://mirror.corp", true),
        ("mirror.corp:5000", "http://mirror.corp:5000", true),
        ("https://mirror.corp", "http://mirror.corp", false),
        ("mirror.corp/team", "http://mirror.corp", false),
        ("mirror.corp", "http://mirror.corp:5000", false),
        ("mirror.corp:443", "http://mirror.corp", false),
        ("corp", "http://mirror.corp", false),
        ("https://index.docker.io/v1/", "http://mirror.corp", false),
        ("https://index.docker.io/v1/", "http://registry-1.docker.io", false),
        ("https://index.docker.io/v1/", "https://mirror.corp", false),
        ("https://mirror.corp", "https://mirror.corp", true),
        ("mirror.corp:443", "https://mirror.corp", true),
        ("mirror.corp:8443", "https://mirror.corp", false),
        ("127.0.0.1:5000", "http://127.0.0.1:5000", true),
    ] {
        let found = keys(&[key]).find(address);
        assert_eq!(found, basic("me", SECRET).filter(|_| is_used), "{key} at {address}");
    }
}

#[test]
fn a_helper_is_asked_for_the_address_of_the_server() {
    let fixture = Fixture::new(r#"{"credsStore": "store"}"#)
        .helper("store", r#"echo "credentials not found in native keychain"; exit 1"#);
    for address in ["http://mirror.corp:5000/hub", "https://mirror.corp", "http://registry-1.docker.io"] {
        assert_eq!(fixture.find(address), None);
    }
    assert_eq!(fixture.asked(), "get mirror.corp:5000\nget mirror.corp\nget registry-1.docker.io\n");
}

#[test]
fn podmans_logins_are_used_if_docker_has_none() {
    let fixture = Fixture::new(r#"{"auths": {"quay.io": {"auth": "bWU6aHVudGVyMg=="}}}"#);
    let path = fixture.dir.path().join("auth.json");
    let theirs =
        r#"{"auths": {"quay.io": {"auth": "eW91Omh1bnRlcjI="}, "ghcr.io": {"auth": "eW91Omh1bnRlcjI="}}}"#;
    std::fs::write(&path, theirs).unwrap();
    let mut credentials = fixture.credentials();
    credentials.places.push(in_file(path.clone(), "auth.json", "podman login"));
    assert_eq!(now(credentials.find(&server("quay.io"))).unwrap(), basic("me", SECRET));
    assert_eq!(now(credentials.find(&server("ghcr.io"))).unwrap(), basic("you", SECRET));
    credentials.places.reverse();
    assert_eq!(now(credentials.find(&server("quay.io"))).unwrap(), basic("you", SECRET));
    std::fs::write(&path, "hunter2").unwrap();
    let error = credentials.check().unwrap_err().to_string();
    assert_eq!(error, "auth.json: is not JSON from line 1, column 1 on; `podman login` writes a new one");
}

#[test]
fn a_helper_of_podmans_file_is_asked_too() {
    let fixture = Fixture::new(r#"{"auths": {"ghcr.io": {"auth": "bWU6aHVudGVyMg=="}}}"#)
        .helper("theirs", r#"echo '{"Username": "you", "Secret": "hunter2"}'"#);
    let path = fixture.dir.path().join("auth.json");
    std::fs::write(&path, r#"{"credHelpers": {"quay.io": "theirs", "ghcr.io": "theirs"}}"#).unwrap();
    let mut credentials = fixture.credentials();
    credentials.places.push(in_file(path, "auth.json", "podman login"));
    assert_eq!(now(credentials.find(&server("quay.io"))).unwrap(), basic("you", SECRET));
    assert_eq!(
        now(credentials.find(&server("ghcr.io"))).unwrap(),
        basic("me", SECRET),
        "docker's comes first"
    );
    assert_eq!(fixture.asked(), "get quay.io\n");
}

#[test]
fn an_empty_file_is_no_file_and_a_missing_helper_stops_nothing_else() {
    assert_eq!(Fixture::new("").find("ghcr.io"), None);
    let fixture = Fixture::new(r#"{"credsStore": "nowhere.exe", "auths": {"ghcr.io": {"auth": "YTpi"}}}"#);
    assert_eq!(fixture.find("quay.io"), None);
    assert_eq!(fixture.find("ghcr.io"), basic("a", "b"));
    assert_eq!(
        now(fixture.credentials().helper(&server("ghcr.io"))).unwrap().as_deref(),
        Some("nowhere.exe")
    );
}

#[test]
fn a_helper_that_hangs_or_prints_without_end_is_killed_and_named() {
    let fixture = Fixture::new(r#"{"credsStore": "slow"}"#).helper("slow", "sleep 600 & wait");
    let mut credentials = fixture.credentials();
    credentials.timeout = Duration::from_secs(1);
    let error = now(credentials.find(&server("ghcr.io"))).unwrap_err();
    assert_eq!(error.to_string(), "docker-credential-slow gives no answer for ghcr.io");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "docker-credential-slow did not end within 1s and was killed");
    let error = Fixture::new(r#"{"credsStore": "x"}"#).helper("x", "yes hunter2").error("ghcr.io");
    assert_eq!(
        error,
        "docker-credential-x gives no answer for ghcr.io | docker-credential-x printed more than 1048576 bytes and was killed"
    );
}

#[test]
fn the_variable_has_precedence_over_the_files() {
    let fixture = Fixture::new(
        r#"{"auths": {"quay.io": {"auth": "eW91Omh1bnRlcjI="}, "ghcr.io": {"auth": "eW91Omh1bnRlcjI="}}, "credsStore": "x"}"#,
    )
    .helper("x", r#"printf '{"Username": "kept", "Secret": "hunter2"}'"#);
    let with = |text: &str| {
        let mut credentials = fixture.credentials();
        credentials.places.insert(0, in_variable(text.to_owned()));
        credentials
    };
    let credentials = with(
        r#"{"auths": {"quay.io": {"auth": "bWU6aHVudGVyMg=="}, "t.example": {"registrytoken": "hunter2", "auth": "eDp5"}}}"#,
    );
    let found = |name| now(credentials.find(&server(name))).unwrap();
    assert_eq!(found("quay.io"), basic("me", SECRET));
    assert_eq!(found("t.example"), Some(Credential::RegistryToken(SECRET.to_owned())));
    assert_eq!(found("ghcr.io"), basic("kept", SECRET));
    assert!(!format!("{credentials:?}").contains(SECRET));
    // The client writes to its own file, whatever is in the variable.
    assert_eq!(now(credentials.helper(&server("quay.io"))).unwrap().as_deref(), Some("x"));
    let error = now(with("{\"auths\": hunter2").find(&server("quay.io"))).unwrap_err().to_string();
    let wanted =
        "$DOCKER_AUTH_CONFIG: is not JSON from line 1, column 11 on; it has the form of docker's config.json";
    assert_eq!(error, wanted);
}

#[test]
fn a_login_for_a_namespace_is_only_used_below_it() {
    let fixture = Fixture::new(
        r#"{"auths": {
            "quay.io": {"auth": "bWU6aHVudGVyMg=="},
            "quay.io/team": {"auth": "eW91Omh1bnRlcjI="},
            "quay.io/team/app": {"auth": "YXBwOmh1bnRlcjI="},
            "docker.io/team": {"auth": "eW91Omh1bnRlcjI="},
            "ghcr.io/other": {"auth": "eW91Omh1bnRlcjI="},
            "mirror.corp/team": {"auth": "eW91Omh1bnRlcjI="},
            "https://old.corp/team": {"auth": "bWU6aHVudGVyMg=="},
            "public.ecr.aws/team": {"auth": "eW91Omh1bnRlcjI="}
        }, "credHelpers": {"ghcr.io/other": "x"}}"#,
    );
    let credentials = fixture.credentials();
    let found = |address: &str, repository: &str| {
        let server = server(address);
        let namespaces = now(credentials.namespaces(&server)).unwrap();
        now(credentials.find(&server.around(repository, &namespaces))).unwrap()
    };
    for (address, repository, user) in [
        ("quay.io", "other/app", "me"),
        ("quay.io", "team/other", "you"),
        ("quay.io", "teams/app", "me"),
        ("quay.io", "team/app", "app"),
        ("quay.io", "team/app/base", "app"),
        ("registry-1.docker.io", "team/app", "you"),
        ("registry-1.docker.io", "library/x", ""),
        ("ghcr.io", "team/app", ""),
        ("ghcr.io", "other/app", "you"),
        ("http://mirror.corp", "team/app", "you"),
        ("http://mirror.corp:81", "team/app", ""),
        ("http://mirror.corp", "app", ""),
        ("old.corp", "app", "me"),
        ("http://old.corp", "team/app", ""),
        ("ecr-public.aws.com", "team/app", "you"),
        ("ecr-public.aws.com", "app", ""),
    ] {
        let wanted = basic(user, SECRET).filter(|_| !user.is_empty());
        assert_eq!(found(address, repository), wanted, "{repository} at {address}");
    }
    assert_eq!(fixture.asked(), "");
}
