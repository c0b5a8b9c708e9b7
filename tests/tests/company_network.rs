//! A company's network: the only way out is a proxy that requires a password and inspects TLS with the company's own CA. Every
//! client of the process uses the same variables.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use e2e::{Authority, Images, REGION, Run, World, request_head};

const USER: &str = "clerk:hush-hush";

const IDENTITY: &str = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/ops</Arn>\
    <UserId>AIDA</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
keda = "ghcr.io/kedacore/keda:2.11.2"
"#;

/// Each command, and the hosts that its clients call: the AWS SDK, our own signed requests, the registries.
const ASKED: [(&str, &[&str]); 4] = [
    ("init-images", &["sts.eu-west-1.amazonaws.com", "cloudformation.eu-west-1.amazonaws.com"]),
    (
        "init-images --state-bucket grid-state",
        &["sts.eu-west-1.amazonaws.com", "grid-state.s3.eu-west-1.amazonaws.com"],
    ),
    ("list-images", &["sts.eu-west-1.amazonaws.com", "api.ecr.eu-west-1.amazonaws.com"]),
    ("lock", &["registry-1.docker.io", "ghcr.io"]),
];

/// A proxy that inspects the connections through it, and a server for direct connections. It answers whose keys these are, and
/// denies everything else.
struct Company {
    port: u16,
    ca: String,
    noted: Arc<Mutex<Vec<String>>>,
}

impl Company {
    fn start() -> Self {
        let authority = Arc::new(Authority::new());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let company = Self {
            port: listener.local_addr().unwrap().port(),
            ca: authority.pem.clone(),
            noted: Arc::default(),
        };
        let noted = Arc::clone(&company.noted);
        std::thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                let (noted, authority) = (Arc::clone(&noted), Arc::clone(&authority));
                // An error is a client that closed the connection, or does not trust the certificate.
                std::thread::spawn(move || {
                    serve(client, &authority, &|line| noted.lock().unwrap().push(line))
                });
            }
        });
        company
    }

    fn proxy(&self) -> String {
        format!("http://{USER}@127.0.0.1:{}", self.port)
    }

    /// The requests since the last call.
    fn noted(&self) -> Vec<String> {
        std::mem::take(&mut *self.noted.lock().unwrap())
    }
}

fn serve(mut client: TcpStream, authority: &Authority, note: &dyn Fn(String)) -> std::io::Result<()> {
    const HANDSHAKE: u8 = 22;
    let mut first = [0];
    client.peek(&mut first)?;
    if first == [HANDSHAKE] {
        return open(client, "0.0.0.0", authority, note);
    }
    let head = request_head(&mut client)?;
    let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1");
    let password =
        format!("proxy-authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(USER));
    let knows = head.lines().any(|line| line.eq_ignore_ascii_case(&password));
    let is_for_proxy = !line.contains(" /");
    note(if is_for_proxy && !knows { format!("{line} without the password") } else { line.to_owned() });
    let Some(host) = line.strip_prefix("CONNECT ").and_then(|to| to.rsplit_once(':')) else {
        return forbid(&mut client, &head);
    };
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    open(client, host.0, authority, note)
}

/// TLS with a client that expects to reach `host`.
fn open(client: TcpStream, host: &str, authority: &Authority, note: &dyn Fn(String)) -> std::io::Result<()> {
    let mut client = authority.serve(client, host);
    let head = request_head(&mut client)?;
    note(host.to_owned());
    if !host.starts_with("sts.") {
        return forbid(&mut client, &head);
    }
    answer(&mut client, &head, "200 OK", IDENTITY)
}

fn forbid(client: &mut (impl Read + Write), head: &str) -> std::io::Result<()> {
    answer(client, head, "403 Forbidden", "")
}

fn answer(client: &mut (impl Read + Write), head: &str, status: &str, body: &str) -> std::io::Result<()> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.rfind(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(0, |(_, value)| value.trim().parse().unwrap());
    std::io::copy(&mut Read::by_ref(client).take(length), &mut std::io::sink())?;
    write!(
        client,
        "HTTP/1.1 {status}\r\ncontent-type: text/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    client.flush()
}

/// The tool with keys, and without a setting for the addresses of AWS or the registries.
fn run(world: &World, line: &str) -> Run {
    let images = world.path("images.toml");
    let run = world.bare().arg("--images").arg(images).args(line);
    run.env("AWS_ACCESS_KEY_ID", "AKIA").env("AWS_SECRET_ACCESS_KEY", "key")
}

#[test]
fn every_client_uses_the_proxy_and_trusts_its_ca() {
    let Some(world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    let company = Company::start();
    let ca = world.write("ca.pem", &company.ca);
    for (line, hosts) in ASKED {
        let hosts: BTreeSet<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let tunnels: BTreeSet<String> = hosts.iter().map(|host| format!("CONNECT {host}:443")).collect();
        for variable in ["AWS_CA_BUNDLE", "SSL_CERT_FILE"] {
            let run = run(&world, line).env("AWS_REGION", REGION);
            let ended = run.env("HTTPS_PROXY", company.proxy()).env(variable, &ca).end();
            let noted = company.noted().into_iter().collect::<BTreeSet<_>>();
            assert_eq!(noted, &hosts | &tunnels, "{line} with {variable}: {ended}");
            assert!(!ended.to_string().contains("hush-hush"), "{ended}");
        }
        // Once for the SDK, which retries for seconds, and once for the registries.
        if !["init-images", "lock"].contains(&line) {
            continue;
        }
        // Without the CA nothing is sent, and the user learns why.
        let run = run(&world, line).env("AWS_REGION", REGION);
        let ended = run.env("HTTPS_PROXY", company.proxy()).end();
        let noted = company.noted();
        assert!(!noted.is_empty() && noted.iter().all(|line| tunnels.contains(line)), "{noted:?}: {ended}");
        ended.failed(ended.code.unwrap(), &["UnknownIssuer", "AWS_CA_BUNDLE"]);
        assert!(!ended.to_string().contains("hush-hush"), "{ended}");
    }
}

#[test]
fn no_proxy_and_this_machine_are_reached_without_the_proxy() {
    let Some(world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    let (company, server) = (Company::start(), Company::start());
    let ca = world.write("ca.pem", &format!("{}{}", company.ca, server.ca));
    let port = server.port;
    // 0.0.0.0 is this machine, too, and is in no list.
    for (scheme, host, no_proxy, direct) in [
        ("http", "0.0.0.0", "", false),
        ("http", "0.0.0.0", "example.com, 0.0.0.0", true),
        ("http", "localhost", "", true),
        ("http", "127.0.0.1", "example.com", true),
        ("https", "0.0.0.0", "127.0.0.1", false),
        ("https", "0.0.0.0", "0.0.0.0/8", true),
        ("https", "0.0.0.0", "*", true),
    ] {
        let address = format!("{scheme}://{host}:{port}");
        for line in ["list-images", "lock --upstream docker.io=URL --upstream ghcr.io=URL"] {
            let ended = run(&world, &line.replace("URL", &address))
                .env("AWS_REGION", REGION)
                .env("AWS_ENDPOINT_URL", &address)
                .env("AWS_CA_BUNDLE", &ca)
                .env("HTTP_PROXY", company.proxy())
                .env("https_proxy", company.proxy())
                .env("NO_PROXY", no_proxy)
                .end();
            let (by_proxy, by_itself) = (company.noted(), server.noted());
            let about =
                format!("{line} at {address}, NO_PROXY={no_proxy}: {by_proxy:?} {by_itself:?} {ended}");
            assert_eq!((by_proxy.is_empty(), by_itself.is_empty()), (direct, !direct), "{about}");
            assert!(!by_proxy.iter().any(|line| line.contains("password")), "{about}");
        }
    }
    // Without a region the instance metadata service is asked for it, which a proxy cannot reach.
    let run = run(&world, "list-images").env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"));
    let ended = run.env("HTTP_PROXY", company.proxy()).end();
    assert_eq!((company.noted(), server.noted().len()), (vec![], 1), "{ended}");
}

#[test]
fn an_unusable_proxy_variable_is_named_without_its_password() {
    let Some(world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    let junk = world.write("junk.pem", "-----BEGIN CERTIFICATE-----\nno base64\n-----END CERTIFICATE-----\n");
    let missing = world.path("nobody-made-this.pem");
    let nothing = world.write("nothing.pem", "");
    for (variable, value, words) in [
        ("AWS_CA_BUNDLE", missing.to_str().unwrap(), "could not read the file that AWS_CA_BUNDLE names"),
        (
            "AWS_CA_BUNDLE",
            nothing.to_str().unwrap(),
            "the file of AWS_CA_BUNDLE contains no PEM certificates",
        ),
        (
            "AWS_CA_BUNDLE",
            junk.to_str().unwrap(),
            "hint: do the files of AWS_CA_BUNDLE and SSL_CERT_FILE contain valid",
        ),
        (
            "SSL_CERT_FILE",
            missing.to_str().unwrap(),
            "hint: do the files of AWS_CA_BUNDLE and SSL_CERT_FILE contain valid",
        ),
        (
            "HTTPS_PROXY",
            "http://clerk:hush-hush@[proxy",
            "HTTPS_PROXY or ALL_PROXY is not the address of a proxy",
        ),
        ("HTTPS_PROXY", "clerk:hush-hush@", "HTTPS_PROXY or ALL_PROXY is not the address of a proxy"),
    ] {
        let ended = run(&world, "lock").env(variable, value).end();
        ended.failed(3, &[words]);
        assert!(!ended.to_string().contains("hush-hush"), "{ended}");
    }
    // With readable authorities it is only a warning.
    let ca = world.write("ca.pem", &Authority::new().pem);
    let ended = run(&world, "lock").env("AWS_CA_BUNDLE", &ca).env("SSL_CERT_FILE", &nothing).end();
    ended.failed(7, &["the file of SSL_CERT_FILE contains no PEM certificates"]);
}
