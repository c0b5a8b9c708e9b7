//! TLS with registries: which certificates are trusted, which client certificate is sent, and that a permanent error is reported
//! within three seconds, with the file that solves it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::{Ended, Images, World, digest, request_head};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// The exit code if a source cannot be read.
const UPSTREAM: i32 = 7;

/// A certificate with its key, and its PEM text.
struct Pair {
    der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

/// The content of a certificate.
#[derive(Clone, Copy)]
struct Says {
    name: &'static str,
    is_ca: bool,
    years: [i32; 2],
}

const RIGHT: Says = Says { name: "localhost", is_ca: false, years: [2020, 2090] };

impl Says {
    fn params(self) -> CertificateParams {
        let mut params = CertificateParams::new([self.name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, self.name);
        if self.is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let [from, to] = self.years;
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        params
    }

    fn self_signed(self) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = self.params().self_signed(&key).unwrap();
        Pair { der: certificate.der().clone(), pem: certificate.pem(), key }
    }
}

/// A certificate authority.
struct Company(CertifiedIssuer<'static, KeyPair>);

impl Company {
    fn new(name: &'static str) -> Self {
        let params = Says { name, is_ca: true, ..RIGHT }.params();
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn signed(&self, says: Says) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = says.params().signed_by(&key, &self.0).unwrap();
        Pair { der: certificate.der().clone(), pem: certificate.pem(), key }
    }
}

/// A registry with one image behind TLS, which may require a client certificate.
struct Registry {
    port: u16,
    /// The connections so far.
    connections: Arc<AtomicUsize>,
}

impl Registry {
    fn start(shown: &Pair, clients: Option<&Company>) -> Self {
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&ring));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(company) => {
                let mut roots = RootCertStore::empty();
                roots.add(company.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), ring);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(shown.key.serialize_der()));
        let config = Arc::new(builder.with_single_cert(vec![shown.der.clone()], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                counted.fetch_add(1, Ordering::Relaxed);
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                // An error is a client that does not trust the certificate, or has none that is trusted.
                std::thread::spawn(move || serve(StreamOwned::new(connection, client)));
            }
        });
        Self { port, connections }
    }
}

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;

fn serve(mut client: StreamOwned<ServerConnection, TcpStream>) -> std::io::Result<()> {
    loop {
        let request = match request_head(&mut client) {
            Ok(request) => request,
            Err(error) => {
                // The client has to read the alert before the connection is closed.
                client.sock.shutdown(std::net::Shutdown::Write)?;
                std::io::copy(&mut Read::by_ref(&mut client.sock), &mut std::io::sink())?;
                return Err(error);
            }
        };
        let (kind, whole) = match request.contains("/blobs/") {
            true => ("application/octet-stream", "{}"),
            false => ("application/vnd.oci.image.manifest.v1+json", MANIFEST),
        };
        let body = if request.starts_with("HEAD ") { "" } else { whole };
        write!(
            client,
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ndocker-content-digest: {}\r\ncontent-length: {}\r\n\r\n{body}",
            digest(whole.as_bytes()),
            whole.len()
        )?;
        client.flush()?;
    }
}

/// The user's configuration, and the result.
#[derive(Default)]
struct Setup {
    /// Files of `certs.d/localhost:PORT/`.
    files: Vec<(&'static str, String)>,
    /// A variable that names a file with this content.
    variable: Option<(&'static str, String)>,
}

struct User(World);

impl User {
    fn looks(&self, registry: &Registry, setup: &Setup) -> Ended {
        let world = &self.0;
        let url = format!("https://localhost:{}", registry.port);
        world.write(
            "images.toml",
            &format!(
                "schema_version = 1\n[images]\nimg = {{ source = \"reg.test/x:1\", platforms = \"all\" }}\n\
                 [upstream.\"reg.test\"]\nurl = \"{url}\"\n"
            ),
        );
        let _ = std::fs::remove_file(world.path("images.lock"));
        let own = format!("home/.config/docker/certs.d/localhost:{}", registry.port);
        std::fs::create_dir_all(world.path(&own)).unwrap();
        for (name, text) in &setup.files {
            world.write(&format!("{own}/{name}"), text);
        }
        let run = world.bare().arg("--images").arg(world.path("images.toml")).args("lock");
        match &setup.variable {
            Some((name, pem)) => run.env(name, world.write("named.pem", pem)).end(),
            None => run.end(),
        }
    }

    fn succeeds(&self, what: &str, registry: &Registry, setup: &Setup) {
        let ended = self.looks(registry, setup);
        assert_eq!(ended.code, Some(0), "{what}: {ended}");
    }

    fn fails(&self, what: &str, registry: &Registry, setup: &Setup, words: &[&str]) {
        let began = Instant::now();
        let ended = self.looks(registry, setup);
        let took = began.elapsed();
        // Less than three seconds on an idle machine; another try would come later.
        assert!(took < Duration::from_secs(10), "{what} took {took:?}: {ended}");
        let connections = registry.connections.load(Ordering::Relaxed);
        assert!(connections <= 2, "{what}: {connections} connections: {ended}");
        ended.failed(UPSTREAM, words);
        assert!(!ended.to_string().contains("PRIVATE KEY"), "{what}: {ended}");
    }
}

fn files(files: &[(&'static str, &str)]) -> Setup {
    let files = files.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    Setup { files, variable: None }
}

#[test]
fn a_server_is_trusted_by_any_kind_of_certificate_file() {
    let Some(world) = World::new(Images::Small) else { return };
    let user = User(world);
    let company = Company::new("the company");
    let leaf = company.signed(RIGHT);
    for variable in ["SSL_CERT_FILE", "AWS_CA_BUNDLE"] {
        let named = |pem: &str| Setup { variable: Some((variable, pem.to_owned())), ..Setup::default() };
        user.succeeds(variable, &Registry::start(&leaf, None), &named(&company.pem()));
        for is_ca in [true, false] {
            let own = Says { is_ca, ..RIGHT }.self_signed();
            user.succeeds(
                &format!("{variable}, self-signed, CA:{is_ca}"),
                &Registry::start(&own, None),
                &named(&own.pem),
            );
        }
    }
    user.succeeds("ca.crt", &Registry::start(&leaf, None), &files(&[("ca.crt", &company.pem())]));
    let own = Says { is_ca: true, ..RIGHT }.self_signed();
    user.succeeds("its own", &Registry::start(&own, None), &files(&[("ca.crt", &own.pem)]));
    // A certificate for one port is not used for another.
    let other = Registry::start(&leaf, None);
    let ended = user.looks(&other, &Setup::default());
    ended.failed(UPSTREAM, &["UnknownIssuer"]);
}

#[test]
fn an_untrusted_server_is_reported_at_once_with_the_file_to_add() {
    let Some(world) = World::new(Images::Small) else { return };
    let user = User(world);
    let (company, other) = (Company::new("the company"), Company::new("another one"));
    let trusted = || files(&[("ca.crt", &company.pem())]);
    let unknown = ["SSL_CERT_FILE", "certs.d/localhost:"];
    let registry = |says: Says| Registry::start(&company.signed(says), None);
    user.fails("an unknown authority", &registry(RIGHT), &Setup::default(), &unknown);
    user.fails("another authority", &registry(RIGHT), &files(&[("ca.crt", &other.pem())]), &unknown);
    let names = ["is for other names"];
    user.fails("another name", &registry(Says { name: "other.test", ..RIGHT }), &trusted(), &names);
    for years in [[2010, 2011], [2080, 2090]] {
        let words = ["is not valid now", "clock"];
        user.fails("not valid now", &registry(Says { years, ..RIGHT }), &trusted(), &words);
        let own = Says { years, is_ca: true, ..RIGHT }.self_signed();
        let setup = files(&[("ca.crt", &own.pem)]);
        user.fails("its own, not valid now", &Registry::start(&own, None), &setup, &words);
    }
    let own = Says { name: "other.test", is_ca: true, ..RIGHT }.self_signed();
    let setup = files(&[("ca.crt", &own.pem)]);
    user.fails("its own, of another name", &Registry::start(&own, None), &setup, &names);
    let broken = files(&[("ca.crt", "no certificate")]);
    let words = ["ca.crt holds no PEM certificates", "SSL_CERT_FILE"];
    user.fails("a file that is none", &registry(RIGHT), &broken, &words);
}

#[test]
fn a_client_certificate_is_only_sent_to_its_host() {
    let Some(world) = World::new(Images::Small) else { return };
    let user = User(world);
    let (company, other) = (Company::new("the company"), Company::new("another one"));
    let leaf = company.signed(RIGHT);
    let registry = || Registry::start(&leaf, Some(&company));
    let ours = company.signed(Says { name: "clerk", ..RIGHT });
    let ca = ("ca.crt", company.pem());
    let setup = |more: &[(&'static str, String)]| Setup {
        files: [std::slice::from_ref(&ca), more].concat(),
        variable: None,
    };
    let certificate = |pair: &Pair| ("client.cert", pair.pem.clone());
    let key = |pair: &Pair| ("client.key", pair.key.serialize_pem());
    user.succeeds("a certificate", &registry(), &setup(&[certificate(&ours), key(&ours)]));
    // If none is required, ours does no harm.
    user.succeeds("an open server", &Registry::start(&leaf, None), &setup(&[certificate(&ours), key(&ours)]));

    let wanted = ["needs a client certificate", "client.key in /etc/docker/certs.d/localhost:"];
    user.fails("no certificate", &registry(), &setup(&[]), &wanted);
    let foreign = other.signed(Says { name: "clerk", ..RIGHT });
    user.fails("another company's", &registry(), &setup(&[certificate(&foreign), key(&foreign)]), &wanted);
    let ended = company.signed(Says { name: "clerk", years: [2010, 2011], ..RIGHT });
    user.fails("an expired one", &registry(), &setup(&[certificate(&ended), key(&ended)]), &wanted);
    // An unusable certificate is reported; the host is called without it.
    user.fails(
        "the key of another certificate",
        &registry(),
        &setup(&[certificate(&ours), key(&foreign)]),
        &["the certificates for localhost:", "are not used"],
    );
    user.fails(
        "no key",
        &registry(),
        &setup(&[certificate(&ours)]),
        &["are not used: client.cert has no client.key next to it"],
    );
    user.fails(
        "a key that is none",
        &registry(),
        &setup(&[certificate(&ours), ("client.key", "hush-hush".to_owned())]),
        &["are not used: client.key holds no PEM key"],
    );
}
