//! AWS's published service models, and calls that are checked against them.
//!
//! The models are those of botocore (<https://github.com/boto/botocore/tree/develop/botocore/data>).
//! The emulated AWS writes down what it is asked and what it answers (`local-aws serve --traffic FILE`); [`Models::check`] says
//! where either departs from what AWS publishes: operations, members, types, lengths, patterns, enumerations, headers, XML
//! elements, error codes and their status. The models are read from where `cargo xtask test` installs them; nothing here knows
//! the emulator.

mod answer;
mod common;
mod form;
mod model;
mod request;
mod rest;
mod value;
mod xml;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::Value;

use model::Service;
use value::Patterns;

/// One request and its answer, as a line of the emulator's log has it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Exchange {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The request's headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The request's body; none where it is an object's content.
    pub body: Option<String>,
    /// The answer's status.
    pub status: u16,
    /// The answer's headers, names in lower case.
    pub answer_headers: Vec<(String, String)>,
    /// The answer's body; none where it is an object's content.
    pub answer_body: Option<String>,
}

impl Exchange {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn answer_header(&self, name: &str) -> Option<&str> {
        self.answer_headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What says who asks: `aws-sdk-rust/1.3.10`, `APN/1.0`, `aws-cli/1.44`; a dash where nobody says it.
    #[must_use]
    pub fn caller(&self) -> &str {
        self.header("user-agent").and_then(|agent| agent.split_whitespace().next()).unwrap_or("-")
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn query(&self) -> Vec<(String, String)> {
        let text = self.target.split_once('?').map_or("", |(_, query)| query);
        url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
    }
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The caller's.
    Request,
    /// The emulator's.
    Answer,
}

/// One departure from the model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mismatch {
    /// `ecr CreateRepository`
    pub operation: String,
    /// Whose it is.
    pub side: Side,
    /// What is wrong, with the member's place.
    pub problem: String,
    /// Who asked.
    pub caller: String,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = if self.side == Side::Request { "request" } else { "answer" };
        write!(f, "{}, {side}: {} (asked by {})", self.operation, self.problem, self.caller)
    }
}

/// An operation with its input, as a client library takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The service by the name of its directory: `ecr`, `s3`.
    pub service: String,
    /// `CreateRepository`
    pub operation: String,
    /// The members of the input.
    pub input: Value,
}

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No such file, or one that cannot be read.
    #[error("no model of {0}")]
    Missing(String, #[source] io::Error),
    /// The file is no model.
    #[error("the model of {0} cannot be read")]
    Malformed(String, #[source] serde_json::Error),
}

/// The models of one botocore.
#[derive(Debug)]
pub struct Models {
    data: PathBuf,
    services: Mutex<HashMap<String, Arc<Service>>>,
    patterns: Patterns,
}

impl Models {
    /// The models that `cargo xtask test` installs below cargo's target directory.
    #[must_use]
    pub fn installed(target: &Path) -> Option<Self> {
        let versions = target.join("python/lib").read_dir().ok()?;
        let mut places = versions.filter_map(|version| {
            Some(version.ok()?.path().join("site-packages/botocore/data")).filter(|data| data.is_dir())
        });
        places.next().map(Self::at)
    }

    /// The models in a directory laid out as botocore's.
    #[must_use]
    pub fn at(data: PathBuf) -> Self {
        Self { data, services: Mutex::default(), patterns: Patterns::default() }
    }

    /// Where a request or its answer departs from the models.
    ///
    /// # Errors
    /// A model is missing or cannot be read.
    pub fn check(&self, exchange: &Exchange) -> Result<Vec<Mismatch>, ModelError> {
        let mut found = Vec::new();
        let mut note = |operation: String, side, problems: Vec<String>| {
            let caller = exchange.caller().to_owned();
            found.extend(problems.into_iter().map(|problem| Mismatch {
                operation: operation.clone(),
                side,
                problem,
                caller: caller.clone(),
            }));
        };
        let Some(name) = request::service(exchange) else {
            let what = format!("{} {}", exchange.method, exchange.path());
            note(what, Side::Request, vec!["of no service that there is a model of".to_owned()]);
            return Ok(found);
        };
        let service = self.service(&name)?;
        match request::decode(&service, exchange) {
            Err(problem) => {
                note(format!("{name} {} {}", exchange.method, exchange.path()), Side::Request, vec![problem]);
            }
            Ok(request) => {
                let operation = format!("{name} {}", request.operation.name);
                let asked = request::check(&service, &self.patterns, exchange, &request);
                note(operation.clone(), Side::Request, asked);
                let answered = answer::check(&service, &self.patterns, exchange, request.operation);
                note(operation, Side::Answer, answered);
            }
        }
        Ok(found)
    }

    /// The operation that a request is for, with its input.
    ///
    /// # Errors
    /// A model is missing, or it has no such operation.
    pub fn call(&self, exchange: &Exchange) -> Result<Result<Call, String>, ModelError> {
        let Some(name) = request::service(exchange) else { return Ok(Err("of no service".to_owned())) };
        let service = self.service(&name)?;
        Ok(request::decode(&service, exchange).map(|request| Call {
            service: name,
            operation: request.operation.name.clone(),
            input: request.input,
        }))
    }

    /// The parameter of a service's operation, or the member of its output, that a header of this name is.
    ///
    /// # Errors
    /// A model is missing.
    pub fn member_of_header(
        &self,
        service: &str,
        operation: &str,
        header: &str,
    ) -> Result<Option<String>, ModelError> {
        let service = self.service(service)?;
        let output = service.operations.get(operation).and_then(|known| known.output.as_ref());
        let members = output.and_then(|output| service.shapes.get(&output.shape)).map(|shape| &shape.members);
        let of_header = |member: &model::Ref| {
            let name = member.location_name.as_deref().unwrap_or_default();
            member.location.as_deref() == Some("header") && name.eq_ignore_ascii_case(header)
        };
        let found = members.into_iter().flatten().find(|(_, member)| of_header(member));
        Ok(found.map(|(name, _)| name.clone()))
    }

    fn service(&self, name: &str) -> Result<Arc<Service>, ModelError> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(service) = services.get(name) {
            return Ok(Arc::clone(service));
        }
        let missing = |error| ModelError::Missing(name.to_owned(), error);
        let text = read(&self.data.join(name)).map_err(missing)?;
        let service: Service =
            serde_json::from_slice(&text).map_err(|error| ModelError::Malformed(name.to_owned(), error))?;
        let service = Arc::new(service);
        services.insert(name.to_owned(), Arc::clone(&service));
        Ok(service)
    }
}

/// The model in the directory of its latest version.
fn read(directory: &Path) -> io::Result<Vec<u8>> {
    let versions = directory.read_dir()?.filter_map(Result::ok).map(|entry| entry.path());
    let latest = versions.filter(|path| path.is_dir()).max();
    let latest = latest.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    if let Ok(text) = std::fs::read(latest.join("service-2.json")) {
        return Ok(text);
    }
    let mut text = Vec::new();
    let file = std::fs::File::open(latest.join("service-2.json.gz"))?;
    flate2::read::GzDecoder::new(file).read_to_end(&mut text)?;
    Ok(text)
}

/// What was held against the models: calls by who made them, and what is wrong.
#[derive(Debug, Default)]
pub struct Checked {
    /// Calls, by the first word of who asked.
    pub callers: BTreeMap<String, u64>,
    /// Departures with how often each was seen.
    pub mismatches: BTreeMap<Mismatch, u64>,
}

impl Checked {
    /// All exchanges of a log, one JSON document a line. A line that is cut off, because its server was killed, is none.
    ///
    /// # Errors
    /// A model is missing.
    pub fn log(models: &Models, text: &str) -> Result<Self, ModelError> {
        let mut checked = Self::default();
        for line in text.lines() {
            let Ok(exchange) = serde_json::from_str::<Exchange>(line) else { continue };
            *checked.callers.entry(exchange.caller().to_owned()).or_default() += 1;
            for mismatch in models.check(&exchange)? {
                *checked.mismatches.entry(mismatch).or_default() += 1;
            }
        }
        Ok(checked)
    }

    /// The departures of one side or of both, one a line.
    #[must_use]
    pub fn text(&self, only: Option<Side>) -> String {
        let wanted =
            self.mismatches.iter().filter(|(mismatch, _)| only.is_none_or(|side| side == mismatch.side));
        wanted.map(|(mismatch, times)| format!("{times} x {mismatch}\n")).collect()
    }
}
