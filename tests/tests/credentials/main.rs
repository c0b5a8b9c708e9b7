//! Which server gets which login: a login goes to the address that it was stored for, whatever the image's name, a redirect or a
//! token service's address is, and over plain http to no other.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

mod files;
mod kinds;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::{Authority, Images, World, digest, request_head};
use kinds::{KINDS, entry};
use rows::{PLAIN, ROWS, Row};

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
                // An error is a client that closed the connection.
                std::thread::spawn(move || shared.serve(client));
            }
        });
        network
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
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

    /// The user that a request shows, in the format of the table.
    fn shown(authorization: &str, form: &str) -> Option<String> {
        if !form.is_empty() {
            let own = |field: &&str| !field.starts_with("service=") && !field.starts_with("scope=");
            return Some(form.split('&').filter(own).collect::<Vec<_>>().join("&"));
        }
        if let Some(token) = authorization.strip_prefix("Bearer ") {
            return Some(format!("token {}", token.strip_prefix("for-")?));
        }
        let both = STANDARD.decode(authorization.strip_prefix("Basic ")?).unwrap();
        let both = String::from_utf8(both).unwrap();
        Some(format!("password {}", both.split(':').next().unwrap()))
    }

    fn answer(&self, client: &mut (impl Read + Write), origin: &str, request: &str) -> std::io::Result<()> {
        let authorization = field(request, "authorization").unwrap_or_default();
        let length = field(request, "content-length").and_then(|length| length.parse().ok());
        let mut form = vec![0; length.unwrap_or_default()];
        client.read_exact(&mut form)?;
        let shown = Self::shown(authorization, &String::from_utf8_lossy(&form));
        if let Some(shown) = &shown {
            // An anonymous token is not a secret.
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
            let user = shown.and_then(|shown| shown.chars().rfind(char::is_ascii_digit));
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
fn a_login_is_only_sent_to_the_address_it_was_stored_for() {
    let Some(world) = World::new(Images::Small) else { return };
    let network = Network::start();
    let ca = world.write("ca.pem", &network.authority.pem);
    let images = world.path("images.toml");
    let places = ROWS.iter().chain(KINDS).enumerate().flat_map(|row| [(row, true), (row, false)]);
    for ((number, row), by_file) in places {
        let registry = row.source.split('/').next().unwrap();
        let upstream = row.upstream.map_or_else(String::new, |url| {
            format!("[upstream.\"{registry}\"]\nurl = \"{}\"\n", network.text(url))
        });
        let text = format!("schema_version = 1\n[images]\nimg = \"{}\"\n{upstream}", row.source);
        world.write("images.toml", &text);
        // A digest that the previous row locked would not be read again.
        let _ = std::fs::remove_file(world.path("images.lock"));
        let auths: BTreeMap<String, serde_json::Value> = row
            .logins
            .iter()
            .enumerate()
            .map(|(user, login)| {
                let (kind, key) = login.rsplit_once(' ').unwrap_or(("password", login));
                (network.text(key), entry(kind, user))
            })
            .collect();
        let logins = serde_json::json!({ "auths": auths }).to_string();
        world.write("docker/config.json", if by_file { &logins } else { "{}" });
        let expected: BTreeSet<String> = row.sent.iter().map(|line| network.text(line)).collect();
        *network.row.lock().unwrap() = *row;
        network.sent.lock().unwrap().clear();

        let proxy = network.url();
        let run = world.bare().arg("--images").arg(&images).args("lock");
        let run = if by_file { run } else { run.env("DOCKER_AUTH_CONFIG", &logins) };
        let ended = run.env("HTTPS_PROXY", &proxy).env("HTTP_PROXY", &proxy).env("SSL_CERT_FILE", &ca).end();
        assert_eq!(*network.sent.lock().unwrap(), expected, "row {number}: {text}{ended}");
        assert!(!ended.to_string().contains("hush-hush"), "row {number}: {ended}");
    }
}
