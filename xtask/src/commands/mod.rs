//! The commands, one file each: an args struct with `run`.

pub mod bench;
pub mod completions;
pub mod config;
pub mod demo;
pub mod destroy;
pub mod doctor;
pub mod export;
pub mod import;
pub mod import_images;
pub mod init;
pub mod list;
pub mod local;
pub mod lock;
pub mod login;
pub mod outdated;
pub mod prune;
pub mod rebuild;
pub mod reset;
pub mod status;
pub mod test;
pub mod transfer;
pub mod verify;
pub mod watch;
pub mod write_files;

use clap::{Args as _, Subcommand};
use failure::{FailWith as _, Kind, failure};
use futures_util::future::{LocalBoxFuture, TryFutureExt as _};

use crate::boxed::boxed;
use crate::context::Context;
use crate::exit_codes::Ending;
use crate::program;
use crate::settings::Global;

/// The command whose output is only for programs.
pub const WATCH: &str = "watch";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    EcrLogin(login::EcrLogin),
    PublicEcrLogin(login::PublicEcrLogin),
    DockerRegistryLogin(login::DockerRegistryLogin),
    InitImages(init::InitImages),
    TransferImages(transfer::TransferImages),
    AutoTransferImages(transfer::AutoTransferImages),
    RebuildRuntimes(rebuild::RebuildRuntimes),
    ListImages(list::ListImages),
    Status(status::Status),
    Outdated(outdated::Outdated),
    Verify(verify::Verify),
    Watch(watch::Watch),
    ExportImages(export::ExportImages),
    ImportImages(import_images::ImportImages),
    Lock(lock::Lock),
    ImportConfig(import::ImportConfig),
    Local(local::Local),
    DestroyImages(destroy::DestroyImages),
    AutoDestroyImages(destroy::AutoDestroyImages),
    Prune(prune::Prune),
    ResetImagesDeployment(reset::ResetImagesDeployment),
    Doctor(doctor::Doctor),
    WriteFiles(write_files::WriteFiles),
    Config(config::Config),
    Completions(completions::Completions),
    Demo(demo::Demo),
    Test(test::Test),
    Bench(bench::Bench),
}

impl Command {
    /// The command's name, if it only works with the account's ECR or the terraform state.
    fn of_the_account(&self) -> Option<&'static str> {
        Some(match self {
            Self::EcrLogin(_) => "ecr-login",
            Self::PublicEcrLogin(_) => "public-ecr-login",
            Self::DockerRegistryLogin(_) => "docker-registry-login",
            Self::InitImages(_) => "init-images",
            Self::DestroyImages(_) => "destroy-images",
            Self::AutoDestroyImages(_) => "auto-destroy-images",
            Self::Prune(_) => "prune",
            Self::ResetImagesDeployment(_) => "reset-images-deployment",
            _ => return None,
        })
    }

    /// Whether it prints JSON regardless of `--format`.
    pub fn is_for_programs(&self) -> bool {
        matches!(self, Self::Watch(_))
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Errors of the command.
    pub fn run(self, context: &Context) -> LocalBoxFuture<'_, anyhow::Result<Ending>> {
        if let (Some(name), Some(registry)) = (self.of_the_account(), &context.settings.registry) {
            let refused = failure(
                Kind::Usage,
                format!("`{name}` does not support --registry ({registry}): it works on the account's ECR"),
            );
            let refused = Err(refused).hint(Kind::Usage, "leave --registry out");
            return Box::pin(std::future::ready(refused));
        }
        match self {
            Self::TransferImages(command) => boxed(|| command.run(context)),
            Self::AutoTransferImages(command) => boxed(|| command.run(context)),
            Self::Watch(command) => boxed(|| command.run(context)),
            Self::Outdated(command) => boxed(|| command.run(context)),
            Self::EcrLogin(command) => done(|| command.run(context)),
            Self::PublicEcrLogin(command) => done(|| command.run(context)),
            Self::DockerRegistryLogin(command) => done(|| command.run(context)),
            Self::InitImages(command) => done(|| command.run(context)),
            Self::RebuildRuntimes(command) => done(|| command.run(context)),
            Self::ListImages(command) => done(|| command.run(context)),
            Self::Status(command) => done(|| command.run(context)),
            Self::Verify(command) => done(|| command.run(context)),
            Self::ExportImages(command) => done(|| command.run(context)),
            Self::ImportImages(command) => done(|| command.run(context)),
            Self::Lock(command) => done(|| command.run(context)),
            Self::ImportConfig(command) => done(|| std::future::ready(command.run(context))),
            Self::Local(command) => done(|| command.run(context)),
            Self::DestroyImages(command) => done(|| command.run(context)),
            Self::AutoDestroyImages(command) => done(|| command.run(context)),
            Self::Prune(command) => done(|| command.run(context)),
            Self::ResetImagesDeployment(command) => done(|| std::future::ready(command.run(context))),
            Self::Doctor(command) => done(|| command.run(context)),
            Self::WriteFiles(command) => done(|| std::future::ready(command.run(context))),
            Self::Config(command) => done(|| command.run(context)),
            Self::Completions(command) => done(|| std::future::ready(command.run(context, tree()))),
            Self::Demo(command) => done(|| command.run(context)),
            Self::Test(command) => done(|| command.run(context)),
            Self::Bench(command) => done(|| command.run(context)),
        }
    }
}

/// Wraps a command that only ends with [`Ending::Done`].
fn done<'a, F: Future<Output = anyhow::Result<()>> + 'a>(
    make: impl FnOnce() -> F + 'a,
) -> LocalBoxFuture<'a, anyhow::Result<Ending>> {
    boxed(|| make().map_ok(|()| Ending::Done))
}

/// The command tree with the options of every command.
fn tree() -> clap::Command {
    let tree = Command::augment_subcommands(Global::augment_args(clap::Command::new(program::ALIAS)));
    program::named(tree, program::name())
}
