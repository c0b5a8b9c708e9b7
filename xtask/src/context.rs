//! What every command works with.

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

/// How every variable of AWS's begins.
const AWS_VARIABLES: &str = "AWS_";

/// What every command works with.
#[derive(Clone)]
pub struct Context {
    /// The options, resolved.
    pub settings: Settings,
    /// Where the files are.
    pub paths: Paths,
    /// The files that the program has in it.
    pub shipped: &'static [ShippedFile],
    /// All printing.
    pub printer: Printer,
    /// How every client speaks TLS.
    tls: crate::http::Tls,
    /// For AWS, and for all that is no registry.
    pub http: reqwest::Client,
    /// Whether the run was interrupted.
    pub interrupt: Interrupt,
}

impl Context {
    /// Resolves the options, and begins to print and to listen for signals. `document` gets what is reported as JSON.
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

    /// Where AWS is: the emulator's address under `--local`, which is started if it does not run.
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

    /// AWS with the user's credentials, or the emulated one.
    ///
    /// # Errors
    /// As [`Aws::connect`].
    pub async fn aws(&self, expected_account: Option<&str>) -> anyhow::Result<Aws> {
        let endpoint = self.endpoint().await?;
        // A code is typed by a person: what a script hands to this program's input is meant for another question.
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

    /// Finds out what this machine lacks for a command, brings it where the user agrees, and hands the container
    /// engine's address down to every program that is started; gives that address, where the client does not find the
    /// engine by itself.
    ///
    /// # Errors
    /// Something is missing and the user said no, or only a person can bring it.
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
            // No output shows where the project stands.
            say: &|line| printer.line(line.replace(&here, "")),
        };
        // What is found there is started from there.
        process::hand_down("PATH", prerequisites::search_path());
        let found = prerequisites::ensure(needs, &setup).await.kind(Kind::MissingTool)?;
        if let Some(host) = &found.docker_host {
            process::hand_down("DOCKER_HOST", host);
        }
        Ok(found.docker_host)
    }

    /// This run with what `demo` set up in the local directory, as far as the user says nothing else: the same upstreams,
    /// the sample ones started if they do not run, and the same container engine.
    ///
    /// # Errors
    /// The file of the setup is broken, or the sample upstreams cannot be started.
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

    /// The line that runs `command` of this tool on the same local directory.
    pub fn local_command(&self, command: &str) -> String {
        match &self.settings.local_dir {
            None => format!("cargo xtask {command}"),
            Some(dir) => format!("cargo xtask {command} --local-dir {}", shell_word(&dir.to_string_lossy())),
        }
    }

    /// images.toml. Files that only this program has are unpacked for it.
    ///
    /// # Errors
    /// All that is wrong with it.
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
    /// All that is wrong with it.
    pub fn lock(&self) -> anyhow::Result<Option<Lock>> {
        let path = self.paths.lock();
        let fix = "take it back from git, or delete it: then `cargo xtask lock` writes it anew";
        Lock::load(&path, &self.paths.relative(&path)).hint(Kind::Config, fix)
    }

    /// Where images.lock is written.
    ///
    /// # Errors
    /// It would belong to the images.toml in this program, where nobody would find or commit it.
    pub fn lock_to_write(&self) -> anyhow::Result<PathBuf> {
        if self.settings.images.is_none() && matches!(self.paths.home(), Home::Program(_)) {
            let message = "images.lock stands beside images.toml, and the only one here is in this program";
            let hint = "`cargo xtask write-files` writes it into a folder; run this command there";
            return Err(failure(Kind::Usage, message)).hint(Kind::Usage, hint);
        }
        Ok(self.paths.lock())
    }

    /// What earlier runs learned of the sources.
    pub fn mapping(&self) -> Arc<Cache> {
        Arc::new(Cache::open(self.paths.cache().join("mapping.json")))
    }

    /// What reaches the source registries.
    pub fn sources(&self) -> Sources<'_> {
        Sources {
            tls: &self.tls,
            http: &self.http,
            upstreams: &self.settings.upstreams,
            container_cli: self.settings.container_cli.as_deref(),
        }
    }

    /// Where the images go: the account's ECR, or what `--registry` names.
    ///
    /// # Errors
    /// No credentials, AWS refuses or does not answer, or `--registry` is no registry.
    pub async fn target(&self, config: &Config) -> anyhow::Result<Target> {
        match &self.settings.registry {
            Some(registry) => Target::other(registry),
            None => Target::account(self.aws(config.account.as_deref()).await?).await,
        }
    }
}

/// A variable of this process's environment; an empty one counts as none.
pub fn environment_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `text` as one word of a shell's command line.
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
    fn a_word_is_quoted_where_a_shell_would_take_it_apart() {
        assert_eq!(shell_word("../a-b/c.d"), "../a-b/c.d");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }
}
