//! The grid's AWS resources for the command line: their files, and the progress display.

use std::path::PathBuf;
use std::sync::Arc;

use aws::{Aws, stack};
use failure::{FailWith as _, Kind, failure};
use grid::{GridEvent, Infrastructure, Options, RepositoryUsage, StandIn, StateObject, Watch};
use terraform::Event;

use crate::context::Context;
use crate::local;
use crate::ui::{Printer, Table, units};

/// The grid's resources, with the state in the bucket from the user or from HTC-Grid's stack.
///
/// # Errors
/// No bucket is named.
pub async fn open<'a>(context: &Context, aws: &'a Aws) -> anyhow::Result<Infrastructure<'a>> {
    let state = state_object(context, aws).await?;
    let options = Options {
        tag: context.settings.tag.clone(),
        lock_timeout: context.settings.lock_timeout,
        module: context.paths.module(),
        directory: terraform_directory(context),
        // Errors in images.toml are reported by the commands that need it.
        templates: context.config().is_ok_and(|config| config.creation_role.is_some()),
        stand_in: context.settings.local.then(|| stand_in(context)),
        http: context.http.clone(),
        interrupt: context.interrupt.clone(),
        watch: Box::new(EventPrinter { printer: context.printer.clone() }),
    };
    Ok(Infrastructure::new(options, aws, state))
}

/// Terraform's directory. `--local` has a separate one, because the emulated AWS has another provider.
pub fn terraform_directory(context: &Context) -> PathBuf {
    let paths = &context.paths;
    let parent = if context.settings.local { paths.local().to_owned() } else { paths.cache() };
    parent.join("terraform")
}

/// The stand-in for AWS's provider, compiled when needed.
fn stand_in(context: &Context) -> StandIn {
    let (paths, printer) = (context.paths.clone(), context.printer.clone());
    Arc::new(move || {
        let (paths, printer) = (paths.clone(), printer.clone());
        Box::pin(async move { local::provider(&paths, &printer).await })
    })
}

/// The location of the terraform state: the user's bucket, the emulated one, or the one from HTC-Grid's stack.
///
/// # Errors
/// No bucket is named.
pub async fn state_object(context: &Context, aws: &Aws) -> anyhow::Result<StateObject> {
    let key = context.settings.state_key.clone();
    let emulated = context.settings.local.then(|| local::STATE_BUCKET.to_owned());
    if let Some(bucket) = context.settings.state_bucket.clone().or(emulated) {
        return Ok(StateObject { bucket, key, kms_key: None });
    }
    let outputs = stack::outputs(aws, &context.http, &context.settings.tag).await?.unwrap_or_default();
    let kms_key = outputs.get(stack::KEY_OUTPUT).cloned();
    let bucket = outputs.get(stack::BUCKET_OUTPUT).cloned().ok_or_else(|| {
        failure(
            Kind::Config,
            format!(
                "no state bucket is named, and there is no stack {} with the output {}",
                context.settings.tag,
                stack::BUCKET_OUTPUT
            ),
        )
    });
    let bucket = bucket.hint(
        Kind::Config,
        "set S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME=..., as an argument or in the environment; \
         `init-images --create-state-bucket` makes the bucket",
    )?;
    Ok(StateObject { bucket, key, kms_key })
}

/// Prints the news.
struct EventPrinter {
    printer: Printer,
}

impl Watch for EventPrinter {
    fn on_event(&self, event: &GridEvent) {
        match event {
            GridEvent::LeaseKept(_) => self.printer.warn(event.to_string()),
            _ => self.printer.line(event.to_string()),
        }
    }

    fn init(&self) -> Box<dyn FnMut(&str) + Send> {
        let lane = self.printer.progress().lane("terraform init");
        let printer = self.printer.clone();
        Box::new(move |line| {
            lane.news(line);
            printer.detail(line);
        })
    }

    fn plan(&self) -> Box<dyn FnMut(&Event) + Send> {
        let lane = self.printer.progress().lane("terraform plan");
        let printer = self.printer.clone();
        Box::new(move |event| {
            lane.news(&event.to_string());
            printer.detail(event.to_string());
        })
    }

    fn apply(&self) -> Box<dyn FnMut(&Event) + Send> {
        let lane = self.printer.progress().lane("terraform apply");
        let printer = self.printer.clone();
        Box::new(move |event| {
            lane.news(&event.to_string());
            let done = matches!(event, Event::ApplyComplete { .. } | Event::ApplyErrored { .. });
            if done || printer.verbose() {
                printer.line(format!("terraform: {event}"));
            }
        })
    }
}

/// The table of repositories in the question before a deletion.
pub fn usage_table(usage: &[RepositoryUsage]) -> Table {
    let mut table = Table::new(["REPOSITORY", "IMAGES", "SIZE", ""]);
    for RepositoryUsage { repository, images, bytes, used_by } in usage {
        let verdict = if used_by.is_empty() {
            "delete".to_owned()
        } else {
            let grids = used_by.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!(
                "keep: used by {grids}; `aws ecr delete-repository --force --repository-name {repository}` deletes it"
            )
        };
        table.row([repository.clone(), images.to_string(), units::bytes(*bytes), verdict]);
    }
    table
}
