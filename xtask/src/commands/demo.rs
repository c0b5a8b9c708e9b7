//! `demo`: a complete run on this machine.

use std::collections::BTreeSet;

use clap::Args;
use images_config::Config;
use process::{Cmd, KillHandle};

use super::Context;
use super::init::InitImages;
use super::list::ListImages;
use crate::context::{environment_variable, shell_word};
use crate::local::{Background, LocalSetup};
use crate::prerequisites::Need;
use crate::settings::DEFAULT_TAG;
use crate::transfer::{self, Request};

/// Run init-images and transfer-images for real on this machine, with the AWS that is emulated here
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask demo --yes")]
pub struct Demo {
    /// Install and start what is missing without asking (CI=true means the same)
    #[arg(long, short)]
    yes: bool,
    /// Take the images from sample registries on this machine, even if the real ones answer
    #[arg(long)]
    sample_upstreams: bool,
}

/// The emulated parts, shown before anything else.
const EMULATED: [&str; 3] = [
    "This is a demonstration on one machine.",
    "  real: terraform with its state and lock in S3's API, the module, docker and the unmodified Dockerfile, every byte that is copied, \
     built, pushed and verified",
    "  emulated: AWS itself (ECR, S3, STS, KMS: crates/local-aws), and terraform's AWS provider (a stand-in that serves \
     hashicorp/aws 6.66.0's schema: crates/provider-standin)",
];

impl Demo {
    /// Runs the command.
    ///
    /// # Errors
    /// Something required is missing, or a step fails.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let printer = &context.printer;
        EMULATED.iter().for_each(|line| printer.line(line));
        let engine = context.ready(Need::DEMO, self.yes).await?;
        let mut context = context.clone();
        context.settings.local = true;
        let config = context.config()?;
        let mut setup = LocalSetup {
            engine: LocalSetup::engine_in_use(engine, environment_variable),
            upstreams: context.settings.upstreams.iter().cloned().collect(),
            ..LocalSetup::default()
        };
        if context.settings.upstreams.is_empty()
            && (self.sample_upstreams || !context.sources().answer(&config).await)
        {
            setup.samples = sources(&config);
            let samples = samples(&context).await?;
            context.settings.upstreams = setup.routes(Some(&samples), &[]);
            printer.line(
                "  images: samples under the real names, served by this machine (crates/sample-upstreams)",
            );
        } else {
            printer.line("  images: the real ones");
        }
        // Saved first, so that other commands and `local down` find it even if a later step fails.
        setup.save(context.paths.local())?;
        printer.line("");
        InitImages { create_state_bucket: true, if_needed: true, ..InitImages::default() }
            .run(&context)
            .await?;
        // The list at the end is the demo's result. The transfer's own report would show the same.
        transfer::run(&context, &Request { auto_approve: true, quiet: true, ..Request::default() }).await?;
        printer.line("");
        ListImages::default().run(&context).await?;
        printer.line("");
        printer.line(format!(
            "what was started keeps running: `eval \"$({})\"` points your own tools at the emulated AWS, `{}` goes on with \
             it, `{}` ends it all",
            context.local_command("local env"),
            context.local_command(&format!("transfer-images --local{}", same_grid(&context))),
            context.local_command("local down"),
        ));
        Ok(())
    }
}

/// The options that select this grid, to be typed again.
fn same_grid(context: &Context) -> String {
    let settings = &context.settings;
    let images =
        settings.images.as_ref().map(|file| format!(" --images {}", shell_word(&file.to_string_lossy())));
    let tag = (settings.tag != DEFAULT_TAG).then(|| format!(" TAG={}", settings.tag));
    let region = settings.region.as_ref().map(|region| format!(" REGION={region}"));
    [images, tag, region].into_iter().flatten().collect()
}

/// Builds the sample images if this version's do not exist, serves them, and returns the server's address. A server that already
/// runs may have been started by an earlier version, with its images.
async fn samples(context: &Context) -> anyhow::Result<String> {
    let background = Background::samples(&context.paths, &context.http);
    let program = background.build(&context.printer).await?;
    let lane = context.printer.progress().lane("sample images");
    let printer = context.printer.clone();
    let make = Cmd::new(program).args(["build", "--data"]).arg(background.data());
    make.stream(KillHandle::default(), move |line| {
        lane.news(line);
        printer.detail(line);
    })
    .await?;
    Ok(background.ensure(&[], &context.printer).await?.url())
}

/// Every registry that is a source in images.toml.
fn sources(config: &Config) -> Vec<String> {
    let images = config.images.iter().map(|image| image.source.registry());
    let bases = config.runtimes.iter().map(|runtime| runtime.base.registry());
    let rules = config.pull_through.iter().map(|rule| rule.registry());
    let all: BTreeSet<&str> = images.chain(bases).chain(rules).collect();
    all.into_iter().map(str::to_owned).collect()
}
