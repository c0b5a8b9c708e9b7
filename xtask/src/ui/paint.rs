//! Adds colours to lines on stderr, and makes sure that GitHub's runner does not read them as commands.

use std::borrow::Cow;
use std::io::IsTerminal as _;
use std::sync::OnceLock;

use clap::ValueEnum;

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR, CLICOLOR=0 or TERM=dumb says otherwise; CLICOLOR_FORCE means always.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How to write to stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    color: bool,
    /// Whether GitHub's runner reads the output.
    github: bool,
}

/// The style of this process, chosen once.
static STYLE: OnceLock<Style> = OnceLock::new();

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const CYAN: &str = "\x1b[1;36m";
const RESET: &str = "\x1b[0m";

/// The prefixes of lines that get a colour, as in cargo.
const HEADS: [(&str, &str); 4] =
    [("error:", RED), ("warning:", YELLOW), ("hint:", CYAN), ("  caused by:", BOLD)];

impl Style {
    /// The style for the environment variables in `env`.
    fn new(color: Color, env: impl Fn(&str) -> Option<String>, terminal: bool) -> Self {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let says = |name: &str| env(name).map(|value| value != "0");
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            // <https://no-color.org>, then <https://bixense.com/clicolors/>, in cargo's order.
            Color::Auto if env("NO_COLOR").is_some() => false,
            Color::Auto if says("CLICOLOR_FORCE") == Some(true) => true,
            Color::Auto if says("CLICOLOR") == Some(false) => false,
            Color::Auto => terminal && env("TERM").is_some_and(|term| term != "dumb"),
        };
        Self { color, github: env("GITHUB_ACTIONS").is_some_and(|value| value == "true") }
    }

    /// Styles text, line by line.
    fn dress<'a>(self, text: &'a str) -> Cow<'a, str> {
        if !self.color && !self.github {
            return Cow::Borrowed(text);
        }
        let lines = text.split('\n').map(|line| {
            let line = if self.github { harmless(line) } else { Cow::Borrowed(line) };
            let head = HEADS.iter().find(|(head, _)| self.color && line.starts_with(head));
            match head {
                Some((head, color)) => format!("{color}{head}{RESET}{}", &line[head.len()..]).into(),
                None => line,
            }
        });
        lines.collect::<Vec<_>>().join("\n").into()
    }

    fn without_commands(self, text: &str) -> Cow<'_, str> {
        if !self.github {
            return Cow::Borrowed(text);
        }
        text.split('\n').map(harmless).collect::<Vec<_>>().join("\n").into()
    }

    fn json_without_commands(self, document: String) -> String {
        // No line of a document starts with `::`, and `##[` occurs only in strings.
        if self.github { document.replace("##[", "#\\u0023[") } else { document }
    }
}

/// A line that GitHub's runner does not read as a command. It obeys lines that start with `::`, also after spaces, and an older
/// form anywhere in a line (<https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs>).
fn harmless(line: &str) -> Cow<'_, str> {
    let mut line = Cow::Borrowed(line);
    if let Some(rest) = line.trim_start().strip_prefix("::") {
        let indent = &line[..line.len() - line.trim_start().len()];
        line = format!("{indent}: :{rest}").into();
    }
    if line.contains("##[") {
        line = line.replace("##[", "# #[").into();
    }
    line
}

/// Sets the style of stderr.
pub(super) fn choose(color: Color) {
    let _ = STYLE.set(chosen(color));
}

fn chosen(color: Color) -> Style {
    Style::new(color, |name| std::env::var(name).ok(), std::io::stderr().is_terminal())
}

fn style() -> Style {
    // Before the command line is parsed, only by the environment.
    STYLE.get().copied().unwrap_or_else(|| chosen(Color::Auto))
}

/// Any text, styled for stderr.
pub(super) fn dressed(text: &str) -> Cow<'_, str> {
    style().dress(text)
}

/// Text for stdout, without commands for GitHub's runner, which reads stdout too.
pub(super) fn without_commands(text: &str) -> Cow<'_, str> {
    style().without_commands(text)
}

/// A JSON document for stdout, without such commands and with unchanged values.
pub(super) fn json_without_commands(document: String) -> String {
    style().json_without_commands(document)
}

/// A heading.
pub(super) fn heading(text: &str) -> String {
    if style().color { format!("{BOLD}{}{RESET}", dressed(text)) } else { dressed(text).into_owned() }
}

/// The lines that start and end a group that GitHub folds. `None` on other systems.
pub(super) fn group(title: &str) -> Option<(String, &'static str)> {
    // One line, without characters that the runner would decode.
    let title = title.replace(['%', '\r', '\n'], " ");
    style().github.then(|| (format!("::group::{title}"), "::endgroup::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colored(color: Color, terminal: bool, env: &[(&str, &str)]) -> bool {
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Style::new(color, env, terminal).color
    }

    #[test]
    fn colours_are_for_terminals_unless_overridden() {
        let term = ("TERM", "xterm");
        for (color, terminal, env, wanted) in [
            (Color::Auto, true, &[term][..], true),
            (Color::Auto, false, &[term], false),
            (Color::Auto, true, &[("TERM", "dumb")], false),
            (Color::Auto, true, &[], false),
            (Color::Auto, true, &[term, ("NO_COLOR", "1")], false),
            (Color::Auto, true, &[term, ("NO_COLOR", "")], true),
            (Color::Auto, true, &[term, ("CLICOLOR", "0")], false),
            (Color::Auto, false, &[("CLICOLOR_FORCE", "1")], true),
            (Color::Auto, false, &[("CLICOLOR_FORCE", "0")], false),
            (Color::Auto, false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
            (Color::Always, false, &[("NO_COLOR", "1")], true),
            (Color::Never, true, &[term, ("CLICOLOR_FORCE", "1")], false),
        ] {
            assert_eq!(colored(color, terminal, env), wanted, "{color:?} {terminal} {env:?}");
        }
    }

    #[test]
    fn only_the_kind_of_a_line_is_coloured() {
        let style = Style { color: true, github: false };
        assert_eq!(
            style.dress("error: no\nhint: yes"),
            "\x1b[1;31merror:\x1b[0m no\n\x1b[1;36mhint:\x1b[0m yes"
        );
        assert_eq!(style.dress("an error: no"), "an error: no");
    }

    #[test]
    fn no_text_becomes_a_github_workflow_command() {
        let style = Style { color: false, github: true };
        for (text, wanted) in [
            ("curl: failed:\n::set-output name=x::y", "curl: failed:\n: :set-output name=x::y"),
            ("  ::add-mask::x", "  : :add-mask::x"),
            ("\u{a0}::stop", "\u{a0}: :stop"),
            ("said ##[add-mask]x", "said # #[add-mask]x"),
            ("a::b", "a::b"),
        ] {
            assert_eq!(style.dress(text), wanted);
            assert_eq!(style.without_commands(text), wanted);
        }
        let plain = Style::default();
        assert_eq!((plain.dress("::x"), plain.without_commands("::x")), ("::x".into(), "::x".into()));
        let document = serde_json::json!({ "said": "###[add-mask]x" });
        let text = style.json_without_commands(document.to_string());
        assert!(!text.contains("##["), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), document);
        assert_eq!(plain.json_without_commands(document.to_string()), document.to_string());
    }
}
