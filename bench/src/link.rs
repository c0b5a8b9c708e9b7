//! The links between client and registries: loopback, or a link with a rate and a round-trip time.
//!
//! The client runs in its own network namespace, connected by a veth pair; tbf limits both ends to the rate. Relays in the namespace
//! ([`crate::delay`]) add the delay and listen on 127.0.0.1 there, because clients use plain http for loopback without configuration.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::process::{Server, attempt, read};

/// One-way delay, in milliseconds: 40 for the round trip.
const ONE_WAY_MS: u32 = 20;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// This machine's loopback.
    Loopback,
    /// The same, with a source that costs next to nothing ([`crate::static_source`]).
    Static,
    /// 40 ms, 1 Gbit/s.
    #[value(name = "1g")]
    #[serde(rename = "1g")]
    Gigabit,
    /// 40 ms, 100 Mbit/s.
    #[value(name = "100m")]
    #[serde(rename = "100m")]
    Slow,
}

impl Kind {
    /// Name for tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Static => "loopback, the source a server of files",
            Self::Gigabit => "40 ms, 1 Gbit/s",
            Self::Slow => "40 ms, 100 Mbit/s",
        }
    }

    /// Rate in Mbit/s.
    pub fn rate(self) -> Option<u32> {
        match self {
            Self::Loopback | Self::Static => None,
            Self::Gigabit => Some(1_000),
            Self::Slow => Some(100),
        }
    }

    /// The minimum time for `bytes` and `trips` round trips, in seconds.
    pub fn needs(self, bytes: u64, trips: u32) -> Option<f64> {
        let bits = bytes as f64 * 8.0;
        let trip = f64::from(2 * ONE_WAY_MS) / 1_000.0;
        self.rate().map(|rate| bits / (f64::from(rate) * 1e6) + f64::from(trips) * trip)
    }
}

/// The values measured with curl.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// The link.
    pub link: Kind,
    /// A request on an open connection, in milliseconds (median of nine).
    pub rtt_ms: f64,
    /// The first request, including opening the connection, in milliseconds.
    pub first_ms: f64,
    /// Download rate in Mbit/s.
    pub down_mbit: f64,
    /// Upload rate in Mbit/s.
    pub up_mbit: f64,
}

/// A link with a rate; removed when this is dropped.
#[derive(Debug)]
pub struct Link {
    kind: Kind,
    namespace: String,
    device: String,
    ip: Ipv4Addr,
    relays: Vec<Server>,
}

impl Link {
    /// Sets the link up.
    ///
    /// # Errors
    /// It needs root, `ip` and `tc`, and tbf in the kernel.
    pub fn up(kind: Kind) -> Result<Self> {
        let rate = kind.rate().context("loopback needs no link")?;
        let id = std::process::id();
        // 198.18.0.0/15 is reserved for benchmarks (RFC 2544), so no real network is hidden.
        let [_, high, low, _] = id.to_be_bytes().map(|byte| byte & 0x7f);
        let ip = Ipv4Addr::new(198, 18 + (high & 1), low, 1);
        let peer = Ipv4Addr::new(198, 18 + (high & 1), low, 2);
        let (namespace, device, inside) = (format!("bench-{id}"), format!("bh{id}"), format!("bc{id}"));
        // Created first, so that an unfinished link is removed too.
        let link =
            Self { kind, namespace: namespace.clone(), device: device.clone(), ip, relays: Vec::new() };
        let rate = format!("{rate}mbit");
        // Large frames: headers take 1 % of the rate, not 5. The burst is at least the largest frame with offloading.
        let shape =
            ["root", "tbf", "rate", &rate, "burst", "128kb", "latency", "40ms"].map(ToOwned::to_owned);
        let commands: Vec<Vec<String>> = vec![
            words("ip netns add", &[&namespace]),
            words("ip link add", &[&device, "type", "veth", "peer", "name", &inside, "netns", &namespace]),
            words("ip addr add", &[&format!("{ip}/30"), "dev", &device]),
            words("ip link set", &[&device, "mtu", "9000", "up"]),
            words("ip -n", &[&namespace, "addr", "add", &format!("{peer}/30"), "dev", &inside]),
            words("ip -n", &[&namespace, "link", "set", &inside, "mtu", "9000", "up"]),
            words("ip -n", &[&namespace, "link", "set", "lo", "up"]),
            [words("tc qdisc add dev", &[&device]), shape.to_vec()].concat(),
            [words("tc -n", &[&namespace, "qdisc", "add", "dev", &inside]), shape.to_vec()].concat(),
        ];
        for command in &commands {
            let args: Vec<&str> = command[1..].iter().map(String::as_str).collect();
            read(&command[0], &args)?;
        }
        Ok(link)
    }

    /// The address of this side, on which registries listen.
    pub fn ip(&self) -> IpAddr {
        IpAddr::V4(self.ip)
    }

    /// The command prefix for programs inside.
    pub fn prefix(&self) -> Vec<String> {
        words("ip netns exec", &[&self.namespace])
    }

    /// A delayed link to `to`; returns an address inside.
    ///
    /// # Errors
    /// The relay does not start.
    pub fn relay(&mut self, to: SocketAddr) -> Result<SocketAddr> {
        let (to, delay) = (to.to_string(), ONE_WAY_MS.to_string());
        let args = ["delay-line", "--to", &to, "--delay-ms", &delay];
        let (server, addr) = Server::start_own(&self.prefix(), &args)?;
        self.relays.push(server);
        Ok(addr)
    }

    /// Measures the link with curl.
    ///
    /// # Errors
    /// curl is missing or fails.
    pub fn probe(&mut self, work: &Path) -> Result<Probe> {
        let meter = Meter::start(self.ip())?;
        let relay = self.relay(meter.addr)?;
        // The bytes of one second.
        let bytes = u64::from(self.kind.rate().unwrap_or_default()) * 125_000;
        let prefix = self.prefix();
        let curl = |args: &[&str]| -> Result<String> {
            let all: Vec<&str> = prefix[1..].iter().map(String::as_str).chain(["curl", "-sS"]).collect();
            Ok(String::from_utf8(read(&prefix[0], &[&all, args].concat())?)?)
        };
        let one = format!("http://{relay}/1");
        let times = curl(
            &[&["-w", "%{time_starttransfer}\n"], ["-o", "/dev/null", one.as_str()].repeat(10).as_slice()]
                .concat(),
        )?;
        let mut times: Vec<f64> = times.lines().filter_map(|line| line.trim().parse().ok()).collect();
        if times.len() != 10 {
            bail!("curl printed {} times, not 10", times.len());
        }
        let first = times.remove(0);
        let get = format!("http://{relay}/{bytes}");
        let down =
            curl(&["-o", "/dev/null", "-w", "%{time_total} %{time_starttransfer} %{size_download}", &get])?;
        let down: Vec<f64> = down.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [total, start, size] = down[..] else { bail!("curl's figures are not understood") };
        // `-T -` would be chunked: this is a sparse file of zeros.
        let zeros = work.join("zeros");
        std::fs::File::create(&zeros)?.set_len(bytes)?;
        let put = format!("http://{relay}/put");
        let up = curl(&["-H", "Expect:", "-T", zeros.to_str().unwrap_or_default(), &put]);
        let up: f64 = up?.trim().parse().context("the meter's figure is not understood")?;
        Ok(Probe {
            link: self.kind,
            rtt_ms: crate::stats::median(&times).unwrap_or_default() * 1e3,
            first_ms: first * 1e3,
            down_mbit: size * 8.0 / (total - start) / 1e6,
            up_mbit: up,
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.relays.clear();
        attempt("ip", &["link", "del", &self.device], &[]);
        attempt("ip", &["netns", "del", &self.namespace], &[]);
    }
}

fn words(fixed: &str, more: &[&str]) -> Vec<String> {
    fixed.split(' ').chain(more.iter().copied()).map(ToOwned::to_owned).collect()
}

/// A server that sends and receives the requested number of bytes, only for [`Link::probe`].
struct Meter {
    addr: SocketAddr,
}

impl Meter {
    fn start(ip: IpAddr) -> Result<Self> {
        let listener = TcpListener::bind((ip, 0))?;
        let addr = listener.local_addr()?;
        std::thread::Builder::new().name("meter".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                // A closed connection is not an error here.
                let _ = Self::serve(&stream);
            }
        })?;
        Ok(Self { addr })
    }

    fn serve(stream: &TcpStream) -> std::io::Result<()> {
        // An answer's head and body are two writes: the second must not wait for the first's acknowledgement.
        stream.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(1 << 18, stream);
        let mut writer = stream;
        loop {
            let (mut request, mut length) = (String::new(), 0_u64);
            if reader.read_line(&mut request)? == 0 {
                return Ok(());
            }
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                if header.trim().is_empty() {
                    break;
                }
                if let Some((name, value)) = header.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse().map_err(std::io::Error::other)?;
                }
            }
            if request.starts_with("PUT") {
                let mut body = reader.by_ref().take(length);
                let first = body.fill_buf()?.len() as u64;
                let started = Instant::now();
                let all = std::io::copy(&mut body, &mut std::io::sink())?;
                let rate = (all - first) as f64 * 8.0 / started.elapsed().as_secs_f64() / 1e6;
                let rate = format!("{rate:.1}");
                write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{rate}", rate.len())?;
            } else {
                let path = request.split(' ').nth(1).unwrap_or_default();
                let count = path.trim_start_matches('/').parse().map_err(std::io::Error::other)?;
                write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n")?;
                std::io::copy(&mut std::io::repeat(0).take(count), &mut writer)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_that_a_link_needs() {
        assert_eq!(Kind::Loopback.needs(1, 1), None);
        assert!((Kind::Gigabit.needs(125_000_000, 15).unwrap() - 1.6).abs() < 1e-9);
        assert!((Kind::Slow.needs(125_000_000, 0).unwrap() - 10.0).abs() < 1e-9);
    }
}
