//! A relay in front of the emulated AWS that records the access key of each request, and requests to other hosts.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// An access key and the service that a request was signed for.
pub type Signed = (String, String);

/// A proxy that forwards everything, except some paths that it answers itself.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    signed: Arc<Mutex<Vec<Signed>>>,
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl Relay {
    /// A relay to `host`. Requests whose line starts with the first text of `own` are answered with the second one, JSON.
    pub fn to(host: &str, own: &'static [(&'static str, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Self {
            port: listener.local_addr().unwrap().port(),
            signed: Arc::default(),
            asked: Arc::default(),
        };
        let (signed, asked) = (Arc::clone(&relay.signed), Arc::clone(&relay.asked));
        let host = host.to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                let (signed, asked, host) = (Arc::clone(&signed), Arc::clone(&asked), host.clone());
                // An error means that the client closed the connection.
                std::thread::spawn(move || serve(client, &host, own, &signed, &asked));
            }
        });
        relay
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The signed requests since the last call, in order.
    pub fn signed(&self) -> Vec<Signed> {
        std::mem::take(&mut *self.signed.lock().unwrap())
    }

    /// The first lines of the connections since the last call.
    pub fn asked(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn serve(
    mut client: TcpStream,
    host: &str,
    own: &[(&str, &str)],
    signed: &Mutex<Vec<Signed>>,
    asked: &Mutex<BTreeSet<String>>,
) -> std::io::Result<()> {
    let mut part = vec![0; 64 * 1024];
    let mut length = client.read(&mut part)?;
    let first = String::from_utf8_lossy(&part[..length]).lines().next().unwrap_or_default().to_owned();
    asked.lock().unwrap().insert(first.clone());
    if let Some((_, body)) = own.iter().find(|(line, _)| first.starts_with(line)) {
        return write!(
            client,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
    }
    let mut server = TcpStream::connect(host)?;
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    // A header that one read splits is found with the next one.
    let mut seen = Vec::new();
    while length > 0 {
        seen.extend_from_slice(&part[..length]);
        note(&mut seen, signed);
        server.write_all(&part[..length])?;
        length = client.read(&mut part)?;
    }
    server.shutdown(Shutdown::Write)
}

/// Removes each `Credential=KEY/DATE/REGION/SERVICE/aws4_request` from the received bytes, and keeps an incomplete one.
fn note(seen: &mut Vec<u8>, signed: &Mutex<Vec<Signed>>) {
    const BEFORE: &str = "Credential=";
    const AFTER: &str = "/aws4_request";
    let text = String::from_utf8_lossy(seen).into_owned();
    let mut rest = text.as_str();
    while let Some((_, scope)) = rest.split_once(BEFORE)
        && let Some((scope, after)) = scope.split_once(AFTER)
    {
        let fields: Vec<&str> = scope.split('/').collect();
        if let [key, _date, _region, service] = fields.as_slice() {
            signed.lock().unwrap().push(((*key).to_owned(), (*service).to_owned()));
        }
        rest = after;
    }
    let keep = rest.len().min(256);
    *seen = seen.split_off(seen.len().saturating_sub(keep));
}
