//! BuildKit's `--progress=rawjson`: its own `SolveStatus`, one document per line
//! (<https://pkg.go.dev/github.com/moby/buildkit/client#SolveStatus>), mixed with other lines of the client.

use std::collections::BTreeMap;

use base64::Engine as _;
use process::plain;
use serde::Deserialize;

use super::{Event, Step};

#[derive(Deserialize)]
struct Status {
    vertexes: Option<Vec<Vertex>>,
    logs: Option<Vec<Chunk>>,
    warnings: Option<Vec<Warning>>,
}

#[derive(Deserialize)]
struct Vertex {
    digest: String,
    #[serde(default)]
    name: String,
    started: Option<String>,
    completed: Option<String>,
    #[serde(default)]
    cached: bool,
    #[serde(default)]
    error: String,
}

/// Output of a program: not always whole lines.
#[derive(Deserialize)]
struct Chunk {
    vertex: String,
    data: String,
}

#[derive(Deserialize)]
struct Warning {
    short: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Parser {
    steps: BTreeMap<String, Running>,
}

#[derive(Debug, Default)]
struct Running {
    id: usize,
    began: bool,
    /// When it ended: a step that is first looked up in the cache ends twice.
    completed: Option<String>,
    /// The start of an incomplete line.
    rest: Vec<u8>,
}

impl Parser {
    pub(super) fn line(&mut self, line: &str) -> Vec<Event> {
        let Some(status) = line.starts_with('{').then(|| serde_json::from_str::<Status>(line).ok()).flatten()
        else {
            return vec![Event::Said(line.to_owned())];
        };
        let mut events = Vec::new();
        // Lines before ends: a program's last lines are in the same document as its end.
        let (ends, begins): (Vec<Vertex>, Vec<Vertex>) =
            status.vertexes.into_iter().flatten().partition(|vertex| vertex.completed.is_some());
        for vertex in begins {
            self.vertex(&vertex, &mut events);
        }
        for chunk in status.logs.into_iter().flatten() {
            self.chunk(&chunk, &mut events);
        }
        for vertex in ends {
            self.vertex(&vertex, &mut events);
        }
        for short in status.warnings.into_iter().flatten().filter_map(|warning| warning.short) {
            events
                .push(Event::Said(format!("warning: {}", plain(&String::from_utf8_lossy(&decoded(&short))))));
        }
        events
    }

    fn step(&mut self, digest: &str) -> &mut Running {
        let next = self.steps.len() + 1;
        self.steps.entry(digest.to_owned()).or_insert_with(|| Running { id: next, ..Running::default() })
    }

    fn vertex(&mut self, vertex: &Vertex, events: &mut Vec<Event>) {
        let running = self.step(&vertex.digest);
        let id = running.id;
        if vertex.started.is_none() && vertex.completed.is_none() && !vertex.cached {
            return;
        }
        if !running.began {
            running.began = true;
            events.push(Event::Began { id, step: Step::named(&vertex.name) });
        }
        let has_ended = vertex.completed.is_some() || vertex.cached || !vertex.error.is_empty();
        if !has_ended || running.completed.is_some() && running.completed == vertex.completed {
            return;
        }
        running.completed.clone_from(&vertex.completed);
        if !running.rest.is_empty() {
            let text = text(&std::mem::take(&mut running.rest));
            events.push(Event::Line { id, text });
        }
        events.push(match vertex.error.as_str() {
            "" => Event::Ended { id, cached: vertex.cached },
            error => Event::Failed { id, reason: plain(error).into_owned() },
        });
    }

    fn chunk(&mut self, chunk: &Chunk, events: &mut Vec<Event>) {
        let running = self.step(&chunk.vertex);
        running.rest.extend(decoded(&chunk.data));
        while let Some(end) = running.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = running.rest.drain(..=end).collect();
            events.push(Event::Line { id: running.id, text: text(&line) });
        }
    }
}

/// A line without its line end and without control sequences.
fn text(line: &[u8]) -> String {
    plain(String::from_utf8_lossy(line).trim_end_matches(['\n', '\r'])).into_owned()
}

fn decoded(data: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(data).unwrap_or_default()
}
