//! Reads `[runtimes]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dockerfile::{Base, Dockerfile, Given, Needs};
use registry::{Platform, Reference};

use super::checked;
use crate::reader::{Entry, Fields, Node, Place, word};
use crate::values::{dotted, platforms, reference};
use crate::{DEFAULT_ENTRY_POINT, EntryPoint, Runtime, Sources, names};

const FIELDS: [&str; 11] = [
    "base",
    "entry_point",
    "platforms",
    "enabled",
    "build_args",
    "epoch",
    "dockerfile",
    "context",
    "target",
    "base_argument",
    "entry_point_argument",
];

/// The Dockerfiles read so far. `None` for one with errors, which are reported once.
type Dockerfiles = BTreeMap<PathBuf, Option<Dockerfile>>;

/// A runtime's entry, before it is compared with its Dockerfile.
struct Written<'a> {
    base: Option<Node<'a>>,
    entry_point: Option<Node<'a>>,
    base_argument: Option<Node<'a>>,
    entry_point_argument: Option<Node<'a>>,
    target: Option<String>,
    platforms: Vec<Platform>,
    build_args: BTreeMap<String, String>,
}

/// The runtimes of a file. Without `sources` their files are not read.
pub(super) fn runtimes<'a>(
    table: &Fields<'a>,
    default_platforms: &[Platform],
    sources: Option<&Sources>,
) -> Vec<(Runtime, Place<'a>)> {
    let mut runtimes = Vec::new();
    let mut dockerfiles = Dockerfiles::new();
    for entry in table.entries() {
        if dotted(&entry, &FIELDS) {
            continue;
        }
        let runtime = runtime(&entry, default_platforms, sources, &mut dockerfiles);
        runtimes.extend(runtime.map(|runtime| (runtime, entry.key.clone())));
    }
    runtimes.sort_by_key(|(runtime, _)| runtime.line);
    runtimes
}

fn runtime(
    entry: &Entry<'_>,
    default_platforms: &[Platform],
    sources: Option<&Sources>,
    dockerfiles: &mut Dockerfiles,
) -> Option<Runtime> {
    if let Err(why) = names::runtime(entry.name) {
        entry.key.fail(why);
    }
    let mut written = Written {
        base: None,
        entry_point: None,
        base_argument: None,
        entry_point_argument: None,
        target: None,
        platforms: default_platforms.to_vec(),
        build_args: BTreeMap::new(),
    };
    let (mut enabled, mut epoch, mut files, mut has_own) = (true, None, Some(None), false);
    if entry.value.is_string() {
        written.base = Some(entry.value.clone());
    } else if entry.value.is_table() {
        let mut fields = entry.value.table()?;
        let (dockerfile, context) = (fields.take("dockerfile"), fields.take("context"));
        has_own = dockerfile.is_some() || context.is_some();
        // Only a runtime with its own Dockerfile may omit the base.
        written.base = if has_own { fields.take("base") } else { fields.require("base") };
        written.entry_point = fields.take("entry_point");
        written.base_argument = fields.take("base_argument");
        written.entry_point_argument = fields.take("entry_point_argument");
        written.target = fields.take("target").and_then(|node| node.text()).map(str::to_owned);
        if let Some(given) = fields.take("platforms") {
            written.platforms = platforms(&given).unwrap_or_default();
        }
        enabled = fields.take("enabled").and_then(|node| node.boolean()).unwrap_or(true);
        epoch = fields.take("epoch").and_then(|node| word(&node));
        if let Some(arguments) = fields.table("build_args") {
            written.build_args = arguments_of(&arguments);
        }
        fields.finish();
        if !has_own {
            written.base.as_ref()?;
        }
        files = own_files(dockerfile.as_ref(), context.as_ref(), sources);
    } else {
        return entry.value.expected("a base such as \"public.ecr.aws/lambda/java:21\", or a table with one");
    }
    let given = written.base.as_ref().map(base_of);
    let shared = sources.map(|sources| sources.runtimes.clone()).unwrap_or_default();
    let (context, dockerfile) = files?.unwrap_or_else(|| (shared.clone(), shared.join("Dockerfile")));
    let found = needs(entry, &written, sources, (&context, &dockerfile), dockerfiles)?;
    let (base, base_argument) = match (found.base, given) {
        (Base::Argument(argument), Some(given)) => (given, Some(argument)),
        (Base::Own(own), None) => (Some(*own), None),
        (Base::Own(own), Some(_)) => {
            let place = written.base.as_ref().map_or_else(|| entry.key.clone(), Node::place);
            place.fail_with(
                format!(
                    "the runtime's Dockerfile takes no base: its FROM on line {} names {own}",
                    found.base_line
                ),
                "leave `base` out, or write FROM ${BASE_IMAGE} there; base_argument names another argument",
            );
            return None;
        }
        (Base::Scratch | Base::Argument(_), _) => {
            entry.key.fail("the runtime's Dockerfile has no base (FROM scratch)");
            return None;
        }
    };
    let entry_point = match found.entry_point {
        // The shared Dockerfile may have been edited to take no entry point.
        None if !has_own && written.entry_point_argument.is_none() => Some(None),
        taken => entry_point(entry, &written, sources, &context, taken),
    };
    if let Some(argument) = base_argument.as_ref().filter(|name| written.build_args.contains_key(*name)) {
        entry.key.fail(format!("the argument {argument} takes the base: leave it out of build_args"));
    }
    Some(Runtime {
        name: entry.name.to_owned(),
        base: base?,
        base_argument,
        entry_point: entry_point?,
        context,
        dockerfile,
        target: written.target,
        platforms: written.platforms,
        enabled,
        build_args: written.build_args,
        epoch,
        line: entry.key.line(),
    })
}

/// The base in the entry.
fn base_of(node: &Node<'_>) -> Option<Reference> {
    let base = reference(node)?;
    if base.tag().is_none() && base.digest().is_none() {
        let written = node.string().unwrap_or_default();
        node.fail(format!("the base `{written}` has neither tag nor digest"));
    }
    Some(base)
}

/// Context and Dockerfile. If only one is given, the other is derived from it. `Some(None)` if neither is given.
fn own_files(
    dockerfile: Option<&Node<'_>>,
    context: Option<&Node<'_>>,
    sources: Option<&Sources>,
) -> Option<Option<(PathBuf, PathBuf)>> {
    if dockerfile.is_none() && context.is_none() {
        return Some(None);
    }
    let path = |node: &Node<'_>, is_kind: fn(&Path) -> bool, kind: &str| {
        let text = node.text()?;
        let Some(sources) = sources else { return Some(PathBuf::from(text)) };
        match sources.resolve(text) {
            Ok(path) if is_kind(&path) => Some(path),
            Ok(_) => {
                node.fail(format!("`{text}` is not a {kind}"));
                None
            }
            Err(why) => {
                node.fail_with(why, "the path is from the top of the checkout that contains images.toml");
                None
            }
        }
    };
    let dockerfile = dockerfile.map(|node| path(node, Path::is_file, "file"));
    let context = context.map(|node| path(node, Path::is_dir, "folder"));
    let (dockerfile, context) = match (dockerfile, context) {
        (Some(dockerfile), Some(context)) => (dockerfile?, context?),
        (Some(dockerfile), None) => {
            let dockerfile = dockerfile?;
            let folder = dockerfile.parent().map(Path::to_owned).unwrap_or_default();
            (dockerfile, folder)
        }
        (None, Some(context)) => {
            let context = context?;
            (context.join("Dockerfile"), context)
        }
        (None, None) => return Some(None),
    };
    Some(Some((context, dockerfile)))
}

/// Compares the entry with the arguments of the runtime's Dockerfile.
fn needs(
    entry: &Entry<'_>,
    written: &Written<'_>,
    sources: Option<&Sources>,
    (_, path): (&Path, &Path),
    dockerfiles: &mut Dockerfiles,
) -> Option<Needs> {
    let base_argument = written.base_argument.as_ref().and_then(|node| checked(node, names::argument));
    let entry_point_argument =
        written.entry_point_argument.as_ref().and_then(|node| checked(node, names::argument));
    let Some(sources) = sources else {
        return Some(Needs::assumed(base_argument, entry_point_argument, written.base.is_some()));
    };
    let shown = sources.shown(path);
    if !dockerfiles.contains_key(path) {
        let read = std::fs::read(path).map_err(|why| format!("{shown} cannot be read: {why}"));
        let parsed = read.and_then(|bytes| Dockerfile::parse(&shown, &bytes).map_err(|why| why.to_string()));
        if let Err(why) = &parsed {
            entry.key.fail(why);
        }
        dockerfiles.insert(path.to_owned(), parsed.ok());
    }
    let dockerfile = dockerfiles.get(path)?.as_ref()?;
    let needs = dockerfile.needs(&Given {
        base: written.base.is_some(),
        base_argument: base_argument.as_deref(),
        entry_point_argument: entry_point_argument.as_deref(),
        args: &written.build_args,
        target: written.target.as_deref(),
        platforms: &written.platforms,
    });
    match needs {
        Ok(needs) => Some(needs),
        // Errors in the platforms have been reported already.
        Err(_) if written.platforms.is_empty() => None,
        Err(why) => {
            entry.key.fail(why.to_string());
            None
        }
    }
}

/// The entry point: from the entry, otherwise from the Dockerfile. `Some(None)` if the Dockerfile takes none.
#[expect(clippy::option_option, reason = "none at all, and one that is wrong, which is told")]
fn entry_point(
    entry: &Entry<'_>,
    written: &Written<'_>,
    sources: Option<&Sources>,
    context: &Path,
    taken: Option<(String, Option<String>)>,
) -> Option<Option<EntryPoint>> {
    let node = written.entry_point.as_ref();
    let Some((argument, default)) = taken else {
        if let Some(node) = node.or(written.entry_point_argument.as_ref()) {
            node.fail_with(
                "the runtime's Dockerfile takes no entry point",
                "ARG ENTRY_POINT takes it there, or ARG HTCGRID_LAMBDA_ENTRYPOINT; entry_point_argument names another",
            );
            return None;
        }
        return Some(None);
    };
    let file = match node {
        Some(node) => checked(node, names::file)?,
        None => default.unwrap_or_else(|| DEFAULT_ENTRY_POINT.to_owned()),
    };
    let place = node.map_or_else(|| entry.key.clone(), Node::place);
    if let Some(sources) = sources.filter(|_| !context.join(&file).is_file()) {
        let folder = sources.shown(context);
        place.fail_with(
            format!("{folder}/ has no entry point `{file}`"),
            format!("entry_point names a file in {folder}/"),
        );
        return None;
    }
    Some(Some(EntryPoint { file, argument }))
}

fn arguments_of(table: &Fields<'_>) -> BTreeMap<String, String> {
    let mut arguments = BTreeMap::new();
    for entry in table.entries() {
        if let Err(why) = names::build_arg(entry.name) {
            entry.key.fail(why);
        }
        arguments.extend(entry.value.string().map(|value| (entry.name.to_owned(), value.to_owned())));
    }
    arguments
}
