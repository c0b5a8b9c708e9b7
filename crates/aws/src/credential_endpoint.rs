//! Credentials for the programs that this process starts.
//!
//! They request credentials from a local address, as programs in a container do
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>), with a token that only they have. A run
//! can then outlast a session, no secret is in an environment variable, and no other source of credentials can lead a program to
//! another account.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_smithy_types::date_time::{DateTime, Format};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PATH: &str = "/credentials";
/// More than the length of a request for credentials.
const LONGEST_REQUEST: usize = 8 * 1024;
/// How long a client may take to send its request.
const SLOWEST_REQUEST: Duration = Duration::from_secs(10);
/// How often in a row accepting a client may fail, and the pause between attempts: 30 seconds in total.
const ACCEPTS: u32 = 1_500;
const BETWEEN_ACCEPTS: Duration = Duration::from_millis(20);

/// The endpoint, served until this is dropped.
#[derive(Debug)]
pub(super) struct CredentialEndpoint {
    url: String,
    token: String,
    task: tokio::task::JoinHandle<()>,
}

impl CredentialEndpoint {
    /// Starts to serve the credentials of `provider`.
    pub(super) async fn start(provider: SharedCredentialsProvider) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("could not listen on this machine's own address")?;
        let url = format!("http://{}{PATH}", listener.local_addr()?);
        let token = token()?;
        let expected: Arc<str> = token.as_str().into();
        let task = tokio::spawn(async move {
            // After the end of this loop, clients are refused at once and report it.
            while let Ok((client, _)) = accepted(BETWEEN_ACCEPTS, || listener.accept()).await {
                let (provider, expected) = (provider.clone(), Arc::clone(&expected));
                tokio::spawn(async move {
                    // An error here is a client that disconnected.
                    let _ = serve(client, &expected, &provider).await;
                });
            }
        });
        Ok(Self { url, token, task })
    }

    /// The environment variables that lead a program to the endpoint.
    pub(super) fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", self.url.clone()),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", self.token.clone()),
        ]
    }
}

impl Drop for CredentialEndpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The next client. `accept` fails once for a client that disconnects at this moment. Without a free file descriptor it fails until
/// there is one, which is awaited for a limited time.
async fn accepted<T, F: Future<Output = std::io::Result<T>>>(
    between: Duration,
    mut accept: impl FnMut() -> F,
) -> std::io::Result<T> {
    for _ in 1..ACCEPTS {
        if let Ok(client) = accept().await {
            return Ok(client);
        }
        tokio::time::sleep(between).await;
    }
    accept().await
}

/// 256 random bits.
fn token() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).ok().context("this machine has no randomness")?;
    Ok(hex::encode(bytes))
}

async fn serve(
    mut client: TcpStream,
    token: &str,
    provider: &SharedCredentialsProvider,
) -> std::io::Result<()> {
    let head = tokio::time::timeout(SLOWEST_REQUEST, read_head(&mut client)).await??;
    let (status, document) = answer(&head, token, provider).await;
    let body = document.to_string();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}

async fn read_head(client: &mut TcpStream) -> std::io::Result<String> {
    let (mut head, mut part) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < LONGEST_REQUEST {
        match client.read(&mut part).await? {
            0 => break,
            length => head.extend_from_slice(&part[..length]),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

async fn answer(head: &str, token: &str, provider: &SharedCredentialsProvider) -> (&'static str, Value) {
    let refusal = |code: &str, message: &str| json!({ "code": code, "message": message });
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let given = fields.filter(|(name, _)| name.eq_ignore_ascii_case("authorization")).map(|(_, v)| v.trim());
    if !given.into_iter().any(|given| is_same(given, token)) {
        return ("403 Forbidden", refusal("AccessDenied", "the token is missing or wrong"));
    }
    let mut words = head.split_whitespace();
    if (words.next(), words.next()) != (Some("GET"), Some(PATH)) {
        return ("404 Not Found", refusal("NotFound", "only credentials are here"));
    }
    match provider.provide_credentials().await {
        Ok(credentials) => {
            let mut document = json!({
                "AccessKeyId": credentials.access_key_id(),
                "SecretAccessKey": credentials.secret_access_key(),
                "Token": credentials.session_token().unwrap_or_default(),
            });
            let end = credentials.expiry().map(DateTime::from);
            if let Some(end) = end.and_then(|end| end.fmt(Format::DateTime).ok()) {
                document["Expiration"] = end.into();
            }
            ("200 OK", document)
        }
        Err(_) => (
            "500 Internal Server Error",
            refusal("NoCredentials", "the credentials of this run have expired"),
        ),
    }
}

/// Compares in constant time, so that the duration does not show how much of it was right.
fn is_same(given: &str, wanted: &str) -> bool {
    given.len() == wanted.len()
        && given.bytes().zip(wanted.bytes()).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;

    use super::*;

    #[tokio::test]
    async fn waiting_for_a_client_has_a_limit() {
        let failing = async |times: u32| {
            let mut asked = 0;
            let accepted = accepted(Duration::ZERO, || {
                asked += 1;
                let no_room = || std::io::Error::other("no file descriptor");
                std::future::ready(if asked > times { Ok(asked) } else { Err(no_room()) })
            });
            (accepted.await.ok(), asked)
        };
        assert_eq!(failing(0).await, (Some(1), 1));
        assert_eq!(failing(ACCEPTS - 1).await, (Some(ACCEPTS), ACCEPTS));
        assert_eq!(failing(ACCEPTS).await, (None, ACCEPTS));
    }

    #[tokio::test]
    async fn only_requests_with_the_token_get_credentials() {
        let end = std::time::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        let keys = Credentials::new("AKIA1", "hush", Some("session".into()), Some(end), "test");
        let endpoint = CredentialEndpoint::start(SharedCredentialsProvider::new(keys)).await.unwrap();
        let [(_, url), (_, token)] = endpoint.environment();
        assert!(url.starts_with("http://127.0.0.1:") && token.len() == 64);
        let ask = |path: &str, authorization: String| {
            let address = url.trim_start_matches("http://").trim_end_matches(PATH).to_owned();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{authorization}\r\n\r\n");
            async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                text
            }
        };
        let good = ask(PATH, format!("authorization: {token}")).await;
        let (_, body) = good.split_once("\r\n\r\n").unwrap();
        let expected = json!({
            "AccessKeyId": "AKIA1", "SecretAccessKey": "hush", "Token": "session", "Expiration": "2096-10-02T07:06:40Z",
        });
        assert_eq!(serde_json::from_str::<Value>(body).unwrap(), expected);
        let mut wrong = token.clone();
        wrong.replace_range(63.., if token.ends_with('0') { "1" } else { "0" });
        for authorization in
            ["x: y".to_owned(), format!("Authorization: {wrong}"), "Authorization: ".to_owned()]
        {
            let refused = ask(PATH, authorization).await;
            assert!(refused.starts_with("HTTP/1.1 403") && !refused.contains("hush"), "{refused}");
        }
        assert!(ask("/", format!("Authorization: {token}")).await.starts_with("HTTP/1.1 404"));
    }
}
