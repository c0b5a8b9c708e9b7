//! A slow link to a server, with one rate for all connections together.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes that are forwarded at a time.
const PART: usize = 16 << 10;

/// A TCP proxy on 127.0.0.1 that runs until the tests end.
#[derive(Debug)]
pub struct SlowLink {
    host: String,
}

impl SlowLink {
    /// A link to `host` (`127.0.0.1:PORT`) over which responses have this rate, in bytes per second.
    pub fn to(host: &str, bytes_per_second: f64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = Self { host: listener.local_addr().unwrap().to_string() };
        let (host, free) = (host.to_owned(), Arc::new(Mutex::new(Instant::now())));
        std::thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                let Ok(server) = TcpStream::connect(&host) else { continue };
                let free = Arc::clone(&free);
                let (mut there, mut back) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                // An error means that one end closed the connection.
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut there, &mut back);
                    let _ = back.shutdown(Shutdown::Write);
                });
                std::thread::spawn(move || {
                    let _ = slowly(server, client, bytes_per_second, &free);
                });
            }
        });
        link
    }

    /// Its address.
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// Forwards everything, each part once the link is `free` for it.
fn slowly(mut from: TcpStream, mut to: TcpStream, rate: f64, free: &Mutex<Instant>) -> std::io::Result<()> {
    let mut part = vec![0; PART];
    loop {
        let length = from.read(&mut part)?;
        if length == 0 {
            return to.shutdown(Shutdown::Both);
        }
        #[expect(clippy::cast_precision_loss, reason = "a part is small")]
        let takes = Duration::from_secs_f64(length as f64 / rate);
        let until = {
            let mut free = free.lock().unwrap();
            *free = (*free).max(Instant::now()) + takes;
            *free
        };
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        to.write_all(&part[..length])?;
    }
}
