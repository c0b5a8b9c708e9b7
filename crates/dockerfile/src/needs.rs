//! What a Dockerfile needs: its base and its entry point, after a check that everything else from elsewhere is pinned.

use registry::Reference;

use super::expand::{Value, expand};
use super::lines::Fault;
use super::stages::{self, External, Found, Root, What};
use super::variables::pairs;
use super::{
    BASE_ARGUMENTS, Base, Dockerfile, DockerfileError, ENTRY_POINT_ARGUMENTS, Given, refuse, unpinned,
};

/// What a Dockerfile does with the build's arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The base.
    pub base: Base,
    /// The line of the base's `FROM`.
    pub base_line: usize,
    /// The argument for the entry point's file, and its default file.
    pub entry_point: Option<(String, Option<String>)>,
    /// Base images of stages, except the base: each is pinned, and its triggers run.
    pub stages: Vec<Reference>,
    /// The indexes of the base's `FROM`s among the instructions.
    pub(super) froms: Vec<usize>,
}

impl Needs {
    /// The assumed needs if there is no Dockerfile to read.
    pub fn assumed(base_argument: Option<String>, entry_point_argument: Option<String>, base: bool) -> Self {
        let argument = |given: Option<String>, known: [&str; 2]| given.unwrap_or_else(|| known[0].to_owned());
        Self {
            base: match base {
                true => Base::Argument(argument(base_argument, BASE_ARGUMENTS)),
                false => Base::Scratch,
            },
            base_line: 1,
            entry_point: Some((argument(entry_point_argument, ENTRY_POINT_ARGUMENTS), None)),
            stages: Vec::new(),
            froms: Vec::new(),
        }
    }
}

/// How base and entry point are passed, after a check that everything else from elsewhere is pinned.
///
/// # Errors
/// The first thing that is not pinned, cannot be built, or is not supported.
pub(super) fn of(file: &Dockerfile, given: &Given<'_>) -> Result<Needs, DockerfileError> {
    let found = follow(file, given)?;
    let refused = |line, reason: String| refuse(&file.path, Fault { line, reason });
    let base = match &found.root {
        Root::Scratch => Base::Scratch,
        Root::Argument(argument) => Base::Argument(argument.clone()),
        Root::Image(image) => {
            let name = image.parse().map_err(|why| refused(found.root_line, format!("{image}: {why}")))?;
            Base::Own(Box::new(name))
        }
    };
    let own = match &base {
        Base::Own(own) => Some(own.as_ref()),
        Base::Scratch | Base::Argument(_) => None,
    };
    if let Some(own) = own
        && own.tag().is_none()
        && own.digest().is_none()
    {
        return Err(refused(found.root_line, format!("the base {own} has neither tag nor digest")));
    }
    let mut stages = Vec::new();
    for outside in &found.outside {
        if let Some(pinned) = pinned(&file.path, outside, own)? {
            stages.push(pinned);
        }
    }
    let is_base = |image: &Option<String>| match (image, own) {
        (Some(image), Some(own)) => image.parse::<Reference>().is_ok_and(|name| name == *own),
        _ => false,
    };
    let froms = found.froms.iter().filter(|(_, image)| is_base(image)).map(|(place, _)| *place).collect();
    let entry_point = entry_point(file, given);
    Ok(Needs { base, base_line: found.root_line, entry_point, stages, froms })
}

/// Everything that a build takes from elsewhere, including the base if the Dockerfile names it itself: for every platform, and for the
/// legacy builder, which has no platform variables.
pub(super) fn follow(file: &Dockerfile, given: &Given<'_>) -> Result<Found, DockerfileError> {
    let mut all: Option<Found> = None;
    for platform in given.platforms.iter().map(Some).chain([None]) {
        let found = match (stages::follow(file, given, platform), platform) {
            (Ok(found), _) => found,
            (Err(fault), Some(_)) => return Err(refuse(&file.path, fault)),
            // The legacy builder rejects it as well.
            (Err(_), None) => continue,
        };
        match &mut all {
            None => all = Some(found),
            Some(all) if all.root == found.root => {
                all.outside.extend(
                    found.outside.into_iter().filter(|new| !all.outside.contains(new)).collect::<Vec<_>>(),
                );
                if all.froms != found.froms {
                    all.froms.retain(|from| found.froms.contains(from));
                }
            }
            Some(all) => {
                let reason = "the base differs between platforms or builders".to_owned();
                return Err(refuse(&file.path, Fault { line: all.root_line, reason }));
            }
        }
    }
    let mut found =
        all.ok_or_else(|| refuse(&file.path, Fault::new(1, "there is no platform to build for")))?;
    found.outside.sort();
    found.outside.dedup();
    Ok(found)
}

/// Rejects what is neither pinned nor the base; returns the image of a stage.
fn pinned(
    path: &str,
    outside: &External,
    base: Option<&Reference>,
) -> Result<Option<Reference>, DockerfileError> {
    let (image, begins) = match &outside.what {
        What::Stage(image) => (image, true),
        What::Image(image) => (image, false),
        What::Address { is_pinned: true, .. } => return Ok(None),
        What::Address { address, .. } => return Err(unpinned(path, outside.line, address)),
    };
    let name = image.parse::<Reference>();
    let name = name.map_err(|why| refuse(path, Fault::new(outside.line, why.to_string())))?;
    if begins && base == Some(&name) {
        return Ok(None);
    }
    match name.digest() {
        Some(_) => Ok(begins.then_some(name)),
        None => Err(unpinned(path, outside.line, image)),
    }
}

/// The argument for the entry point, and its own default.
fn entry_point(file: &Dockerfile, given: &Given<'_>) -> Option<(String, Option<String>)> {
    let declared = |name: &str| {
        let found = file.instructions.iter().filter(|found| found.keyword == "ARG");
        let mut pairs = found.flat_map(|found| pairs(found).unwrap_or_default());
        pairs.find(|(declared, _)| declared == name)
    };
    let (name, default) = match given.entry_point_argument {
        Some(name) => declared(name)?,
        None => ENTRY_POINT_ARGUMENTS.iter().find_map(|name| declared(name))?,
    };
    let default = default.and_then(|text| expand(&text, file.escape, &|_| Value::Unknown).ok());
    Some((name, default))
}

/// Checks the `ONBUILD` triggers of a stage's base image: they run with the build, and are not visible in the Dockerfile.
///
/// # Errors
/// The first trigger that takes something unpinned from elsewhere, or is not supported.
pub fn check_triggers(image: &str, triggers: &[String]) -> Result<(), DockerfileError> {
    let path = format!("{image}, ONBUILD");
    for outside in stages::of_triggers(triggers).map_err(|fault| refuse(&path, fault))? {
        pinned(&path, &outside, None)?;
    }
    Ok(())
}
