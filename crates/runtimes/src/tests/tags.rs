//! What moves a runtime's tag, what keeps it where it is, and rollbacks.

use std::collections::BTreeMap;
use std::time::Duration;

use failure::Kind;
use process::Cmd;
use registry::Digest;

use super::world::{World, plan_one, run_one};
use crate::{
    Action, Cause, Context, Options, Runtime, RuntimeError, Trial, builds, history, plan, plan_rollback,
    roll_back,
};

/// Answers as a runtime does, exits, or does not answer, depending on its handler: the argument after the one that identifies the test.
const START: &str = "case $2 in ends) echo the-reason; exit 3;; silent) exec sleep 600;; esac\n\
                     exec nc -ll -p 8080 -e sh -c 'read line; printf \"HTTP/1.0 200 OK\\r\\n\\r\\n{}\"'\n";

/// A runtime that can be tested; each new build has other content.
fn runtime(world: &World) -> Runtime {
    let context = world.room.path().join("tags");
    std::fs::create_dir(&context).unwrap();
    let dockerfile = format!(
        "ARG BASE_IMAGE\nFROM ${{BASE_IMAGE}}\nRUN date +%N%s >/said\nCOPY say start /\n\
         ENTRYPOINT [\"/bin/sh\", \"/start\", \"{}\"]\n",
        world.registry
    );
    std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    std::fs::write(context.join("start"), START).unwrap();
    std::fs::write(context.join("say"), "one").unwrap();
    Runtime { context, ..world.runtime() }
}

fn trial(handler: &str, seconds: u64) -> Option<Trial> {
    Some(Trial { handler: handler.to_owned(), timeout: Duration::from_secs(seconds) })
}

/// The containers of this test's images: the world's registry is in their command. Other tests run at the same time.
fn containers(world: &World) -> String {
    let format = "{{.Image}} {{.Command}}";
    let all = Cmd::new("docker").args(["ps", "--all", "--no-trunc", "--format", format]).read().unwrap();
    all.lines().filter(|line| line.contains(&world.registry)).collect()
}

/// One step of a history.
enum Step {
    /// An ordinary run, after the file was written.
    Run(&'static str),
    /// A forced rebuild.
    Force,
    /// A run that tests the runtime with this handler, after the file was written.
    Try(&'static str, &'static str),
    /// Another tool pushes a build.
    Hand(&'static str),
    /// A rollback with its hold.
    Back,
    /// Back to a named build.
    BackTo(&'static str),
    /// The hold is removed.
    LetGo,
}

#[tokio::test(flavor = "multi_thread")]
async fn after_each_step_of_a_history_the_tag_refers_to_the_expected_build() {
    use Step::{Back, BackTo, Force, Hand, LetGo, Run, Try};
    let Some(world) = World::new("tags").await else { return };
    world.push_base("upstream/lambda/base", "v1").await;
    let runtime = runtime(&world);
    let name = runtime.name.clone();
    // (the step, the current build after it, the build that a rollback would go to); builds are named by letters in the order of their
    // first use.
    let table = [
        ("the first build", Run("one"), "a", ""),
        ("another", Run("two"), "b", "a"),
        ("a return to earlier inputs: older than what it replaces", Run("one"), "a", "b"),
        ("back", Back, "b", "a"),
        ("a run while it is held", Run("one"), "b", "a"),
        ("a forced rebuild while it is held", Force, "b", "a"),
        ("let go: the rebuild takes its place", LetGo, "b", "a"),
        ("and is promoted", Run("one"), "c", "b"),
        ("a forced rebuild", Force, "d", "c"),
        ("a cached build: nothing but its label is new", Run("one "), "e", "d"),
        ("moved by hand", Hand("x"), "x", "e"),
        ("a run puts it right", Run("one "), "e", "x"),
        ("back to what was put there by hand", Back, "x", "e"),
        ("further back", Back, "e", "d"),
        ("further back", Back, "d", "c"),
        ("to a named one", BackTo("a"), "a", ""),
        ("let go", LetGo, "a", ""),
        ("the named one was gone back to, over all others", Run("two"), "b", "a"),
        ("a runtime that ends", Try("ends", "bad"), "b", "a"),
        ("a runtime that keeps silent", Try("silent", "bad"), "b", "a"),
        ("a runtime that answers", Try("fine", "good"), "f", "b"),
        ("a promotion that fails", Try("ends", "two"), "f", "b"),
        ("a promotion that answers", Try("fine", "two"), "b", "f"),
    ];
    let mut known: BTreeMap<&str, Digest> = BTreeMap::new();
    let mut context = world.context("docker");
    for (what, step, live, back) in table {
        let before = registry::lists::tags(&world.client, &world.repository()).await.unwrap().len();
        let write = |content: &str| std::fs::write(runtime.context.join("say"), content).unwrap();
        let hold = |build: Option<Digest>| {
            let mut facts = world.fake.facts.lock().unwrap();
            facts.holds.clear();
            facts.holds.extend(build.map(|build| (name.clone(), build)));
        };
        context.trial = None;
        match step {
            Run(content) => {
                write(content);
                run_one(&context, &runtime, false).await.1.result.unwrap();
            }
            Force => drop(run_one(&context, &runtime, true).await.1.result.unwrap()),
            Try(handler, content) => {
                write(content);
                context.trial = trial(handler, if handler == "silent" { 2 } else { 60 });
                let result = run_one(&context, &runtime, false).await.1.result;
                if handler == "fine" {
                    assert_eq!(result.unwrap().smoke.unwrap().body, "{}", "{what}");
                } else {
                    let error = result.unwrap_err();
                    assert!(matches!(error, RuntimeError::Smoke { .. }), "{what}: {error}");
                    assert_eq!(error.kind(), Kind::Docker, "{what}");
                    let tags = registry::lists::tags(&world.client, &world.repository()).await.unwrap().len();
                    assert_eq!(tags, before, "{what}: nothing that a later run would take up");
                }
            }
            Hand(by) => {
                let build = world.push_base("lambda", by).await;
                world.client.retag(&world.repository().with_digest(build), &name).await.unwrap();
            }
            Back => hold(Some(go_back(&context, &name, None).await)),
            BackTo(build) => hold(Some(go_back(&context, &name, Some(&known[build].short())).await)),
            LetGo => hold(None),
        }
        let now = world.tag(&name).await.unwrap();
        known.entry(live).or_insert(now);
        assert_eq!(known[live], now, "{what}: {known:?}");
        let found = plan_rollback(&context, &name, None).await;
        match back {
            "" => assert!(matches!(found, Err(RuntimeError::NoEarlierBuild { .. })), "{what}: {found:?}"),
            _ => assert_eq!(found.unwrap().to, known[back], "{what}: {known:?}"),
        }
    }
    assert_eq!(known.len(), 7);
    // A build that was moved by hand is recorded as such, and can still be run.
    let history = history(&context, &name).await.unwrap();
    let elsewhere = history.moves().iter().find(|made| made.cause == Cause::Elsewhere).unwrap();
    assert_eq!((elsewhere.to, &elsewhere.by), (Some(known["x"]), &None));
    assert!(builds(&context, &name).await.unwrap().iter().any(|build| build.digest == known["x"]));
    assert!(history.moves().iter().all(|made| made.by.as_deref().is_none_or(|by| by == "a test")));
    assert_eq!((containers(&world), world.fake.warnings.lock().unwrap().len()), (String::new(), 0));
}

async fn go_back(context: &Context, name: &str, build: Option<&str>) -> Digest {
    let rollback = plan_rollback(context, name, build).await.unwrap();
    assert!(roll_back(context, &rollback).await.unwrap());
    rollback.to
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_registry_the_build_is_tested_by_its_image_id() {
    let Some(world) = World::new("smoke").await else { return };
    world.push_base("upstream/lambda/base", "v1").await;
    let runtime = runtime(&world);
    let mut context = world.context("docker");
    context.repository = None;
    context.trial = trial("fine", 60);
    let answer = run_one(&context, &runtime, false).await.1.result.unwrap().smoke.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    // Nothing to build, but it is tested.
    context.trial = trial("ends", 60);
    let (action, outcome) = run_one(&context, &runtime, false).await;
    let error = outcome.result.unwrap_err();
    assert_eq!(action, Action::Nothing);
    assert!(
        error.to_string().contains("it ended before it answered") && error.in_full().contains("the-reason"),
        "{error}"
    );
    context.trial = trial("silent", 2);
    let error = run_one(&context, &runtime, false).await.1.result.unwrap_err().to_string();
    assert!(error.ends_with("no answer within 2 s"), "{error}");
    assert_eq!(containers(&world), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_record_is_not_changed_and_prevents_no_move() {
    let Some(world) = World::new("record").await else { return };
    let base = world.push_base("upstream/lambda/base", "v1").await;
    let runtime = runtime(&world);
    let (name, context) = (runtime.name.clone(), world.context("docker"));
    world.push_base("lambda", "x").await;
    world.client.retag(&world.repository().with_tag("1").unwrap(), &format!("{name}-history")).await.unwrap();
    let theirs = world.tag(&format!("{name}-history")).await;
    let done = run_one(&context, &runtime, false).await.1.result.unwrap();
    assert!(done.moved);
    assert_eq!(world.tag(&format!("{name}-history")).await, theirs);
    let warnings = world.fake.warnings.lock().unwrap().clone();
    assert!(
        warnings.len() == 1 && warnings[0].contains("not a record of a runtime's builds"),
        "{warnings:?}"
    );
    let error = plan_rollback(&context, &name, None).await.unwrap_err().in_full();
    assert!(error.contains(&format!("{name}-history")), "{error}");

    // The reason names a base that moves, with both digests.
    let moved = world.push_base("upstream/lambda/base", "v2").await;
    let planned = plan_one(&context, &runtime, false).await;
    let short = |digest: Digest| format!("sha256:{}", digest.short());
    assert_eq!(planned.reason, format!("base moved from {} to {}", short(base), short(moved)));
    // With a lock the base stays, and --locked reports that upstream has moved.
    world.fake.facts.lock().unwrap().locked.insert(runtime.base.clone().unwrap().to_string(), base);
    let planned = plan_one(&context, &runtime, false).await;
    assert_eq!((planned.action, planned.base_moved), (Action::Nothing, None));
    let options = Options { compare: true, ..Options::default() };
    let planned = plan(&context, std::slice::from_ref(&runtime), options).await.remove(0).unwrap();
    assert_eq!((planned.action, planned.base_moved), (Action::Nothing, Some((base, moved))));
}
