//! Finds what a build takes from elsewhere, by following a Dockerfile's stages as docker does.

mod external;

use std::collections::BTreeMap;

use registry::{Platform, Reference};

use super::expand::{Value, expand};
use super::layers::Layer;
use super::lines::{Fault, Instruction, excerpt, instruction};
use super::variables::{OF_THE_BUILDER, Scope, explain, given_or, is_sibling, of_the_target, pairs};
use super::{BASE_ARGUMENTS, Dockerfile, Given};
use external::step;

pub(super) use external::{External, What, sources};

/// Placeholder for the base in an argument while the stages are followed; no registry has such a name.
const PLACEHOLDER: &str = "base-argument.invalid";

/// The base of the built stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Scratch,
    /// The image in this argument.
    Argument(String),
    /// An image by name.
    Image(String),
}

/// The result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) root: Root,
    /// The line of the root's `FROM`.
    pub(super) root_line: usize,
    /// Everything from elsewhere, except a root from an argument.
    pub(super) outside: Vec<External>,
    /// The `FROM` of each stage: its index among the instructions, and the image; `None` for a stage or `scratch`.
    pub(super) froms: Vec<(usize, Option<String>)>,
    /// The instructions that may make a layer of the image.
    pub(super) layers: Vec<Layer>,
}

/// A stage so far.
pub(super) struct Stage {
    name: Option<String>,
    root: Root,
    root_line: usize,
    env: BTreeMap<String, Value>,
    /// `ONBUILD` triggers of its base stage, each with its line.
    inherited: Vec<(usize, String)>,
    /// Its own triggers.
    triggers: Vec<(usize, String)>,
    other_platform: Option<Fault>,
    /// The instructions that may make a layer of its image, the lowest layer first.
    layers: Vec<Layer>,
}

impl Stage {
    pub(super) fn is_called(&self, name: &str) -> bool {
        is_name(&self.name, name)
    }
}

/// Follows the stages up to the built one for `platform`; without one, as the legacy builder does, which has no platform variables. Stages
/// that the built one does not need are followed too: the legacy builder builds them.
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
        file.syntax.iter().map(|(line, image)| External { line: *line, what: What::Image(image.clone()) }),
    );
    let mut scope = Scope::new(given.args, &global);
    for (place, found) in file.instructions.iter().enumerate().skip(first) {
        if found.keyword != "FROM" {
            step(file, found, &stages, &mut scope, &mut outside)?;
            if let Some(stage) = stages.last_mut() {
                stage.env.clone_from(&scope.env);
                stage.layers.extend(Layer::of(found, file, &scope));
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
            outside.push(External { line: found.line, what: What::Stage(image.clone()) });
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
    Ok(Found { root: root.root, root_line: root.root_line, outside, froms, layers: root.layers })
}

/// What an image's `ONBUILD` triggers take from elsewhere.
pub(super) fn of_triggers(triggers: &[String]) -> Result<Vec<External>, Fault> {
    let (file, args) = (Dockerfile::default(), BTreeMap::new());
    let global = |_: &str| Value::Unknown;
    let mut scope = Scope::new(&args, &global);
    let mut outside = Vec::new();
    for (index, trigger) in triggers.iter().enumerate() {
        step(&file, &instruction(trigger, index + 1)?, &[], &mut scope, &mut outside)?;
    }
    Ok(outside)
}

/// Whether this argument may have the base.
fn is_base_argument(name: &str, given: &Given<'_>) -> bool {
    given.base_argument.map_or_else(|| BASE_ARGUMENTS.contains(&name), |chosen| chosen == name)
}

/// The index of the stage to build.
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
    let numbered = || target.parse().ok().filter(|number| *number < names.len());
    names.iter().position(|(_, name)| is_name(name, target)).or_else(numbered).ok_or_else(|| {
        let known = known();
        let known = if known.is_empty() { "none has a name".to_owned() } else { format!("it has {known}") };
        Fault::new(1, format!("it has no stage {target}: {known}"))
    })
}

/// Stage names are not case-sensitive.
pub(super) fn is_name(name: &Option<String>, text: &str) -> bool {
    name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(text))
}

/// The words of a `FROM`: the image as written, and the stage's name.
pub(super) fn from_words(found: &Instruction) -> Result<(String, Option<String>), Fault> {
    let words: Vec<&str> = found.rest.split_whitespace().collect();
    match words[..] {
        [image] => Ok((image.to_owned(), None)),
        [image, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
            Ok((image.to_owned(), Some(name.to_ascii_lowercase())))
        }
        _ => Err(Fault::new(found.line, "FROM needs an image and can name a stage: FROM image [AS name]")),
    }
}

/// A new stage, and its base image if it has one.
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
        let stage = Stage {
            name,
            root,
            root_line,
            env,
            inherited,
            triggers: Vec::new(),
            other_platform: other,
            layers: base.layers.clone(),
        };
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
        layers: Vec::new(),
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

/// The error if a `FROM` would give the built stage another platform than the requested one.
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
