//! The shared state of every command.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use aws::{Aws, Endpoint, Wanted};
use failure::{FailWith as _, Interrupt, Kind, failure};
use images_config::Config;
use images_config::cache::Cache;
use images_config::lock::Lock;

use crate::local::{Background, LocalSetup};
use crate::paths::{Home, Paths};
use crate::prerequisites::{self, Need, Setup};
use crate::settings::{Global, Settings};
use crate::shipped::ShippedFile;
use crate::sources::Sources;
use crate::target::Target;
use crate::ui::{Document, Printer, question};

/// The prefix of AWS's variables.
const AWS_VARIABLES: &str = "AWS_";

/// The shared state of every command.
#[derive(Clone)]
pub struct Context {
    /// The resolved options.
    pub settings: Settings,
    /// The paths of files.
    pub paths: Paths,
    /// The files included in the program.
    pub shipped: &'static [ShippedFile],
    /// All output.
    pub printer: Printer,
    /// The TLS settings of every client.
    tls: crate::http::Tls,
    /// The client for AWS and all other servers that are not registries.
    pub http: reqwest::Client,
    /// Whether the run was interrupted.
    pub interrupt: Interrupt,
}

impl Context {
    /// Resolves the options, and starts the output and the handling of signals. `document` receives the JSON results.
    ///
    /// # Errors
    /// An option is wrong, or there are no files to work with.
    pub fn new(global: &Global, document: Document, shipped: &'static [ShippedFile]) -> anyhow::Result<Self> {
        if global.local {
            process::hand_down_in_place_of(AWS_VARIABLES, Vec::new());
        }
        let printer = Printer::new(global.words(), document);
        crate::ui::listen(&printer);
        let tls = crate::http::tls()?;
        Ok(Self {
            settings: Settings::resolve(global, |name| std::env::var(name).ok())?,
            paths: Paths::find(global, shipped)?,
            shipped,
            printer,
            http: crate::http::builder(&tls.config)?.build().context("could not set up HTTP")?,
            tls,
            interrupt: Interrupt::listen()?,
        })
    }

    /// The emulator's address with `--local`; starts it if it does not run. `None` for AWS itself.
    ///
    /// # Errors
    /// The emulator cannot be started.
    pub async fn endpoint(&self) -> anyhow::Result<Option<Endpoint>> {
        if !self.settings.local {
            return Ok(None);
        }
        let running = Background::aws(&self.paths, &self.http)
            .ensure(&self.settings.upstream_arguments(), &self.printer)
            .await?;
        Ok(Some(Endpoint::from(&running)))
    }

    /// AWS with the user's credentials, or the emulated AWS.
    ///
    /// # Errors
    /// Errors of [`Aws::connect`].
    pub async fn aws(&self, expected_account: Option<&str>) -> anyhow::Result<Aws> {
        let endpoint = self.endpoint().await?;
        // A user types a code. Input from a script is for another question.
        let ask = |question: &str| {
            let terminal = std::io::stdin().is_terminal();
            terminal.then(|| question::ask(&self.printer, question, &self.interrupt)).flatten()
        };
        let http = self.http.clone();
        let wanted = Wanted {
            region: self.settings.region.as_deref(),
            profile: self.settings.profile.as_deref(),
            accounts: self.settings.expect_account.as_deref().into_iter().chain(expected_account).collect(),
        };
        let aws = Aws::connect(&wanted, endpoint.as_ref(), http, &ask);
        let aws = self.interrupt.guard(aws).await?;
        process::hand_down_in_place_of(AWS_VARIABLES, aws.environment());
        for other in aws.other_regions() {
            let told = format!("{} says {}; this run works in {}", other.by, other.region, aws.region());
            self.printer.warn(told);
        }
        Ok(aws)
    }

    /// Finds what this machine lacks for a command, and installs it if the user agrees. Passes the container engine's address to
    /// every program started later. Returns the address if the client would not find the engine itself.
    ///
    /// # Errors
    /// Something is missing, and the user refused or must install it.
    pub async fn ready(&self, needs: &[Need], yes: bool) -> anyhow::Result<Option<String>> {
        let printer = &self.printer;
        let here = format!("{}/", self.paths.root().display());
        let setup = Setup {
            python: &self.paths.target().join("python"),
            state: &self.paths.local().join("docker"),
            assume_yes: yes,
            ask: &|question| {
                question::ask(printer, &format!("{question} [y/N]"), &self.interrupt)
                    .is_some_and(|a| matches!(a.as_str(), "y" | "yes"))
            },
            // The output does not show the project's own path.
            say: &|line| printer.line(line.replace(&here, "")),
        };
        // Programs found there are also started from there.
        process::hand_down("PATH", prerequisites::search_path());
        let found = prerequisites::ensure(needs, &setup).await.kind(Kind::MissingTool)?;
        if let Some(host) = &found.docker_host {
            process::hand_down("DOCKER_HOST", host);
        }
        Ok(found.docker_host)
    }

    /// This context with the settings that `demo` saved in the local directory, unless the user sets others: the same upstreams
    /// (sample ones are started if needed), and the same container engine.
    ///
    /// # Errors
    /// The file with the settings is broken, or the sample upstreams cannot be started.
    pub async fn with_local_setup(mut self) -> anyhow::Result<Self> {
        let setup = LocalSetup::load(self.paths.local())?;
        let samples = if setup.samples.is_empty() {
            None
        } else {
            Some(Background::samples(&self.paths, &self.http).ensure(&[], &self.printer).await?.url())
        };
        self.settings.upstreams = setup.routes(samples.as_deref(), &self.settings.upstreams);
        for (name, value) in setup.engine_variables(environment_variable) {
            process::hand_down(&name, value);
        }
        Ok(self)
    }

    /// A command line that runs `command` on the same local directory.
    pub fn local_command(&self, command: &str) -> String {
        match &self.settings.local_dir {
            None => format!("cargo xtask {command}"),
            Some(dir) => format!("cargo xtask {command} --local-dir {}", shell_word(&dir.to_string_lossy())),
        }
    }

    /// Reads images.toml. Unpacks it first if only this program has it.
    ///
    /// # Errors
    /// All errors in it.
    pub fn config(&self) -> anyhow::Result<Config> {
        self.paths.home().unpack(self.paths.root())?;
        let path = self.paths.images();
        let sources = images_config::Sources::of(path, self.paths.root());
        let config = Config::load(path, &self.paths.relative(path), &sources);
        if path.exists() {
            return config.kind(Kind::Config);
        }
        config.hint(Kind::Config, "--images FILE names another list")
    }

    /// images.lock, if there is one.
    ///
    /// # Errors
    /// All errors in it.
    pub fn lock(&self) -> anyhow::Result<Option<Lock>> {
        let path = self.paths.lock();
        let fix = "restore it from git, or delete it and run `cargo xtask lock`";
        Lock::load(&path, &self.paths.relative(&path)).hint(Kind::Config, fix)
    }

    /// The path for writing images.lock.
    ///
    /// # Errors
    /// It would belong to the images.toml in this program, where the user could not find or commit it.
    pub fn lock_to_write(&self) -> anyhow::Result<PathBuf> {
        if self.settings.images.is_none() && matches!(self.paths.home(), Home::Program(_)) {
            let message = "images.lock is written next to images.toml, and the only images.toml here is built into this program";
            let hint = "`cargo xtask write-files` writes it into a folder; run this command there";
            return Err(failure(Kind::Usage, message)).hint(Kind::Usage, hint);
        }
        Ok(self.paths.lock())
    }

    /// The results of earlier runs about the sources.
    pub fn mapping(&self) -> Arc<Cache> {
        Arc::new(Cache::open(self.paths.cache().join("mapping.json")))
    }

    /// The connection settings for the source registries.
    pub fn sources(&self) -> Sources<'_> {
        Sources {
            tls: &self.tls,
            http: &self.http,
            upstreams: &self.settings.upstreams,
            container_cli: self.settings.container_cli.as_deref(),
        }
    }

    /// The target of the images: the account's ECR, or the registry from `--registry`.
    ///
    /// # Errors
    /// There are no credentials, AWS refuses or does not answer, or `--registry` is not a registry.
    pub async fn target(&self, config: &Config) -> anyhow::Result<Target> {
        match &self.settings.registry {
            Some(registry) => Target::other(registry),
            None => Target::account(self.aws(config.account.as_deref()).await?).await,
        }
    }
}

/// A variable of this process's environment. An empty one counts as not set.
pub fn environment_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `text` quoted as one shell word.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::shell_word;

    #[test]
    fn a_word_is_quoted_if_a_shell_would_split_it() {
        assert_eq!(shell_word("../a-b/c.d"), "../a-b/c.d");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }
}
