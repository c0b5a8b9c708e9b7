//! Writes the content of a JSON into an images.toml by position, so that everything else stays unchanged.

use std::ops::Range;

use super::{Copy, Wanted};
use crate::RUNTIMES_REPOSITORY;
use crate::problem::{Sink, key_part, quoted};
use crate::reader::{Entry, Fields, document};

/// Replacements by position.
struct Edits<'t> {
    text: &'t str,
    edits: Vec<(Range<usize>, String)>,
}

/// The template with the images, repositories and options of `wanted`. `None` if it is not an images.toml.
pub(super) fn fill(template: &str, wanted: &Wanted) -> Option<String> {
    let sink = Sink::new(template);
    let parsed = document(template, &sink)?;
    let mut root = Fields::root(&parsed, &sink);
    let mut edits = Edits { text: template, edits: Vec::new() };

    let images = root.table("images")?;
    edits.replace_entries(&images, &image_lines(&wanted.images));
    let mut repositories = root.table("repositories")?;
    edits.set(&mut repositories, "extra", &list(&wanted.extra));
    if let Some(mut kms) = root.table("kms") {
        if let Some(days) = wanted.deletion_window {
            edits.set(&mut kms, "deletion_window", &days.to_string());
        }
        if let Some(roles) = &wanted.admin_roles {
            edits.set(&mut kms, "admin_roles", &list(roles));
        }
    }
    if let Some(runtime) = &wanted.lambda_runtime
        && let Some(prime) = root.take("prime")
    {
        let image = format!("ecr-public/sam/build-{runtime}:1");
        edits.edits.push((prime.place().range(), list(&[image])));
    }
    let copied = |tag: &str| {
        wanted.images.iter().any(|copy| copy.repository == RUNTIMES_REPOSITORY && copy.tag == tag)
    };
    for entry in root.table("runtimes").map(|table| table.entries()).unwrap_or_default() {
        if copied(entry.name) {
            edits.switch_off(&entry, &format!("`{}` is among the images above.", entry.name));
        } else if let Some(runtimes) = &wanted.dockerfile {
            match runtimes.entry(&entry) {
                Some(value) => edits.edits.push((entry.value.place().range(), value)),
                None => edits.switch_off(&entry, "Not one of HTC-Grid's four runtimes: disabled."),
            }
        }
    }
    if !wanted.notes.is_empty() {
        let notes: String = wanted.notes.iter().map(|note| format!("# {note}.\n")).collect();
        edits.edits.push((0..0, format!("# From images_config.json, where\n{notes}\n")));
    }
    edits.apply()
}

fn image_lines(images: &[Copy]) -> String {
    let mut lines = String::new();
    for copy in images {
        let shared = images.iter().filter(|other| other.repository == copy.repository).count() > 1;
        let key = match shared || copy.explicit {
            true => format!("{}:{}", copy.repository, copy.tag),
            false => copy.repository.clone(),
        };
        if copy.source.starts_with("k8s.gcr.io/") {
            lines.push_str(
                "# k8s.gcr.io has had no new images since April 2023; registry.k8s.io has the same images.\n",
            );
        }
        lines.push_str(&format!("{} = {}\n", key_part(&key), quoted(&copy.source)));
    }
    lines
}

fn list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    let one_line = format!("[{}]", words.join(", "));
    if one_line.len() <= 100 {
        return one_line;
    }
    let lines: String = words.iter().map(|word| format!("    {word},\n")).collect();
    format!("[\n{lines}]")
}

impl Edits<'_> {
    fn line_start(&self, at: usize) -> usize {
        self.text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1)
    }

    /// The start of the next line.
    fn line_end(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        rest.find('\n').map_or(self.text.len(), |newline| at + newline + 1)
    }

    /// Replaces all entries of a table with `lines`.
    fn replace_entries(&mut self, table: &Fields<'_>, lines: &str) {
        let mut entries: Vec<Range<usize>> = table
            .entries()
            .iter()
            .map(|entry| {
                self.line_start(entry.key.range().start)..self.line_end(entry.value.place().range().end)
            })
            .collect();
        entries.sort_by_key(|range| range.start);
        let header = self.line_end(table.place().range().end);
        let first = entries.first().map_or(header, |range| range.start);
        self.edits.push((first..first, lines.to_owned()));
        self.edits.extend(entries.into_iter().map(|range| (range, String::new())));
    }

    /// Changes the value of a key, or adds the key.
    fn set(&mut self, table: &mut Fields<'_>, name: &'static str, value: &str) {
        match table.take(name) {
            Some(node) => self.edits.push((node.place().range(), value.to_owned())),
            None => {
                let header = self.line_end(table.place().range().end);
                self.edits.push((header..header, format!("{name} = {value}\n")));
            }
        }
    }

    /// Sets `enabled = false` for a runtime.
    fn switch_off(&mut self, entry: &Entry<'_>, why: &str) {
        let range = entry.value.place().range();
        let value = self.text.get(range.clone()).unwrap_or_default();
        let off = match value.strip_suffix('}') {
            Some(fields) => format!("{}, enabled = false }}", fields.trim_end()),
            None => format!("{{ base = {value}, enabled = false }}"),
        };
        let start = self.line_start(range.start);
        self.edits.push((start..start, format!("# {why}\n")));
        self.edits.push((range, off));
    }

    fn apply(mut self) -> Option<String> {
        // At the same position, an insertion comes before a replacement.
        self.edits.sort_by_key(|(range, _)| (range.start, range.end));
        let mut out = String::with_capacity(self.text.len());
        let mut at = 0;
        for (range, new) in &self.edits {
            out.push_str(self.text.get(at..range.start)?);
            out.push_str(new);
            at = range.end;
        }
        out.push_str(self.text.get(at..)?);
        Some(out)
    }
}
