//! What a build takes from elsewhere, found by following a Dockerfile's stages as docker does.

use std::collections::BTreeMap;

use registry::{Platform, Reference};

use super::expand::{Stuck, Value, expand};
use super::lines::{self, Fault, Instruction, excerpt, instruction};
use super::{BASE_ARGUMENTS, Dockerfile, Given};

/// Stands for the base in an argument while the stages are followed; no registry has such a name.
const PLACEHOLDER: &str = "base-argument.invalid";

/// Variables of BuildKit that name the machine which builds: no part of a key.
const OF_THE_BUILDER: [&str; 5] = ["BUILDPLATFORM", "BUILDOS", "BUILDOSVERSION", "BUILDARCH", "BUILDVARIANT"];

/// Something that a build takes from outside of its Dockerfile and context.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Outside {
    /// The line of the instruction, from 1.
    pub(super) line: usize,
    /// What it is.
    pub(super) what: What,
}

/// A kind of thing from outside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// An image that a stage begins with: its `ONBUILD` triggers run.
    Stage(String),
    /// An image that files are taken from, or the one of `# syntax=`.
    Image(String),
    /// An address of `ADD`.
    Address {
        /// The address.
        address: String,
        /// Whether a checksum or a commit pins it.
        is_pinned: bool,
    },
}

/// What the built stage begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Scratch,
    /// The image that this argument names.
    Argument(String),
    /// An image by its name.
    Image(String),
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) root: Root,
    /// The line of the root's `FROM`.
    pub(super) root_line: usize,
    /// Everything but the root that an argument names.
    pub(super) outside: Vec<Outside>,
    /// The `FROM` of each stage that is built: its place among the instructions, and the image; none for a stage or `scratch`.
    pub(super) froms: Vec<(usize, Option<String>)>,
}

/// A stage so far.
struct Stage {
    name: Option<String>,
    root: Root,
    root_line: usize,
    env: BTreeMap<String, Value>,
    /// `ONBUILD` triggers of the stage that this one begins with, each with its line.
    inherited: Vec<(usize, String)>,
    /// Its own.
    triggers: Vec<(usize, String)>,
    other_platform: Option<Fault>,
}

impl Stage {
    fn is_called(&self, name: &str) -> bool {
        is_name(&self.name, name)
    }
}

/// Variables that a stage's instructions see.
struct Scope<'a> {
    arguments: BTreeMap<String, Value>,
    env: BTreeMap<String, Value>,
    /// What `ARG NAME` alone inherits.
    global: &'a dyn Fn(&str) -> Value,
    given: &'a BTreeMap<String, String>,
}

impl Scope<'_> {
    fn lookup(&self, name: &str) -> Value {
        let known = self.env.get(name).or_else(|| self.arguments.get(name));
        // What nobody sets here may be a variable of the base.
        known.cloned().unwrap_or(Value::Unknown)
    }
}

/// Follows the stages up to the built one for `platform`; without one, as the legacy builder does, which has no variables for
/// the platform. Stages that the built one does not need are followed too: the legacy builder builds them.
pub(super) fn follow(
    file: &Dockerfile,
    given: &Given<'_>,
    platform: Option<&Platform>,
) -> Result<Found, Fault> {
    let first = file.instructions.iter().position(|found| found.keyword == "FROM");
    let first = first.ok_or_else(|| Fault::new(1, "it has no FROM"))?;
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    let declared = |known: &BTreeMap<String, Value>, name: &str| match (known.get(name), platform) {
        (Some(value), _) => value.clone(),
        (None, Some(_)) if OF_THE_BUILDER.contains(&name) => given_or(name, given, Value::Unknown),
        (None, platform) => match platform.and_then(|platform| of_the_target(name, platform, given)) {
            Some(value) => given_or(name, given, Value::Known(value)),
            None => Value::Unset,
        },
    };
    for found in &file.instructions[..first] {
        if found.keyword != "ARG" {
            return Err(Fault::new(found.line, format!("{} is before the first FROM", found.keyword)));
        }
        let all = pairs(found)?;
        for (name, default) in all.clone() {
            let value = match (given.args.get(&name), default) {
                _ if given.base && is_base_argument(&name, given) => {
                    Value::Known(format!("{PLACEHOLDER}/{name}"))
                }
                (Some(value), _) => Value::Known(value.clone()),
                (None, Some(default)) => {
                    let value =
                        expand(&default, file.escape, &|other| match is_sibling(other, &name, &all) {
                            true => Value::Unknown,
                            false => declared(&known, other),
                        });
                    Value::Known(value.map_err(|stuck| explain(&stuck, found.line))?)
                }
                (None, None) => continue,
            };
            known.insert(name, value);
        }
    }
    let global = |name: &str| declared(&known, name);
    let built = built_stage(file, given)?;

    let mut stages: Vec<Stage> = Vec::new();
    let (mut outside, mut froms) = (Vec::new(), Vec::new());
    outside.extend(
        file.syntax.iter().map(|(line, image)| Outside { line: *line, what: What::Image(image.clone()) }),
    );
    let mut scope =
        Scope { arguments: BTreeMap::new(), env: BTreeMap::new(), global: &global, given: given.args };
    for (place, found) in file.instructions.iter().enumerate().skip(first) {
        if found.keyword != "FROM" {
            step(file, found, &stages, &mut scope, &mut outside)?;
            if let Some(stage) = stages.last_mut() {
                stage.env.clone_from(&scope.env);
                if found.keyword == "ONBUILD" {
                    stage.triggers.push((found.line, found.rest.clone()));
                }
            }
            continue;
        }
        if stages.len() > built {
            break;
        }
        let (stage, image) = from(file, found, &stages, &global, platform)?;
        scope.arguments = BTreeMap::new();
        scope.env.clone_from(&stage.env);
        if let Some(image) = &image
            && stage.root == Root::Image(image.clone())
        {
            outside.push(Outside { line: found.line, what: What::Stage(image.clone()) });
        }
        froms.push((place, image));
        let inherited = stage.inherited.clone();
        stages.push(stage);
        for (line, trigger) in inherited {
            step(file, &instruction(&trigger, line)?, &stages, &mut scope, &mut outside)?;
        }
    }
    let root = stages.pop().ok_or_else(|| Fault::new(1, "it has no FROM"))?;
    if let Some(fault) = root.other_platform {
        return Err(fault);
    }
    Ok(Found { root: root.root, root_line: root.root_line, outside, froms })
}

/// What an image's `ONBUILD` triggers take from elsewhere.
pub(super) fn of_triggers(triggers: &[String]) -> Result<Vec<Outside>, Fault> {
    let (file, args) = (Dockerfile::empty(), BTreeMap::new());
    let global = |_: &str| Value::Unknown;
    let mut scope = Scope { arguments: BTreeMap::new(), env: BTreeMap::new(), global: &global, given: &args };
    let mut outside = Vec::new();
    for (index, trigger) in triggers.iter().enumerate() {
        step(&file, &instruction(trigger, index + 1)?, &[], &mut scope, &mut outside)?;
    }
    Ok(outside)
}

/// An argument takes the place of one of BuildKit's own variables.
fn given_or(name: &str, given: &Given<'_>, value: Value) -> Value {
    given.args.get(name).map_or(value, |given| Value::Known(given.clone()))
}

/// Whether a variable is set by the same instruction: builders disagree on which of its values counts there.
fn is_sibling(name: &str, own: &str, all: &[(String, Option<String>)]) -> bool {
    name != own && all.iter().any(|(other, _)| other == name)
}

/// The variables of BuildKit that name what is built.
fn of_the_target(name: &str, platform: &Platform, given: &Given<'_>) -> Option<String> {
    Some(match name {
        "TARGETPLATFORM" => platform.to_string(),
        "TARGETOS" => platform.os.clone(),
        "TARGETARCH" => platform.architecture.clone(),
        "TARGETVARIANT" => platform.variant.clone().unwrap_or_default(),
        "TARGETSTAGE" => given.target.unwrap_or("default").to_owned(),
        "TARGETOSVERSION" => String::new(),
        _ => return None,
    })
}

/// The names of arguments that a base may be given by.
fn is_base_argument(name: &str, given: &Given<'_>) -> bool {
    given.base_argument.map_or_else(|| BASE_ARGUMENTS.contains(&name), |chosen| chosen == name)
}

/// The number of the stage that is built.
fn built_stage(file: &Dockerfile, given: &Given<'_>) -> Result<usize, Fault> {
    let names: Vec<(usize, Option<String>)> = file
        .instructions
        .iter()
        .filter(|found| found.keyword == "FROM")
        .map(|found| Ok((found.line, from_words(found)?.1)))
        .collect::<Result<_, Fault>>()?;
    for (at, (line, name)) in names.iter().enumerate() {
        if let Some(name) = name
            && names[..at].iter().any(|(_, other)| is_name(other, name))
        {
            return Err(Fault::new(*line, format!("two stages are called {name}")));
        }
    }
    let Some(target) = given.target else { return Ok(names.len() - 1) };
    let known = || names.iter().filter_map(|(_, name)| name.clone()).collect::<Vec<_>>().join(", ");
    names.iter().position(|(_, name)| is_name(name, target)).ok_or_else(|| {
        let known = known();
        let known = if known.is_empty() { "none has a name".to_owned() } else { format!("it has {known}") };
        Fault::new(1, format!("it has no stage {target}: {known}"))
    })
}

/// Stages are called alike whatever the size of the letters.
fn is_name(name: &Option<String>, text: &str) -> bool {
    name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(text))
}

/// The words of a `FROM`: the image as written, and the stage's name.
fn from_words(found: &Instruction) -> Result<(String, Option<String>), Fault> {
    let words: Vec<&str> = found.rest.split_whitespace().collect();
    match words[..] {
        [image] => Ok((image.to_owned(), None)),
        [image, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
            Ok((image.to_owned(), Some(name.to_ascii_lowercase())))
        }
        _ => Err(Fault::new(found.line, "FROM needs an image and can name a stage: FROM image [AS name]")),
    }
}

/// A new stage, and its image where it begins with one.
fn from(
    file: &Dockerfile,
    found: &Instruction,
    stages: &[Stage],
    global: &dyn Fn(&str) -> Value,
    platform: Option<&Platform>,
) -> Result<(Stage, Option<String>), Fault> {
    let line = found.line;
    let (written, name) = from_words(found)?;
    let image = expand(&written, file.escape, global).map_err(|stuck| explain(&stuck, line))?;
    if image.is_empty() {
        return Err(Fault::new(line, format!("{written} has no value")));
    }
    let is_it = |stage: &&Stage| stage.is_called(&image);
    if let Some(base) = stages.iter().find(is_it) {
        let (root, env, other) = (base.root.clone(), base.env.clone(), base.other_platform.clone());
        let (root_line, inherited) = (base.root_line, base.triggers.clone());
        let stage =
            Stage { name, root, root_line, env, inherited, triggers: Vec::new(), other_platform: other };
        return Ok((stage, None));
    }
    let other_platform = other_platform(file, found, global, platform);
    let begun = |root| Stage {
        name,
        root,
        root_line: line,
        env: BTreeMap::new(),
        inherited: Vec::new(),
        triggers: Vec::new(),
        other_platform,
    };
    if image == "scratch" {
        return Ok((begun(Root::Scratch), None));
    }
    match image.strip_prefix(PLACEHOLDER) {
        Some(argument) if !argument.contains([':', '@', '.']) && !argument[1..].contains('/') => {
            return Ok((begun(Root::Argument(argument[1..].to_owned())), None));
        }
        None if !image.contains(PLACEHOLDER) => {}
        _ => {
            let reason =
                format!("the base is the whole value of its argument: FROM ${{NAME}}, not {written}");
            return Err(Fault::new(line, reason));
        }
    }
    if let Err(why) = image.parse::<Reference>() {
        return Err(Fault::new(line, format!("{}: {why}", excerpt(&written))));
    }
    Ok((begun(Root::Image(image.clone())), Some(image)))
}

/// Why a `FROM` that begins the built stage would give another platform than the one that is built.
fn other_platform(
    file: &Dockerfile,
    found: &Instruction,
    global: &dyn Fn(&str) -> Value,
    platform: Option<&Platform>,
) -> Option<Fault> {
    let word = found.flags.iter().find_map(|flag| flag.strip_prefix("--platform="))?;
    let platform = platform?;
    let fault = |reason: String| Some(Fault::new(found.line, reason));
    match expand(word, file.escape, global) {
        Err(stuck) => Some(explain(&stuck, found.line)),
        Ok(text) if text.is_empty() => None,
        Ok(text) => match text.parse::<Platform>() {
            Ok(named) if named.matches(platform) => None,
            Ok(_) => fault(format!("--platform={word} is not the platform that is built, {platform}")),
            Err(why) => fault(why.to_string()),
        },
    }
}

/// What one instruction of a stage takes from elsewhere, and what it says of variables.
fn step(
    file: &Dockerfile,
    found: &Instruction,
    stages: &[Stage],
    scope: &mut Scope<'_>,
    outside: &mut Vec<Outside>,
) -> Result<(), Fault> {
    let line = found.line;
    let mut image = |name: &str| -> Result<(), Fault> {
        if let Some(name) = from_elsewhere(name, file, stages, line)? {
            outside.push(Outside { line, what: What::Image(name) });
        }
        Ok(())
    };
    match found.keyword.as_str() {
        "ARG" => {
            let all = pairs(found)?;
            for (name, default) in all.clone() {
                let lookup = |other: &str| match is_sibling(other, &name, &all) {
                    true => Value::Unknown,
                    false => scope.lookup(other),
                };
                let value = match (scope.given.get(&name), default) {
                    (Some(value), _) => Value::Known(value.clone()),
                    (None, Some(default)) => value(&default, file, &lookup, line)?,
                    (None, None) => match (scope.global)(&name) {
                        // Nothing is given: the base's own variable of that name shows through.
                        Value::Unset => Value::Unknown,
                        other => other,
                    },
                };
                scope.arguments.insert(name, value);
            }
        }
        "ENV" => {
            // All values of one instruction see the variables as they were before it.
            let set = |(name, text): (String, Option<String>)| {
                let value = value(&text.unwrap_or_default(), file, &|name| scope.lookup(name), line)?;
                Ok((name, value))
            };
            let set = pairs(found)?.into_iter().map(set).collect::<Result<Vec<_>, Fault>>()?;
            scope.env.extend(set);
        }
        "COPY" => {
            for flag in &found.flags {
                if let Some(name) = flag.strip_prefix("--from=") {
                    image(name)?;
                }
            }
        }
        "RUN" => {
            for mount in found.flags.iter().filter_map(|flag| flag.strip_prefix("--mount=")) {
                if mount.contains('"') {
                    return Err(Fault::new(line, "quotes in --mount are not supported"));
                }
                for option in mount.split(',') {
                    if let Some((key, name)) = option.split_once('=')
                        && key.trim().eq_ignore_ascii_case("from")
                    {
                        image(name)?;
                    }
                }
            }
        }
        "ADD" => add(file, found, scope, outside)?,
        // An entry point, a label and the like take nothing from anywhere; `ONBUILD` waits for a build upon this one.
        "CMD" | "ENTRYPOINT" | "EXPOSE" | "HEALTHCHECK" | "LABEL" | "MAINTAINER" | "ONBUILD" | "SHELL"
        | "STOPSIGNAL" | "USER" | "VOLUME" | "WORKDIR" => {}
        other => return Err(Fault::new(line, format!("`{}` is no instruction", excerpt(other)))),
    }
    Ok(())
}

/// The image of `--from=NAME`; none where it is an earlier stage.
fn from_elsewhere(
    name: &str,
    file: &Dockerfile,
    stages: &[Stage],
    line: usize,
) -> Result<Option<String>, Fault> {
    if name.contains('$') {
        let reason = format!(
            "docker expands no variable in from={name}: name a stage, FROM {name} AS ..., and take that"
        );
        return Err(Fault::new(line, reason));
    }
    // The last one is the stage that the instruction stands in.
    let earlier = stages.split_last().map_or(stages, |(_, earlier)| earlier);
    if name == "scratch" || earlier.iter().any(|stage| stage.is_called(name)) {
        return Ok(None);
    }
    let mut all = file.instructions.iter().filter(|found| found.keyword == "FROM");
    let is_it = |found: &Instruction| from_words(found).is_ok_and(|(_, other)| is_name(&other, name));
    if all.any(is_it) {
        let reason = format!("stage {name} comes later: the legacy builder would take an image of that name");
        return Err(Fault::new(line, reason));
    }
    match name.parse::<usize>() {
        Ok(number) if number < earlier.len() => Ok(None),
        Ok(number) => Err(Fault::new(line, format!("from={number}: there is no such stage before this one"))),
        Err(_) => Ok(Some(name.to_owned())),
    }
}

/// The sources of an `ADD` that are addresses.
fn add(
    file: &Dockerfile,
    found: &Instruction,
    scope: &Scope<'_>,
    outside: &mut Vec<Outside>,
) -> Result<(), Fault> {
    let line = found.line;
    let lookup = |name: &str| scope.lookup(name);
    for word in sources(found) {
        let address = expand(&word, file.escape, &lookup).map_err(|stuck| explain(&stuck, line))?;
        if !is_address(&address) {
            continue;
        }
        let checksum = found.flags.iter().find_map(|flag| flag.strip_prefix("--checksum="));
        let checksum = checksum.map(|text| expand(text, file.escape, &lookup)).transpose();
        let checksum = checksum.map_err(|stuck| explain(&stuck, line))?;
        let is_pinned = is_commit(&address)
            || checksum.is_some_and(|sum| sum.parse::<registry::Digest>().is_ok() || is_hash(&sum));
        outside.push(Outside { line, what: What::Address { address, is_pinned } });
    }
    Ok(())
}

/// The sources of a `COPY` or `ADD` as written, here-documents left out.
pub(super) fn sources(found: &Instruction) -> Vec<String> {
    let mut words: Vec<String> = serde_json::from_str(&found.rest)
        .unwrap_or_else(|_| found.rest.split_whitespace().map(str::to_owned).collect());
    words.pop();
    words.retain(|word| !lines::is_heredoc(word));
    words
}

/// What docker fetches: `http://`, `https://`, `git://`, `ssh://`, and git's `user@host:path`.
fn is_address(source: &str) -> bool {
    let scheme = source.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    let git = source.split_once(':').is_some_and(|(host, _)| host.contains('@') && !host.contains('/'));
    scheme || git
}

/// Whether an address names a commit of a git repository: `...#<commit>[:directory]`.
fn is_commit(address: &str) -> bool {
    address
        .split_once('#')
        .is_some_and(|(_, fragment)| is_hash(fragment.split(':').next().unwrap_or_default()))
}

/// A whole SHA-1 or SHA-256 in hexadecimal.
fn is_hash(text: &str) -> bool {
    [40, 64].contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The value of a word, which may be that nobody knows it: that matters only where it is used.
fn value(word: &str, file: &Dockerfile, lookup: &dyn Fn(&str) -> Value, line: usize) -> Result<Value, Fault> {
    match expand(word, file.escape, lookup) {
        Ok(value) => Ok(Value::Known(value)),
        Err(Stuck::Variable(_)) => Ok(Value::Unknown),
        // A form that newer builders know: a value that is used nowhere may have it.
        Err(Stuck::Form(_)) if !word.contains(['\'', '"']) => Ok(Value::Unknown),
        Err(stuck) => Err(explain(&stuck, line)),
    }
}

/// The names and values of `ARG` and `ENV`: `NAME`, `NAME=value ...`, and the old `ENV NAME value`.
pub(super) fn pairs(found: &Instruction) -> Result<Vec<(String, Option<String>)>, Fault> {
    let Some(words) = lines::words(&found.rest) else {
        return Err(Fault::new(found.line, "a quote has no end"));
    };
    if found.keyword == "ENV" && words.first().is_some_and(|word| !word.contains('=')) {
        let (name, text) = found.rest.split_once(char::is_whitespace).unwrap_or((&found.rest, ""));
        return Ok(vec![(name.to_owned(), Some(text.trim().to_owned()))]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (word, None),
    };
    Ok(words.into_iter().map(pair).collect())
}

fn explain(stuck: &Stuck, line: usize) -> Fault {
    match stuck {
        Stuck::Variable(name) if OF_THE_BUILDER.contains(&name.as_str()) => Fault::new(
            line,
            format!("{name} differs between build machines and is not part of the build key"),
        ),
        Stuck::Variable(name) => Fault::new(
            line,
            format!("the value of {name} is not known before the build: declare it with ARG"),
        ),
        Stuck::Form(word) => Fault::new(line, format!("`{}` is not understood", excerpt(word))),
    }
}
