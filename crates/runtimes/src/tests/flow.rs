//! Plan, build, push, verify, tags, and what follows.

use std::future::Future as _;

use process::Cmd;
use registry::{Digest, Platform};

use super::world::{World, plan_one, run_one, skipped};
use crate::{Action, CompletedAction, Options, Runtime, RuntimeError, State, Why};
use crate::{apply, builds, dated, history, plan, plan_rollback, roll_back, why};

/// A container client that does not exist: whatever needs one fails.
const NONE: &str = "no-such-container-client";

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_pushed_once_and_never_repeated() {
    let Some(world) = World::new("flow").await else { return };
    let base = world.push_base("upstream/lambda/base", "v1").await;
    let runtime = world.runtime();
    let name = runtime.name.clone();

    let context = world.context("docker");
    let (action, outcome) = run_one(&context, &runtime, false).await;
    assert_eq!(action, Action::Build { forced: false });
    let first = outcome.result.unwrap();
    let digest = first.digest.unwrap();
    assert!(first.built && first.moved && first.replaced.is_none());
    assert_eq!(first.base_from.unwrap(), format!("{}/upstream/lambda/base@{base}", world.registry));
    let key = plan_one(&context, &runtime, false).await.key;
    for tag in [format!("{name}-sha256-{}", digest.short()), format!("{name}-k2-{key}"), name.clone()] {
        assert_eq!(world.tag(&tag).await, Some(digest), "{tag}");
    }
    let list = digest.to_string().replace(':', "-");
    assert!(world.tag(&list).await.is_some(), "the list of what is said about it");
    assert_eq!(world.tag_count().await, 5, "the record of its moves beside them, and no stray tag");
    assert!(world.run(&name).starts_with("well: hello\n"));

    // The base's layers have upstream's own bytes.
    let manifest = async |image: &str| world.client.manifest(&image.parse().unwrap()).await.unwrap().unwrap();
    let of_base = manifest(&format!("{}/upstream/lambda/base@{base}", world.registry)).await.image().unwrap();
    let of_build = manifest(&format!("{}/lambda:{name}", world.registry)).await.image().unwrap();
    assert_eq!(of_build.layers[..4], of_base.layers[..]);
    assert_eq!(of_build.layers.len(), 6);

    // Nothing changed: no container client is needed, here or on another machine.
    let without = world.context(NONE);
    assert_eq!(plan_one(&without, &runtime, false).await.action, Action::Nothing);
    assert!(!without.used_docker());

    // The runtime's tag was moved by hand: one PUT moves it back, without a container client.
    let older = world.push_base("lambda", "other").await;
    let other = manifest(&format!("{}/lambda@{older}", world.registry)).await;
    world.client.put_manifest(&world.repository().with_tag(&name).unwrap(), &other).await.unwrap();
    let (action, outcome) = run_one(&without, &runtime, false).await;
    let done = outcome.result.unwrap();
    assert_eq!(action, Action::Promote { digest });
    assert!(done.moved && !done.built && done.replaced == Some(older));
    assert_eq!(world.tag(&name).await, Some(digest));

    // The registry lost the build, this machine still has it: pushed, not built; the same bytes.
    let emptied = World::new("emptied").await.unwrap();
    emptied.fake.facts.lock().unwrap().locked.insert(runtime.base.clone().unwrap().to_string(), base);
    emptied.copy_base(&world, base).await;
    let context = emptied.context("docker");
    let (action, outcome) = run_one(&context, &runtime, false).await;
    assert_eq!((action, outcome.result.unwrap().digest), (Action::Push, Some(digest)));
    let last = emptied.fake.states.lock().unwrap().last().cloned();
    assert_eq!(last, Some(State::Done { how: CompletedAction::Pushed, digest }));
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_rebuilds_holds_and_rollbacks() {
    let Some(world) = World::new("forced").await else { return };
    world.push_base("upstream/lambda/base", "v1").await;
    let runtime = world.runtime();
    let name = runtime.name.clone();
    let context = world.context("docker");
    let mut digests: Vec<Digest> = Vec::new();
    for force in [false, true, true] {
        let (_, outcome) = run_one(&context, &runtime, force).await;
        digests.push(outcome.result.unwrap().digest.unwrap());
    }
    assert!(digests[0] != digests[1] && digests[1] != digests[2], "a forced rebuild gives new content");
    let said: Vec<String> =
        digests.iter().map(|digest| world.run(&format!("{name}-sha256-{}", digest.short()))).collect();
    assert!(said[0] != said[1] && said[1] != said[2], "all three builds still run");

    // Afterwards, an ordinary run moves nothing.
    let without = world.context(NONE);
    assert_eq!(plan_one(&without, &runtime, false).await.action, Action::Nothing);
    assert_eq!(world.tag(&name).await, Some(digests[2]));

    let moves = history(&without, &name).await.unwrap();
    let listed = dated(builds(&without, &name).await.unwrap(), &moves);
    let order: Vec<Digest> = listed.iter().map(|build| build.digest).collect();
    assert_eq!(order, [digests[2], digests[1], digests[0]]);
    assert!(listed[0].is_current && listed[0].is_keyed && !listed[1].is_current && !listed[1].is_keyed);
    let key = plan_one(&without, &runtime, false).await.key;
    assert_eq!(
        (&listed[2].key, &listed[2].base_name),
        (&Some(key.clone()), &Some("upstream.example/lambda/base:1".into()))
    );

    let back = plan_rollback(&without, &name, None).await.unwrap();
    assert_eq!((back.from, back.to), (Some(digests[2]), digests[1]));
    assert!(roll_back(&without, &back).await.unwrap());
    world.fake.facts.lock().unwrap().holds.insert(name.clone(), back.to);
    assert_eq!(plan_one(&without, &runtime, false).await.action, Action::Nothing);
    assert_eq!(world.tag(&name).await, Some(digests[1]));
    assert!(!without.used_docker());

    // A hold also applies after a forced rebuild, whose build gets its own tags.
    let (_, outcome) = run_one(&context, &runtime, true).await;
    let done = outcome.result.unwrap();
    assert!(done.built && !done.moved && done.digest == Some(digests[1]));
    assert_eq!(world.tag(&name).await, Some(digests[1]));
    let newest = world.tag(&format!("{name}-k2-{key}")).await.unwrap();
    assert!(
        !digests.contains(&newest) && done.build_tag == Some(format!("{name}-sha256-{}", newest.short()))
    );

    let named = plan_rollback(&without, &name, Some(&digests[0].short())).await.unwrap();
    assert!(roll_back(&without, &named).await.unwrap() && !roll_back(&without, &named).await.unwrap());
    assert_eq!((named.to, world.tag(&name).await), (digests[0], Some(digests[0])));
    let error = plan_rollback(&without, &name, Some("feedfeed")).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{name} has no build feedfeed; ")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_leaves_the_runtime_unchanged_and_why_names_the_change() {
    let Some(world) = World::new("failed").await else { return };
    let base = world.push_base("upstream/lambda/base", "v1").await;
    let runtime = world.runtime();
    let name = runtime.name.clone();
    let context = world.context("docker");
    assert_eq!(why(&context, &plan_one(&context, &runtime, false).await).await.unwrap(), Why::Absent);
    let digest = run_one(&context, &runtime, false).await.1.result.unwrap().digest;

    // The runtime's tag is moved between plan and apply.
    let mut planned =
        plan(&context, std::slice::from_ref(&runtime), Options { force: true, ..Options::default() })
            .await
            .remove(0)
            .unwrap();
    planned.seen = Some(base);
    let error = apply(&context, vec![planned]).await.remove(0).result.unwrap_err();
    assert!(
        matches!(error, RuntimeError::Moved { expected, found, .. } if expected == Some(base) && found == digest),
        "{error}"
    );
    assert_eq!(world.tag(&name).await, digest);

    // A build that fails.
    std::fs::write(world.files().join("say"), "changed").unwrap();
    let dockerfile = world.files().join("Dockerfile");
    let good = std::fs::read_to_string(&dockerfile).unwrap();
    std::fs::write(&dockerfile, format!("{good}RUN echo the-reason && exit 3\n")).unwrap();
    let planned = plan_one(&context, &runtime, false).await;
    assert_eq!(
        (planned.action, planned.reason.as_str()),
        (Action::Build { forced: false }, "the Dockerfile changed; file say changed")
    );
    let Why::Changes(changes) = why(&context, &planned).await.unwrap() else { panic!() };
    let said: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(said[0], "the Dockerfile changed");
    assert!(said.contains(&"file say changed".to_owned()), "{said:?}");
    let error = apply(&context, vec![planned]).await.remove(0).result.unwrap_err();
    assert!(error.in_full().contains("the-reason"), "{error}");
    assert_eq!(world.tag(&name).await, digest);
    assert!(world.run(&name).starts_with("well: hello"));
    assert_eq!(std::fs::read_dir(&context.scratch).unwrap().count(), 0, "nothing is left on the disk");

    // A run without a container client reports it before anything starts.
    let without = world.context(NONE);
    let failure =
        plan(&without, std::slice::from_ref(&runtime), Options::default()).await.remove(0).unwrap_err();
    assert_eq!(failure.error.to_string(), format!("no container client in PATH (looked for {NONE})"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outdated_cache_is_not_used() {
    let Some(world) = World::new("cache").await else { return };
    let old = world.push_base("ecr-public/lambda/base", "old").await;
    let new = world.push_base("upstream/lambda/base", "new").await;
    assert_ne!(old, new);
    let cached = format!("{}/ecr-public/lambda/base", world.registry);
    world.fake.facts.lock().unwrap().cached = Some(cached.parse().unwrap());
    let context = world.context("docker");
    let runtime = world.runtime();
    let done = run_one(&context, &runtime, false).await.1.result.unwrap();
    assert_eq!(done.base_from.unwrap(), format!("{}/upstream/lambda/base@{new}", world.registry));
    let lines = world.fake.lines.lock().unwrap().clone();
    assert!(lines.contains(&format!("the pull-through cache still has {old} at {cached}:1")), "{lines:?}");

    // The lock has the cache's version: then the cache is used, and the key is another one.
    world.fake.facts.lock().unwrap().locked.insert(runtime.base.clone().unwrap().to_string(), old);
    let (action, outcome) = run_one(&context, &runtime, false).await;
    assert_eq!(action, Action::Build { forced: false });
    assert_eq!(outcome.result.unwrap().base_from.unwrap(), format!("{cached}@{old}"));

    // Back again: already built, so it is only promoted.
    world.fake.facts.lock().unwrap().locked.clear();
    assert!(matches!(plan_one(&world.context(NONE), &runtime, false).await.action, Action::Promote { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_platforms_become_an_index_and_only_running_needs_an_emulator() {
    let Some(world) = World::new("platforms").await else { return };
    let mut runtime = world.runtime();
    (runtime.base, runtime.base_argument) = (None, None);
    runtime.platforms = ["linux/amd64", "linux/arm64"].map(|name| name.parse::<Platform>().unwrap()).to_vec();
    let dockerfile = world.files().join("Dockerfile");
    std::fs::write(&dockerfile, "FROM scratch\nCOPY say /say\n").unwrap();
    let context = world.context("docker");
    let (_, outcome) = run_one(&context, &runtime, false).await;
    let digest = outcome.result.unwrap().digest.unwrap();
    let image = world.repository().with_tag(&runtime.name).unwrap();
    let found = world.client.manifest(&image).await.unwrap().unwrap();
    assert_eq!(found.digest(), digest);
    let platforms: Vec<String> = found
        .index()
        .unwrap()
        .manifests
        .iter()
        .map(|child| child.platform.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    assert_eq!(plan_one(&world.context(NONE), &runtime, false).await.action, Action::Nothing);

    if std::path::Path::new("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists() {
        skipped("a platform without an emulator", "a machine without one for arm64");
        return;
    }
    std::fs::write(&dockerfile, "FROM scratch\nCOPY say /say\nRUN true\n").unwrap();
    let failure =
        plan(&context, std::slice::from_ref(&runtime), Options::default()).await.remove(0).unwrap_err();
    assert!(
        failure.error.to_string().contains("cannot run programs for linux/arm64 here"),
        "{}",
        failure.error
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contributors_build_needs_no_target_registry() {
    let Some(world) = World::new("local").await else { return };
    world.push_base("upstream/lambda/base", "v1").await;
    let runtime = world.runtime();
    let mut context = world.context("docker");
    context.repository = None;
    let (action, outcome) = run_one(&context, &runtime, false).await;
    let done = outcome.result.unwrap();
    assert!(action == Action::Build { forced: false } && done.digest.is_none());
    let local = world.docker.store().image(&format!("lambda:{}", runtime.name)).await.unwrap().unwrap();
    assert_eq!(local, world.docker.store().image(&done.local[0]).await.unwrap().unwrap());
    let commit = Cmd::new("git").args(["rev-parse", "HEAD"]).cwd(env!("CARGO_MANIFEST_DIR")).read();
    assert_eq!(local.labels.get("org.opencontainers.image.revision"), commit.ok().as_ref());
    let planned = plan_one(&context, &runtime, false).await;
    assert_eq!(planned.action, Action::Nothing);
    assert_eq!(why(&context, &planned).await.unwrap(), Why::Changes(Vec::new()));

    // There and back: the first inputs are not built again, and the name follows.
    let say = runtime.context.join("say");
    std::fs::write(&say, "other\n").unwrap();
    assert!(run_one(&context, &runtime, false).await.1.result.unwrap().built);
    let named =
        async || world.docker.store().image(&format!("lambda:{}", runtime.name)).await.unwrap().unwrap();
    assert_ne!(named().await, local);
    std::fs::write(&say, "hello\n").unwrap();
    let (action, outcome) = run_one(&context, &runtime, false).await;
    assert_eq!((action, outcome.result.unwrap().local), (Action::Nothing, done.local));
    assert_eq!(named().await, local);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ends_at_any_point_leaves_the_old_runtime_and_the_next_one_completes() {
    let Some(world) = World::new("ended").await else { return };
    world.push_base("upstream/lambda/base", "v1").await;
    let runtime = world.runtime();
    let name = runtime.name.clone();
    let context = world.context("docker");
    let old = run_one(&context, &runtime, false).await.1.result.unwrap().digest;
    let is_at: [fn(&State) -> bool; 5] = [
        |state| matches!(state, State::Building { .. }),
        |state| matches!(state, State::Packing),
        |state| matches!(state, State::Pushing { .. }),
        |state| matches!(state, State::Verifying),
        |state| matches!(state, State::Tagging),
    ];
    for is_at in is_at {
        world.fake.states.lock().unwrap().clear();
        let planned = plan_one(&context, &runtime, true).await;
        let mut run = std::pin::pin!(apply(&context, vec![planned]));
        // Polled step by step, and dropped as soon as this state is reached.
        let ended = std::future::poll_fn(|cx| {
            let polled = run.as_mut().poll(cx);
            match world.fake.states.lock().unwrap().iter().any(is_at) {
                true => std::task::Poll::Ready(polled.is_pending()),
                false => polled.map(|_| false),
            }
        });
        assert!(ended.await, "it came to its end before it could be stopped");
        assert_eq!(world.tag(&name).await, old);
        assert!(world.run(&name).starts_with("well: hello\n"));
    }
    let new = run_one(&context, &runtime, true).await.1.result.unwrap();
    assert!(new.moved && new.digest != old && new.replaced == old);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_runtimes_are_built_in_parallel_and_share_their_base() {
    let Some(world) = World::new("several").await else { return };
    world.push_base("upstream/lambda/base", "v1").await;
    let runtimes: Vec<Runtime> = (0..3)
        .map(|n| Runtime {
            name: format!("{}-{n}", world.runtime().name),
            args: [("SAY".to_owned(), format!("number {n}"))].into(),
            ..world.runtime()
        })
        .collect();
    let context = world.context("docker");
    let planned = plan(&context, &runtimes, Options::default()).await;
    let outcomes = apply(&context, planned.into_iter().map(Result::unwrap).collect()).await;
    for (n, (outcome, runtime)) in outcomes.iter().zip(&runtimes).enumerate() {
        assert_eq!(outcome.name, runtime.name);
        assert!(outcome.result.as_ref().unwrap().moved);
        assert!(world.run(&runtime.name).starts_with(&format!("number {n} hello")));
    }
    // An argument of one of them changes: only that one is built.
    let mut changed = runtimes;
    changed[1].args.insert("SAY".to_owned(), "other".to_owned());
    let planned = plan(&context, &changed, Options::default()).await;
    let actions: Vec<Action> = planned.into_iter().map(|planned| planned.unwrap().action).collect();
    assert_eq!(actions, [Action::Nothing, Action::Build { forced: false }, Action::Nothing]);
}
