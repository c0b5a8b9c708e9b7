//! A separate machine: this one's files, copy-on-write, without docker.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::{
    COMPLETE, Run, SeparateEngine, cargo, command, program, programs, read, root, skip, target, text,
};

/// The docker installation of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Docker {
    /// Neither client nor engine.
    None,
    /// Only the client.
    Client,
    /// Client and engine like on this machine; the engine does not run.
    Stopped,
}

/// Sets the machine up in its own mount namespace, then waits: this is its first process, and the machine ends with it. Arguments: the
/// machine's directory, its root file system, the project's target directory; then the directories of this machine that the root file
/// system lacks, also copy-on-write.
const BOOT: &str = r#"set -e
dir=$1 base=$2 target=$3 root=$1/root
shift 3
mount -t overlay overlay -o "lowerdir=$base,upperdir=$dir/up,workdir=$dir/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
number=0
for lacked in "$@"; do
    number=$((number + 1))
    mkdir -p "$root$lacked" "$dir/lacked/$number/up" "$dir/lacked/$number/work"
    mount -t overlay overlay -o "lowerdir=$lacked,upperdir=$dir/lacked/$number/up,workdir=$dir/lacked/$number/work" "$root$lacked"
done
# Packages are downloaded once for all machines, and dpkg need not wait for a disk that is thrown away.
mkdir -p "$root/var/cache/apt/archives" "$root/etc/dpkg/dpkg.cfg.d" "$target/packages/partial"
mount --bind "$target/packages" "$root/var/cache/apt/archives"
rm -f "$root/etc/apt/apt.conf.d/docker-clean"
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io"
# Nobody reads manuals there, whose index would be made anew after each installation.
if [ -e "$root/usr/bin/mandb" ]; then ln -sf /bin/true "$root/usr/bin/mandb"; fi
# An engine keeps no images on an overlay.
mkdir -p "$root/var/lib/docker" "$root$target/local" "$root$target/engines" "$root/home/user"
mount --bind "$dir/docker" "$root/var/lib/docker"
mount --bind "$dir/local" "$root$target/local"
mount --bind "$dir/engines" "$root$target/engines"
rm -f "$root/etc/resolv.conf"
cp "$dir/resolv.conf" "$root/etc/resolv.conf"
exec chroot "$root" sh -c 'echo ready; exec sleep infinity'
"#;

/// Removes docker's packages and its other programs in PATH; runc is kept, which podman also uses.
const PURGE: &str = r#"set -e
packages=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 'docker*' 'moby*' 'containerd*' 2>/dev/null |
    awk '/^i/ && !/docker-registry/ {print $2}')
if [ -n "$packages" ]; then apt-get -q -y purge $packages >/dev/null; fi
for program in docker dockerd docker-proxy containerd containerd-shim containerd-shim-runc-v2 ctr; do
    rm -f $(which -a $program) || true
done
"#;

/// A machine that shares with this one only unchanged files and the packages that apt has downloaded: mounts, processes and network are its
/// own, and changes are written to a directory that is removed with it.
///
/// Its network is a link to this machine, which forwards other packets. Everything in it ends when it is dropped.
#[derive(Debug)]
pub struct Machine {
    first: Child,
    /// The first process's ID on this machine.
    pid: String,
    dir: TempDir,
    _link: Link,
    _alone: MutexGuard<'static, ()>,
}

impl Machine {
    /// A machine with this one's root file system, and with docker as in `docker`; `None` if it cannot be created here.
    pub fn new(docker: Docker) -> Option<Self> {
        let machine = Self::boot(Path::new("/"), &[])?;
        let client = std::env::var_os("PATH").and_then(|path| {
            std::env::split_paths(&path).map(|dir| dir.join("docker")).find(|file| file.is_file())
        });
        if docker == Docker::Client && client.is_none() {
            skip("docker is not in PATH");
            return None;
        }
        if docker != Docker::Stopped {
            read(machine.command("sh").args(["-c", PURGE]));
        }
        if let Some(client) = client.filter(|_| docker == Docker::Client) {
            read(machine.command("mkdir").args(["-p", "/usr/local/bin"]));
            // Through the copy's upper layer: the overlay would not see a file written directly to a lower one.
            let place = machine.dir.path().join("local/docker-client");
            std::fs::copy(client, &place).unwrap();
            let here = target().join("local/docker-client");
            read(machine.command("mv").arg(here).arg("/usr/local/bin/docker"));
        }
        Some(machine)
    }

    /// A machine with this Debian release, created by debootstrap from this machine's own archive, and with this machine's Rust and
    /// terraform; `None` if it cannot be created here. It includes a linker for Rust.
    pub fn debian(release: &str) -> Option<Self> {
        if !geteuid().is_root() || !programs(&["debootstrap", "terraform"]) {
            skip("a Debian of its own needs root, debootstrap and terraform");
            return None;
        }
        let base = new_debian(release)?;
        let lacked = [root().to_owned(), cargo_home(), rustup_home()];
        let machine = Self::boot(&base, &lacked)?;
        let terraform = machine.dir.path().join("local/terraform");
        std::fs::copy(program("terraform")?, &terraform).unwrap();
        read(machine.command("mkdir").args(["-p", "/usr/local/bin"]));
        read(machine.command("mv").arg(target().join("local/terraform")).arg("/usr/local/bin/terraform"));
        Some(machine)
    }

    /// A machine with the root file system at `base`, and the directories of this machine that it lacks.
    fn boot(base: &Path, lacked: &[PathBuf]) -> Option<Self> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !programs(&["unshare", "nsenter", "ip", "iptables", "apt-get", "dpkg-query"]) {
            return None;
        }
        if !geteuid().is_root() {
            skip("a machine of its own needs root");
            return None;
        }
        // A socket's path must be short, and an overlay's upper layer cannot be on an overlay.
        let dir = tempfile::Builder::new().prefix("hg-").tempdir_in("/var/tmp").unwrap();
        for name in ["up", "work", "root", "local", "docker", "engines"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        // A resolver on this machine's own loopback cannot be reached there.
        let resolver = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];
        let resolver = resolver.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
        std::fs::write(dir.path().join("resolv.conf"), resolver).unwrap();

        let mut boot = command("unshare");
        boot.args(["--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-c", BOOT, "sh"])
            .arg(dir.path())
            .arg(base)
            .arg(target())
            .args(lacked);
        let mut first = boot.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(first.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.trim() != "ready" {
            let output = first.wait_with_output().unwrap();
            skip(&format!("no machine of its own: {}", String::from_utf8_lossy(&output.stderr).trim()));
            return None;
        }
        let unshare = first.id();
        let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
        let pid = children.trim().to_owned();
        let link = Link::new(&pid);
        Some(Self { first, pid, dir, _link: link, _alone: alone })
    }

    /// A directory of this machine that the other one sees as `target/local`.
    pub fn local(&self) -> PathBuf {
        self.dir.path().join("local")
    }

    /// A program in the machine, in the project's directory, with this process's cargo variables.
    pub fn command(&self, program: &str) -> Command {
        let mut inside = cargo();
        let of_tests = [COMPLETE, "SOAK", "CI", "CARGO"];
        let of_docker = ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"];
        // These variables name files that the other machine may not have.
        let of_certificates = ["SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE"];
        for name in of_tests.iter().chain(&of_docker).chain(&of_certificates) {
            inside.env_remove(name);
        }
        inside.env("CARGO_HOME", cargo_home()).env("RUSTUP_HOME", rustup_home());
        inside.env("HOME", "/home/user").env("DEBIAN_FRONTEND", "noninteractive");
        let mut enter = command("nsenter");
        enter.args(["--target", &self.pid, "--mount", "--net", "--pid", "--root"]);
        // `--wd` would be the directory outside.
        enter.args(["env", "--chdir"]).arg(root()).arg(program);
        for (name, value) in inside.get_envs() {
            match value {
                Some(value) => enter.env(name, value),
                None => enter.env_remove(name),
            };
        }
        enter
    }

    /// `cargo xtask LINE` in the machine.
    pub fn xtask(&self, line: &str) -> Run {
        let mut cargo = self.command("cargo");
        cargo.arg("xtask");
        Run::new(cargo).args(line)
    }

    /// The same, with the CPU time in the last line of stderr, in the format of the shell's `times`.
    pub fn timed_xtask(&self, line: &str) -> Run {
        let mut shell = self.command("sh");
        shell.args(["-c", "\"$@\"; code=$?; times >&2; exit $code", "sh", "cargo", "xtask"]);
        Run::new(shell).args(line)
    }

    /// The command lines of all processes in the machine except its first one, which does not wait for ended children.
    pub fn processes(&self) -> Vec<String> {
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(&self.pid);
        assert!(own.is_some(), "the machine is gone");
        let all = Path::new("/proc")
            .read_dir()
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let inside = all.filter(|pid| *pid != self.pid && namespace(pid) == own);
        inside.filter_map(|pid| running(&pid)).collect()
    }

    /// An engine of this machine, in the other one's network and at an address that no client uses by default.
    pub fn engine_elsewhere(&self) -> Option<SeparateEngine> {
        SeparateEngine::at(&self.local().join("elsewhere"), Some(&self.pid))
    }
}

/// A process's command line; `None` if it has ended or is a zombie.
fn running(pid: &str) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let (_, state) = stat.rsplit_once(") ")?;
    (!state.starts_with('Z')).then(|| line.replace('\0', " ").trim_end().to_owned())
}

fn home(variable: &str, directory: &str) -> PathBuf {
    let default = || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(directory);
    std::env::var_os(variable).map_or_else(default, PathBuf::from)
}

fn cargo_home() -> PathBuf {
    home("CARGO_HOME", ".cargo")
}

fn rustup_home() -> PathBuf {
    home("RUSTUP_HOME", ".rustup")
}

/// The root file system of a Debian release, created once: debootstrap's minimum, and a linker.
fn new_debian(release: &str) -> Option<PathBuf> {
    let base = target().join("debian").join(release);
    if base.exists() {
        return Some(base);
    }
    let targets =
        text(command("apt-get").args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]));
    // The security archive does not contain a whole release.
    let Some(archive) = targets.lines().find(|uri| !uri.trim_end_matches('/').ends_with("security")) else {
        skip("apt names no archive");
        return None;
    };
    let making = base.with_extension("making");
    let _ = std::fs::remove_dir_all(&making);
    std::fs::create_dir_all(making.parent().unwrap()).unwrap();
    let mut make = command("unshare");
    make.args([
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "debootstrap",
        "--variant=minbase",
    ]);
    read(make.args(["--include=gcc,libc6-dev", release]).arg(&making).arg(archive));
    std::fs::rename(&making, &base).unwrap();
    Some(base)
}

impl Drop for Machine {
    fn drop(&mut self) {
        // An engine is stopped first, so that it removes its mounts.
        let _ = self.command("sh").args(["-c", "kill $(pidof dockerd) 2>/dev/null"]).output();
        let started = std::time::Instant::now();
        while started.elapsed().as_secs() < 10
            && self.command("pidof").arg("dockerd").output().is_ok_and(|found| found.status.success())
        {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let _ = self.first.kill();
        let _ = self.first.wait();
        // Its mounts end with its first process: only then can its directory be removed.
        while Path::new("/proc").join(&self.pid).exists() && started.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// A link between this machine's network and another's, and the rules for forwarding its packets.
#[derive(Debug)]
struct Link {
    rules: Vec<Vec<String>>,
}

impl Link {
    fn new(pid: &str) -> Self {
        // A network of four addresses that is not used here.
        let number: u32 = pid.parse().unwrap();
        let [_, b, c, d] = (number % (1 << 21) * 4).to_be_bytes();
        let address = |host: u8| format!("10.{}.{c}.{}", 128 + (b & 0x7f), d + host);
        let (name, network) = (format!("hg{number}"), format!("{}/30", address(0)));
        let ip = |line: &str| read(command("ip").args(line.split(' ')));
        let inside = |line: &str| {
            let mut enter = command("nsenter");
            read(enter.args(["--target", pid, "--net", "ip"]).args(line.split(' ')));
        };
        ip(&format!("link add {name} type veth peer name eth0 netns {pid}"));
        ip(&format!("addr add {}/30 dev {name}", address(1)));
        ip(&format!("link set {name} up"));
        inside("link set lo up");
        inside(&format!("addr add {}/30 dev eth0", address(2)));
        inside("link set eth0 up");
        inside(&format!("route add default via {}", address(1)));
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let mut link = Self { rules: Vec::new() };
        link.rule(&format!("-t nat POSTROUTING -s {network} ! -o {name} -j MASQUERADE"));
        link.rule(&format!("-t filter FORWARD -i {name} -j ACCEPT"));
        link.rule(&format!("-t filter FORWARD -o {name} -j ACCEPT"));
        link
    }

    fn rule(&mut self, rule: &str) {
        let words: Vec<String> = rule.split(' ').map(str::to_owned).collect();
        read(command("iptables").arg("-w").args(&words[..2]).arg("-I").args(&words[2..]));
        self.rules.push(words);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for words in &self.rules {
            let _ = command("iptables").arg("-w").args(&words[..2]).arg("-D").args(&words[2..]).output();
        }
    }
}
