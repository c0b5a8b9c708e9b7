//! Four runtimes built cold: side by side by ours, and one after another by plain `docker build`.
//!
//! `cargo xtask bench` starts a present-day docker with buildx for it; there `docker buildx bake`, which builds side by side as
//! well, takes turns with them. Otherwise it is the machine's own docker.
//!
//! All build the project's own Dockerfile on the same pinned bases with the same client, engine and flags (`--no-cache
//! --pull`), and before each turn everything that any has left in the engine is removed, the bases too. A client in front of
//! docker's own notes when each `docker build` begins and ends: what ours adds is the part of its wall time in which none runs.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use sample_upstreams::Store as Samples;
use serde::Serialize;

use crate::process::{attempt, check_interrupt, read, start_measured};
use crate::registry::Registry;
use crate::stats::{median, pairwise};
use crate::store::Store;
use crate::{Options, say, tell};

/// Name, base and entry point: two of each generation, both entry points.
const RUNTIMES: [(&str, &str, &str, &str); 4] = [
    ("bench-provided", "lambda/provided", "al2", "lambda_entry_point_provided.sh"),
    ("bench-python3.8", "lambda/python", "3.8", "lambda_entry_point.sh"),
    ("bench-java21", "lambda/java", "21", "lambda_entry_point.sh"),
    ("bench-nodejs22", "lambda/nodejs", "22", "lambda_entry_point.sh"),
];
const UPSTREAM: &str = "public.ecr.aws";
const ROUNDS: u32 = 5;
/// What one after another may at most be to side by side, and what ours may add, in seconds.
const GOAL: f64 = 0.70;
const ADDED: f64 = 2.0;

/// One turn: its wall time, and how much of it no `docker build` ran, in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Turn {
    wall_s: f64,
    outside_s: f64,
}

/// Who takes turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    /// `docker build`, four times.
    Plain,
    /// `docker buildx bake`, once.
    Bake,
    /// `rebuild-runtimes`.
    Ours,
    /// `transfer-images`: built, pushed, read back and tagged.
    Pushed,
}

impl Way {
    const ALL: [Self; 4] = [Self::Plain, Self::Bake, Self::Ours, Self::Pushed];

    fn title(self) -> &'static str {
        match self {
            Self::Plain => "`docker build`, one after another",
            Self::Bake => "`docker buildx bake` of the same targets",
            Self::Ours => "ours, `rebuild-runtimes`",
            Self::Pushed => "ours, `transfer-images`: with push, read back, tags",
        }
    }
}

struct Site {
    out: PathBuf,
    xtask: PathBuf,
    project: PathBuf,
    docker: Docker,
    samples: Samples,
    upstream: String,
    registry: Registry,
}

/// Measures, prints the table and writes `runtimes.md` and `runtimes.json`.
///
/// # Errors
/// Without an engine, root or debootstrap there are no bases to build on; and when a build fails.
pub fn run(options: &Options, out: &Path, xtask: &Path) -> Result<()> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?.to_owned();
    let samples = sample_upstreams::build(
        &out.parent().unwrap_or(out).join("local/sample-upstreams"),
        &sample_upstreams::Options::default(),
    )?;
    let store = Store::new(out.join("runtimes"));
    store.wipe()?;
    let site = Site {
        docker: Docker::new(out)?,
        upstream: serve(samples.clone())?,
        registry: Registry::start(
            "runtimes",
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            &store,
            &out.join("registries"),
        )?,
        out: out.to_owned(),
        xtask: xtask.to_owned(),
        project,
        samples,
    };
    site.images_toml()?;
    let ways = Way::ALL.into_iter().filter(|way| *way != Way::Bake || site.docker.has_buildx());
    let mut turns: Vec<(Way, Vec<Turn>)> = ways.map(|way| (way, Vec::new())).collect();
    let rounds = options.rounds.unwrap_or(ROUNDS);
    for round in 0..rounds {
        for (way, done) in &mut turns {
            check_interrupt()?;
            site.forget();
            store.wipe()?;
            let turn = site.turn(*way)?;
            tell(&format!("  round {}: {}: {:.1} s", round + 1, way.title(), turn.wall_s));
            done.push(turn);
        }
    }
    site.forget();
    store.wipe()?;
    let table = table(&turns, &site.docker.versions()?);
    fs::write(out.join("runtimes.md"), &table)?;
    fs::write(out.join("runtimes.json"), serde_json::to_vec_pretty(&turns)?)?;
    say(&table);
    Ok(())
}

/// The sample registries, for as long as this process lives.
fn serve(samples: Samples) -> Result<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("samples".to_owned()).spawn(move || {
        runtime.block_on(async {
            let Ok(server) =
                sample_upstreams::Server::start(samples, sample_upstreams::Config::default()).await
            else {
                return;
            };
            let _ = sender.send(server.address().to_string());
            std::future::pending::<()>().await;
        });
    })?;
    receiver.recv().context("the sample registries did not start")
}

/// The client that all builds go through.
struct Docker {
    /// Notes when its builds begin and end.
    client: PathBuf,
    /// `DOCKER_CONFIG`, where the client has buildx in a directory of its own.
    config: Option<PathBuf>,
}

impl Docker {
    fn new(out: &Path) -> Result<Self> {
        let dir = out.join("client");
        fs::create_dir_all(&dir)?;
        let given = |name: &str| std::env::var_os(name).map(PathBuf::from);
        // Set by `cargo xtask bench`, as for the tests.
        let present = given("HTC_GRID_TEST_DOCKER")
            .zip(given("HTC_GRID_TEST_BUILDX"))
            .zip(given("HTC_GRID_TEST_CLASSIC"));
        let Some(((programs, plugin), host)) = present else {
            let docker = which::which("docker").context("docker is not in PATH")?;
            return Ok(Self { client: recorder(&dir, &docker, "")?, config: None });
        };
        let config = out.join("docker");
        match fs::remove_dir_all(&config) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs::create_dir_all(config.join("cli-plugins"))?,
        }
        symlink(plugin, config.join("cli-plugins/docker-buildx"))?;
        // Ours has a configuration of its own for each run.
        let environment = format!(
            "export DOCKER_HOST='{}' DOCKER_CONFIG=\"${{DOCKER_CONFIG:-{}}}\"\n",
            host.display(),
            config.display()
        );
        let client = recorder(&dir, &programs.join("docker"), &environment)?;
        Ok(Self { client, config: Some(config) })
    }

    fn has_buildx(&self) -> bool {
        self.config.is_some()
    }

    fn name(&self) -> String {
        self.client.display().to_string()
    }

    fn versions(&self) -> Result<String> {
        let client = self.name();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        let format = "client {{.Client.Version}}, engine {{.Server.Version}}";
        let mut versions = text(read(&client, &["version", "--format", format])?);
        if self.has_buildx() {
            let buildx = text(read(&client, &["buildx", "version"])?);
            write!(versions, ", buildx {}", buildx.split(' ').nth(1).unwrap_or_default())?;
        }
        Ok(versions)
    }
}

/// A docker client that notes when its builds begin and end.
fn recorder(dir: &Path, docker: &Path, environment: &str) -> Result<PathBuf> {
    let script = format!(
        "#!/bin/sh\n{environment}build=\nfor word; do case \"$word\" in build) build=1; break;; -*) ;; *) break;; esac; done\n\
         [ \"$1 $2\" != 'buildx bake' ] || build=1\n\
         case \"$*\" in *--help*) build=;; esac\nbegun=$(date +%s%N)\n'{}' \"$@\"\nstatus=$?\n\
         [ -z \"$build\" ] || echo \"$begun $(date +%s%N)\" >>'{}'\nexit $status\n",
        docker.display(),
        dir.join("builds").display()
    );
    let client = dir.join("docker");
    fs::write(&client, script)?;
    fs::set_permissions(&client, fs::Permissions::from_mode(0o755))?;
    Ok(client)
}

impl Site {
    fn images_toml(&self) -> Result<()> {
        let mut text = "schema_version = 1\n[runtimes]\n".to_owned();
        for (name, base, tag, entry_point) in RUNTIMES {
            writeln!(
                text,
                "\"{name}\" = {{ base = \"{UPSTREAM}/{base}:{tag}\", entry_point = \"{entry_point}\" }}"
            )?;
        }
        Ok(fs::write(self.out.join("images.toml"), text)?)
    }

    /// Removes from the engine what a turn has left there.
    fn forget(&self) {
        let client = self.docker.name();
        let remove = |image: &str| attempt(&client, &["image", "rm", "--force", image], &[]);
        let format = "{{.Repository}}:{{.Tag}} {{.Repository}}@{{.Digest}}";
        let listed = read(&client, &["image", "ls", "--digests", "--format", format]).unwrap_or_default();
        let listed = String::from_utf8_lossy(&listed).into_owned();
        for line in listed.lines() {
            let (name, digest) = line.split_once(' ').unwrap_or((line, line));
            if name.starts_with("lambda:bench-") {
                remove(name);
            } else if name.starts_with(&self.upstream) {
                remove(digest);
            }
        }
        if self.docker.has_buildx() {
            // BuildKit has the bases here, and what it built.
            attempt(&client, &["buildx", "prune", "--all", "--force"], &[]);
        }
    }

    fn turn(&self, way: Way) -> Result<Turn> {
        let home = self.out.join("home/runtimes");
        match fs::remove_dir_all(&home) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs::create_dir_all(&home)?,
        }
        let builds = self.docker.client.with_file_name("builds");
        fs::write(&builds, "")?;
        let log = File::create(self.out.join("runtimes.log"))?;
        let programs = self.programs(way)?;
        let mut env = vec![("CARGO_TARGET_DIR".to_owned(), home.display().to_string())];
        let config = self.docker.config.as_ref().map(|config| config.display().to_string());
        env.extend(config.map(|config| ("DOCKER_CONFIG".to_owned(), config)));
        let started = Instant::now();
        for argv in &programs {
            let status = start_measured(argv, &env, &self.project, &log)?.wait()?;
            ensure!(status.success(), "`{}` ended with {status}; see runtimes.log", argv.join(" "));
        }
        let wall_s = started.elapsed().as_secs_f64();
        let intervals = intervals(&fs::read_to_string(&builds)?)?;
        let builds = if way == Way::Bake { 1 } else { RUNTIMES.len() };
        ensure!(intervals.len() == builds, "{} builds in the place of {builds}", intervals.len());
        Ok(Turn { wall_s, outside_s: wall_s - covered(intervals) })
    }

    /// A base, pinned, as the engine pulls it.
    fn base(&self, base: &str, tag: &str) -> Result<String> {
        let repository = format!("{UPSTREAM}/{base}");
        let Some(digest) = self.samples.digest(&repository, tag)? else {
            bail!("the samples have no {repository}:{tag}")
        };
        Ok(format!("{}/{repository}@{digest}", self.upstream))
    }

    /// The same builds as a file for bake.
    fn bake(&self) -> Result<PathBuf> {
        let mut targets = serde_json::Map::new();
        for (name, base, tag, entry_point) in RUNTIMES {
            let target = serde_json::json!({
                "context": self.project.join("runtimes"),
                "args": { "BASE_IMAGE": self.base(base, tag)?, "ENTRY_POINT": entry_point },
                "tags": [format!("lambda:{name}")],
                "no-cache": true,
                "pull": true,
            });
            // A dot is no part of a target's name.
            targets.insert(name.replace('.', "-"), target);
        }
        let names: Vec<&String> = targets.keys().collect();
        let bake = serde_json::json!({ "group": { "default": { "targets": names } }, "target": targets });
        let file = self.out.join("docker-bake.json");
        fs::write(&file, serde_json::to_vec_pretty(&bake)?)?;
        Ok(file)
    }

    /// The command lines of a turn, run one after another.
    fn programs(&self, way: Way) -> Result<Vec<Vec<String>>> {
        let (client, images) = (self.docker.name(), self.out.join("images.toml"));
        let words = |line: &[&str]| line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        if way == Way::Plain {
            let build = |(name, base, tag, entry_point): (&str, &str, &str, &str)| {
                let base = format!("BASE_IMAGE={}", self.base(base, tag)?);
                let entry_point = format!("ENTRY_POINT={entry_point}");
                let context = self.project.join("runtimes").display().to_string();
                let name = format!("lambda:{name}");
                let line =
                    ["build", "--no-cache", "--pull", "--build-arg", &base, "--build-arg", &entry_point];
                Ok([words(&[&client]), words(&line), words(&["--tag", &name, &context])].concat())
            };
            return RUNTIMES.into_iter().map(build).collect();
        }
        if way == Way::Bake {
            let file = self.bake()?.display().to_string();
            return Ok(vec![words(&[&client, "buildx", "bake", "--file", &file])]);
        }
        let upstream = format!("{UPSTREAM}=http://{}/{UPSTREAM}", self.upstream);
        let (xtask, images) = (self.xtask.display().to_string(), images.display().to_string());
        let registry = self.registry.addr().to_string();
        let common = [&xtask, "--images", &images, "--upstream", &upstream, "--container-cli", &client];
        let own: &[&str] = match way {
            Way::Pushed => {
                &["--registry", &registry, "transfer-images", "--auto-approve", "--rebuild-runtimes"]
            }
            _ => &["rebuild-runtimes", "--no-cache"],
        };
        Ok(vec![[words(&common), words(own)].concat()])
    }
}

/// Begin and end of each build, in nanoseconds since 1970.
fn intervals(log: &str) -> Result<Vec<(u128, u128)>> {
    let parse = |line: &str| {
        let (begin, end) = line.split_once(' ').context("a line of the client's")?;
        anyhow::Ok((begin.parse()?, end.parse()?))
    };
    log.lines().map(parse).collect()
}

/// For how many seconds at least one of the intervals lasts.
fn covered(mut intervals: Vec<(u128, u128)>) -> f64 {
    intervals.sort_unstable();
    let (mut covered, mut until) = (0, 0);
    for (begin, end) in intervals {
        covered += end.saturating_sub(begin.max(until));
        until = until.max(end);
    }
    covered as f64 / 1e9
}

fn table(turns: &[(Way, Vec<Turn>)], versions: &str) -> String {
    let each =
        |done: &[Turn], value: fn(&Turn) -> f64| done.iter().map(value).enumerate().collect::<Vec<_>>();
    let plain = turns.first().map(|(_, done)| each(done, |turn| turn.wall_s)).unwrap_or_default();
    let middle =
        |values: &[(usize, f64)]| median(&values.iter().map(|(_, value)| *value).collect::<Vec<_>>());
    let mut text = format!(
        "Four runtimes, cold ({versions}; {} CPUs; medians of {} rounds; goals: {GOAL:.2} and {ADDED:.1} s)\n\n\
         | | s | rounds | to one after another | outside `docker build`, s |\n|---|---|---|---|---|\n",
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        plain.len()
    );
    for (way, done) in turns {
        let walls = each(done, |turn| turn.wall_s);
        let rounds = walls.iter().map(|(_, wall)| format!("{wall:.1}")).collect::<Vec<_>>().join(" ");
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        let outside = middle(&each(done, |turn| turn.outside_s));
        let _ = writeln!(
            text,
            "| {} | {} | {rounds} | {} | {} |",
            way.title(),
            number(middle(&walls)),
            number(pairwise(&walls, &plain)),
            number(outside)
        );
    }
    text += "\nOutside `docker build` is the wall time less the time in which at least one `docker build` ran, by a client that notes \
             when each begins and ends.\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_side_by_side_cover_their_union() {
        let log =
            "1000000000 3000000000\n2000000000 4000000000\n6000000000 7000000000\n6100000000 6200000000\n";
        assert!((covered(intervals(log).unwrap()) - 4.0).abs() < 1e-9);
        assert!(intervals("1").is_err());
        assert!(covered(Vec::new()).abs() < 1e-9);
    }

    #[test]
    fn the_table_has_the_ratio_within_a_round() {
        let turn = |wall_s| Turn { wall_s, outside_s: 0.5 };
        let turns = [(Way::Plain, vec![turn(10.0), turn(20.0)]), (Way::Ours, vec![turn(5.0), turn(12.0)])];
        let table = table(&turns, "client 1, engine 2");
        assert!(table.contains("| ours, `rebuild-runtimes` | 8.50 | 5.0 12.0 | 0.55 | 0.50 |"), "{table}");
    }
}
