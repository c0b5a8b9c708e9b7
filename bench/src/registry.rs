//! A real registry: Debian's docker-registry on a port chosen by the kernel.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::process::Server;
use crate::store::Store;

/// Time limit for a registry to listen, and for a line to appear in its log.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Polling interval.
const LOOK: Duration = Duration::from_millis(5);

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    addr: SocketAddr,
    log: PathBuf,
    store: Store,
    markers: u64,
    /// Ends the server when dropped.
    _server: Server,
}

impl Registry {
    /// Starts `name` on `ip` with its data in `store`; configuration and logs go to `dir`.
    ///
    /// # Errors
    /// The registry is not installed or does not start.
    pub fn start(name: &str, ip: IpAddr, store: &Store, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        fs::create_dir_all(&store.root)?;
        let program = which::which("docker-registry")
            .context("docker-registry is not in PATH (Debian: apt-get install docker-registry)")?;
        let config = dir.join(format!("{name}.yml"));
        let text = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: false\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\n  maintenance:\n    uploadpurging:\n      enabled: false\nhttp:\n  addr: {ip}:0\n",
            store.root.display()
        );
        fs::write(&config, text)?;
        Self::run(&program, &["serve", utf8(&config)?], name, ip, store, dir)
    }

    /// Starts [`crate::static_source`] instead of docker-registry; it is read-only.
    ///
    /// # Errors
    /// It does not start.
    pub fn serve(name: &str, ip: IpAddr, store: &Store, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let addr = SocketAddr::new(ip, 0).to_string();
        let args = ["serve", "--addr", &addr, "--store", utf8(&store.root)?];
        Self::run(&std::env::current_exe()?, &args, name, ip, store, dir)
    }

    fn run(program: &Path, args: &[&str], name: &str, ip: IpAddr, store: &Store, dir: &Path) -> Result<Self> {
        let (log, errors) = (dir.join(format!("{name}.access.log")), dir.join(format!("{name}.err.log")));
        let mut server = Server::start(program, args, &log, &errors)?;
        let started = Instant::now();
        let port = loop {
            if let Some(port) = listening_port(server.id(), ip) {
                break port;
            }
            if server.ended() || started.elapsed() > START_TIMEOUT {
                let said = fs::read_to_string(&errors).unwrap_or_default();
                bail!("the {name} did not start: {}", said.lines().last().unwrap_or("it said nothing"));
            }
            std::thread::sleep(LOOK);
        };
        let addr = SocketAddr::new(ip, port);
        Ok(Self { addr, log, store: store.clone(), markers: 0, _server: server })
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its data.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The current end of the log.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn mark(&mut self) -> Result<u64> {
        self.until_marker(0).map(|(_, end)| end)
    }

    /// What was logged since `start`. The end is a request of our own in the log: the requests that were answered before it have been
    /// logged by then.
    ///
    /// # Errors
    /// The registry does not answer, or its log cannot be read.
    pub fn since(&mut self, start: u64) -> Result<String> {
        self.until_marker(start).map(|(text, _)| text)
    }

    fn until_marker(&mut self, start: u64) -> Result<(String, u64)> {
        self.markers += 1;
        let marker = format!("bench-marker-{}-", self.markers);
        let mut stream = TcpStream::connect(self.addr)?;
        stream.set_read_timeout(Some(START_TIMEOUT))?;
        write!(
            stream,
            "GET /v2/?{marker} HTTP/1.1\r\nHost: {}\r\nUser-Agent: bench\r\nConnection: close\r\n\r\n",
            self.addr
        )?;
        stream.read_to_end(&mut Vec::new())?;
        let started = Instant::now();
        loop {
            let mut file = File::open(&self.log)?;
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let text = String::from_utf8_lossy(&bytes);
            if let Some(line) = text.lines().find(|line| line.contains(&marker))
                && text.ends_with('\n')
            {
                let end = start + bytes.len() as u64;
                return Ok((text.lines().filter(|other| *other != line).collect::<Vec<_>>().join("\n"), end));
            }
            if started.elapsed() > START_TIMEOUT {
                bail!("{} does not log its requests", self.log.display());
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// The port on `ip` on which process `pid` listens, from the kernel's own tables (proc_pid_net(5)): the only way to find a port chosen by
/// the kernel without parsing the server's log.
fn listening_port(pid: u32, ip: IpAddr) -> Option<u16> {
    let IpAddr::V4(ip) = ip else { return None };
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    listener_in(&table, &sockets, ip)
}

fn listener_in(table: &str, sockets: &[String], ip: std::net::Ipv4Addr) -> Option<u16> {
    // An address is its four bytes as one number in this machine's byte order.
    let wanted = format!("{:08X}", u32::from_ne_bytes(ip.octets()));
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = fields.get(1)?.split_once(':')?;
        let listens = *fields.get(3)? == "0A" && address == wanted;
        let ours = sockets.iter().any(|inode| Some(&inode.as_str()) == fields.get(9));
        (listens && ours).then(|| u16::from_str_radix(port, 16).ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listening_socket_of_the_process_is_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0\n\
   1: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0\n\
   2: 0100007F:1F92 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0\n";
        let ip = std::net::Ipv4Addr::LOCALHOST;
        let find = |inode: &str| listener_in(table, &[inode.to_owned()], ip);
        if cfg!(target_endian = "little") {
            assert_eq!(find("222"), Some(0x1f91));
        }
        assert_eq!(find("333"), None);
        assert_eq!(find("444"), None);
    }

    #[test]
    fn this_process_knows_its_own_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        // Other tests of this process may listen too: search for exactly this socket.
        let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&listener);
        let link = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        let inode = link.to_str().unwrap().trim_start_matches("socket:[").trim_end_matches(']').to_owned();
        assert_eq!(listener_in(&table, &[inode], std::net::Ipv4Addr::LOCALHOST), Some(addr.port()));
        assert!(listening_port(std::process::id(), addr.ip()).is_some());
    }
}
