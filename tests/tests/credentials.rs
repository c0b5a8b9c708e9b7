//! What is sent to whom: a login goes to the address that it was stored for, whatever the image's name, a redirect or a token
//! service's address says, and over plain http to nobody else.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::{Authority, Images, World, digest, request_head};

/// One way to a registry. `LOOP` in an address is a port of this machine.
struct Row {
    source: &'static str,
    /// Where `[upstream]` says that it is reached.
    upstream: Option<&'static str>,
    /// The token service; without: user name and password are wanted with each request.
    realm: Option<&'static str>,
    /// Where the token service sends us.
    token_redirect: Option<&'static str>,
    /// Where the registry sends us once it knows us.
    redirect: Option<&'static str>,
    /// Keys of docker's config.json; the user's name is the key's number.
    logins: &'static [&'static str],
    /// Who was shown which user, by password or by a token for that user.
    sent: &'static [&'static str],
}

const HUB: &str = "https://index.docker.io/v1/";
const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

const PLAIN: Row = Row {
    source: "docker.io/library/x:1",
    upstream: None,
    realm: None,
    token_redirect: None,
    redirect: None,
    logins: &[],
    sent: &[],
};

const ROWS: [Row; 38] = [
    // Docker Hub itself, by password and by token.
    Row { logins: &[HUB], sent: &["https://registry-1.docker.io password 0"], ..PLAIN },
    Row {
        realm: Some("https://auth.docker.io/token"),
        logins: &[HUB],
        sent: &["https://auth.docker.io password 0", "https://registry-1.docker.io token 0"],
        ..PLAIN
    },
    Row { logins: &["mirror.corp"], ..PLAIN },
    // A mirror: its own login, or none.
    Row {
        upstream: Some("https://mirror.corp/hub"),
        logins: &[HUB, "mirror.corp"],
        sent: &["https://mirror.corp password 1"],
        ..PLAIN
    },
    Row { upstream: Some("https://mirror.corp/hub"), logins: &[HUB], ..PLAIN },
    Row {
        upstream: Some("http://mirror.corp/hub"),
        logins: &[HUB, "mirror.corp"],
        sent: &["http://mirror.corp password 1"],
        ..PLAIN
    },
    Row { upstream: Some("http://mirror.corp/hub"), logins: &[HUB], ..PLAIN },
    Row { upstream: Some("http://mirror.corp/hub"), logins: &[HUB, "https://mirror.corp"], ..PLAIN },
    Row { upstream: Some("http://mirror.corp:81/hub"), logins: &[HUB, "mirror.corp"], ..PLAIN },
    Row {
        upstream: Some("http://mirror.corp:81/hub"),
        logins: &["mirror.corp", "mirror.corp:81"],
        sent: &["http://mirror.corp:81 password 1"],
        ..PLAIN
    },
    Row { upstream: Some("http://registry-1.docker.io"), logins: &[HUB], ..PLAIN },
    // A mirror on this machine is reached by plain http and read by nobody.
    Row {
        upstream: Some("http://127.0.0.1:LOOP/hub"),
        logins: &[HUB, "127.0.0.1:LOOP"],
        sent: &["http://127.0.0.1:LOOP password 1"],
        ..PLAIN
    },
    Row { upstream: Some("http://127.0.0.1:LOOP/hub"), logins: &[HUB], ..PLAIN },
    // Any other name behind a mirror.
    Row {
        source: "ghcr.io/a/b:1",
        upstream: Some("https://mirror.corp/ghcr"),
        logins: &["ghcr.io", "mirror.corp"],
        sent: &["https://mirror.corp password 1"],
        ..PLAIN
    },
    Row { source: "ghcr.io/a/b:1", upstream: Some("http://mirror.corp"), logins: &["ghcr.io"], ..PLAIN },
    // A pull-through prefix is the registry's that it stands at.
    Row {
        upstream: Some("https://123456789012.dkr.ecr.eu-west-1.amazonaws.com/docker-hub"),
        logins: &[HUB, ECR],
        sent: &["https://123456789012.dkr.ecr.eu-west-1.amazonaws.com password 1"],
        ..PLAIN
    },
    // Token services: of the mirror, elsewhere, and Docker Hub's behind a mirror that hands the challenge through.
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://mirror.corp/token"),
        logins: &[HUB, "mirror.corp"],
        sent: &["https://mirror.corp password 1", "https://mirror.corp token 1"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://sso.corp/token"),
        logins: &[HUB, "mirror.corp", "sso.corp"],
        sent: &["https://sso.corp password 1", "https://mirror.corp token 1"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://auth.docker.io/token"),
        logins: &[HUB, "mirror.corp"],
        ..PLAIN
    },
    Row {
        upstream: Some("http://mirror.corp"),
        realm: Some("https://sso.corp/token"),
        logins: &["mirror.corp", "sso.corp"],
        ..PLAIN
    },
    Row {
        upstream: Some("http://mirror.corp"),
        realm: Some("http://mirror.corp/token"),
        logins: &[HUB, "mirror.corp"],
        sent: &["http://mirror.corp password 1", "http://mirror.corp token 1"],
        ..PLAIN
    },
    Row {
        upstream: Some("http://mirror.corp"),
        realm: Some("http://mirror.corp:81/token"),
        logins: &["mirror.corp"],
        ..PLAIN
    },
    // Plain http in the realm of a registry that is reached by https: the registry's own address is asked.
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("http://mirror.corp/token"),
        logins: &["mirror.corp"],
        sent: &["https://mirror.corp password 0", "https://mirror.corp token 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("http://sso.corp/token"),
        logins: &["mirror.corp", "sso.corp"],
        ..PLAIN
    },
    // A token service that sends us on.
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://mirror.corp/token"),
        token_redirect: Some("https://sso.corp/token"),
        logins: &["mirror.corp", "sso.corp"],
        sent: &["https://mirror.corp password 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://mirror.corp/token"),
        token_redirect: Some("http://mirror.corp/token"),
        logins: &["mirror.corp"],
        sent: &["https://mirror.corp password 0"],
        ..PLAIN
    },
    // A registry that sends us on: nobody else sees who we are, whatever is stored for them.
    Row {
        redirect: Some("https://mirror.corp"),
        logins: &[HUB, "mirror.corp"],
        sent: &["https://registry-1.docker.io password 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("http://mirror.corp"),
        redirect: Some("https://mirror.corp"),
        logins: &["mirror.corp"],
        sent: &["http://mirror.corp password 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        redirect: Some("https://mirror.corp:8443"),
        logins: &["mirror.corp", "mirror.corp:8443"],
        sent: &["https://mirror.corp password 0"],
        ..PLAIN
    },
    // Down to plain http, on the same host or another one, and with a user in the address.
    Row {
        upstream: Some("https://mirror.corp"),
        redirect: Some("http://mirror.corp"),
        logins: &["mirror.corp"],
        sent: &["https://mirror.corp password 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        redirect: Some("http://store.corp"),
        logins: &["mirror.corp", "store.corp"],
        sent: &["https://mirror.corp password 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        redirect: Some("https://clerk:pin@store.corp"),
        logins: &["mirror.corp", "store.corp"],
        sent: &["https://mirror.corp password 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://clerk:pin@sso.corp/token"),
        logins: &["mirror.corp", "sso.corp"],
        ..PLAIN
    },
    Row { upstream: Some("https://mirror.corp"), realm: Some("/token"), logins: &["mirror.corp"], ..PLAIN },
    // One host in other spellings: capital letters, the scheme's own port.
    Row {
        upstream: Some("https://MIRROR.corp:443/hub"),
        logins: &[HUB, "mirror.corp"],
        sent: &["https://mirror.corp password 1"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://Mirror.Corp:443/token"),
        logins: &["MIRROR.CORP:443"],
        sent: &["https://mirror.corp password 0", "https://mirror.corp token 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("http://mirror.corp:80/hub"),
        logins: &["https://mirror.corp", "mirror.corp:80"],
        sent: &["http://mirror.corp password 1"],
        ..PLAIN
    },
    // The token service at another port is another address.
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://mirror.corp:8443/token"),
        logins: &["mirror.corp", "mirror.corp:8443"],
        sent: &["https://mirror.corp:8443 password 0", "https://mirror.corp token 0"],
        ..PLAIN
    },
];

/// Every server of the world, behind one proxy.
struct Network {
    port: u16,
    authority: Authority,
    row: Mutex<Row>,
    sent: Mutex<BTreeSet<String>>,
}

impl Network {
    fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let network = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            authority: Authority::new(),
            row: Mutex::new(PLAIN),
            sent: Mutex::default(),
        });
        let shared = Arc::clone(&network);
        std::thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                let shared = Arc::clone(&shared);
                // An error is a client that went away.
                std::thread::spawn(move || shared.serve(client));
            }
        });
        network
    }

    fn text(&self, address: &str) -> String {
        address.replace("LOOP", &self.port.to_string())
    }

    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let request = request_head(&mut client)?;
        let line = request.lines().next().unwrap_or_default().to_owned();
        if let Some(to) = line.strip_prefix("CONNECT ") {
            let authority = to.split(' ').next().unwrap();
            let host = authority.split(':').next().unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            let origin = format!("https://{}", authority.strip_suffix(":443").unwrap_or(authority));
            let mut client = self.authority.serve(client, host);
            let request = request_head(&mut client)?;
            return self.answer(&mut client, &origin, &request);
        }
        let host = field(&request, "host").unwrap_or_default();
        self.answer(&mut client, &format!("http://{host}"), &request)
    }

    /// The user that a request shows, as the notes have it.
    fn shown(authorization: &str) -> Option<String> {
        if let Some(token) = authorization.strip_prefix("Bearer ") {
            return Some(format!("token {}", token.strip_prefix("for-")?));
        }
        let both = STANDARD.decode(authorization.strip_prefix("Basic ")?).unwrap();
        let both = String::from_utf8(both).unwrap();
        Some(format!("password {}", both.split(':').next().unwrap()))
    }

    fn answer(&self, client: &mut (impl Read + Write), origin: &str, request: &str) -> std::io::Result<()> {
        let authorization = field(request, "authorization").unwrap_or_default();
        let shown = Self::shown(authorization);
        if let Some(shown) = &shown {
            // A token of nobody's is no secret.
            self.sent.lock().unwrap().insert(format!("{origin} {shown}"));
        }
        let target = request.split(' ').nth(1).unwrap_or_default();
        let path = target.strip_prefix(origin).unwrap_or(target);
        let (redirect, token_redirect, realm) = {
            let row = self.row.lock().unwrap();
            (row.redirect, row.token_redirect, row.realm)
        };
        if path.starts_with("/token") {
            if let Some(to) = token_redirect.filter(|to| !to.starts_with(&format!("{origin}/"))) {
                return reply(client, "307 Temporary Redirect", &format!("location: {to}\r\n"), "");
            }
            let user = shown.and_then(|shown| Some(shown.strip_prefix("password ")?.to_owned()));
            let token = user.map_or_else(|| "anonymous".to_owned(), |user| format!("for-{user}"));
            return reply(client, "200 OK", "", &format!("{{\"token\":\"{token}\"}}"));
        }
        if authorization.is_empty() {
            let challenge = realm.map_or_else(
                || "Basic realm=\"x\"".to_owned(),
                |realm| format!("Bearer realm=\"{}\",service=\"s\"", self.text(realm)),
            );
            return reply(client, "401 Unauthorized", &format!("www-authenticate: {challenge}\r\n"), "");
        }
        if let Some(to) = redirect.filter(|to| *to != origin) {
            return reply(client, "307 Temporary Redirect", &format!("location: {to}{path}\r\n"), "");
        }
        let kind = "content-type: application/vnd.oci.image.manifest.v1+json\r\n";
        let named = format!("{kind}docker-content-digest: {}\r\n", digest(b"{}"));
        reply(client, "200 OK", &named, "{}")
    }
}

fn reply(client: &mut impl Write, status: &str, headers: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )?;
    client.flush()
}

fn field<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = request.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

#[test]
fn a_login_goes_where_it_was_stored_for_and_nowhere_else() {
    let Some(world) = World::new(Images::Small) else { return };
    let network = Network::start();
    let ca = world.write("ca.pem", &network.authority.pem);
    let images = world.path("images.toml");
    for (number, row) in ROWS.into_iter().enumerate() {
        let registry = row.source.split('/').next().unwrap();
        let upstream = row.upstream.map_or_else(String::new, |url| {
            format!("[upstream.\"{registry}\"]\nurl = \"{}\"\n", network.text(url))
        });
        let text = format!("schema_version = 1\n[images]\nimg = \"{}\"\n{upstream}", row.source);
        world.write("images.toml", &text);
        // What the row before has locked would not be asked for again.
        let _ = std::fs::remove_file(world.path("images.lock"));
        let auths: BTreeMap<String, serde_json::Value> = row
            .logins
            .iter()
            .enumerate()
            .map(|(user, key)| (network.text(key), STANDARD.encode(format!("{user}:hush-hush"))))
            .map(|(key, auth)| (key, serde_json::json!({ "auth": auth })))
            .collect();
        world.write("docker/config.json", &serde_json::json!({ "auths": auths }).to_string());
        let expected: BTreeSet<String> = row.sent.iter().map(|line| network.text(line)).collect();
        *network.row.lock().unwrap() = row;
        network.sent.lock().unwrap().clear();

        let proxy = format!("http://127.0.0.1:{}", network.port);
        let run = world.bare().arg("--images").arg(&images).args("lock");
        let ended = run.env("HTTPS_PROXY", &proxy).env("HTTP_PROXY", &proxy).env("SSL_CERT_FILE", &ca).end();
        assert_eq!(*network.sent.lock().unwrap(), expected, "row {number}: {text}{ended}");
        assert!(!ended.to_string().contains("hush-hush"), "row {number}: {ended}");
    }
}
