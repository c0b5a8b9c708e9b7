//! Shows facts about runtimes without building them.

use images_config::RUNTIMES_REPOSITORY;
use runtimes::{Cause, Runtime, Why};

use super::plan;
use crate::context::Context;
use crate::target::Target;
use crate::transfer::{explain_runtime, held};
use crate::ui::Table;

/// Shows the inputs of each runtime's build key.
pub(super) async fn explain(
    context: &Context,
    builder: &runtimes::Context,
    wanted: &[Runtime],
) -> anyhow::Result<()> {
    let (mut text, mut documents) = (Vec::new(), Vec::new());
    for runtime in wanted {
        let inputs = runtimes::explain(builder, runtime)
            .await
            .map_err(|error| explain_runtime(&runtime.name, &error))?;
        let base = runtime.base.as_ref().map(|base| format!(" on {base}")).unwrap_or_default();
        text.push(format!("{}{base}\n{}", runtime.name, inputs.explain()));
        documents.push(serde_json::json!({ "name": runtime.name, "key": inputs.key(), "inputs": inputs }));
    }
    context.printer.results().either(|| text.join("\n"), &serde_json::json!({ "runtimes": documents }))
}

/// Shows what would be done.
pub(super) fn planned(context: &Context, planned: &[runtimes::Planned]) -> anyhow::Result<()> {
    let (mut table, mut documents) = (Table::new(["RUNTIME", "ACTION"]), Vec::new());
    for runtime in planned {
        let action = runtime.action.words();
        table.row([runtime.name.clone(), action.to_owned()]);
        documents.push(serde_json::json!({ "name": runtime.name, "action": action, "why": runtime.reason }));
    }
    context.printer.line("dry run: nothing was changed");
    context.printer.results().data(&table, &serde_json::json!({ "runtimes": documents }))
}

/// Shows which input differs from the existing build.
pub(super) async fn why(
    context: &Context,
    builder: &runtimes::Context,
    wanted: &[Runtime],
) -> anyhow::Result<()> {
    let (mut text, mut documents) = (String::new(), Vec::new());
    for planned in plan(context, builder, wanted, false).await? {
        let why =
            runtimes::why(builder, &planned).await.map_err(|error| explain_runtime(&planned.name, &error))?;
        let said = match &why {
            Why::Absent => "there is nothing to compare with: not built yet".to_owned(),
            Why::Foreign => "what is there was not built by this tool".to_owned(),
            Why::Changes(changes) if changes.is_empty() => "same inputs".to_owned(),
            Why::Changes(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "),
        };
        text += &format!("{}\n  {said}\n", planned.name);
        documents.push(serde_json::json!({ "name": planned.name, "why": why }));
    }
    context.printer.results().either(|| text, &serde_json::json!({ "runtimes": documents }))
}

/// Tag and digest of a runtime's builds that ECR has archived: its registry does not find them, and they cannot run.
async fn archived(target: Option<&Target>, name: &str) -> anyhow::Result<Vec<(String, String)>> {
    let Some(account) = target.and_then(|target| target.account.as_ref()) else { return Ok(Vec::new()) };
    let images = account.ecr.images(RUNTIMES_REPOSITORY).await?;
    let mut found = Vec::new();
    for image in images.into_iter().filter(|image| image.archived) {
        let builds = image.tags.iter().filter(|tag| runtimes::is_build_of(name, tag));
        found.extend(builds.map(|tag| (tag.clone(), image.digest.clone())));
    }
    Ok(found)
}

/// Shows the builds of a runtime, and the history of its tag.
pub(super) async fn builds(
    context: &Context,
    builder: &runtimes::Context,
    target: Option<&Target>,
    name: &str,
) -> anyhow::Result<()> {
    let found = async {
        tokio::try_join!(runtimes::builds(builder, name), runtimes::history(builder, name))
            .map_err(|error| explain_runtime(name, &error))
    };
    let ((builds, history), archived) = tokio::try_join!(found, archived(target, name))?;
    let builds = runtimes::dated(builds, &history);
    let hold = builder.grid_settings.hold(name);
    let dash = || "-".to_owned();
    let mut table = Table::new(["BUILD", "FIRST RAN", "RUNS", "KEY", "BASE", "DIGEST"]);
    for build in &builds {
        let base = match (&build.base_name, &build.base_digest) {
            (Some(name), Some(digest)) => format!("{name}@{digest}"),
            (name, _) => name.clone().unwrap_or_else(dash),
        };
        let is_held = hold.as_ref().is_some_and(|hold| hold.build == build.digest);
        let runs = match (build.is_current, is_held) {
            (true, true) => "yes, held",
            (true, false) => "yes",
            (false, true) => "held",
            (false, false) => "-",
        };
        table.row([
            build.tag.clone(),
            build.first_run.map_or_else(dash, |time| time.to_string()),
            runs.to_owned(),
            build.key.clone().unwrap_or_else(dash),
            base,
            build.digest.to_string(),
        ]);
    }
    for (tag, digest) in &archived {
        table.row([tag.clone(), dash(), "archived".to_owned(), dash(), dash(), digest.clone()]);
    }
    if !archived.is_empty() {
        context.printer.line(format!(
            "--rollback cannot take an archived build: `aws ecr update-image-storage-class --repository-name {RUNTIMES_REPOSITORY}` \
             with --target-storage-class STANDARD restores it"
        ));
    }
    let mut moves = Table::new(["MOVED", "FROM", "TO", "HOW", "BY"]);
    for made in history.moves() {
        let short = |digest: Option<registry::Digest>| digest.map_or_else(dash, |digest| digest.short());
        let how = match made.cause {
            Cause::Built => "built",
            Cause::Promoted => "promoted",
            Cause::RolledBack => "rolled back",
            Cause::Elsewhere => "not by this tool; seen at that time",
        };
        moves.row([
            made.at.to_string(),
            short(made.from),
            short(made.to),
            how.to_owned(),
            made.by.clone().unwrap_or_else(dash),
        ]);
    }
    let archived: Vec<_> =
        archived.iter().map(|(tag, digest)| serde_json::json!({ "tag": tag, "digest": digest })).collect();
    let moved = history.moves();
    let document =
        serde_json::json!({ "builds": builds, "archived": archived, "moves": moved, "held": hold });
    context
        .printer
        .results()
        .either(|| format!("{table}\nHistory of {RUNTIMES_REPOSITORY}:{name}:\n{moves}"), &document)?;
    if let Some(hold) = &hold {
        context.printer.line(held(name, hold));
    }
    Ok(())
}
