//! Writes the man pages of a release, made of the command tree: `man-pages DIR YYYY-MM-DD`.
//!
//! A package of its own, so that nobody who runs `cargo xtask` compiles it.

use std::path::Path;

use anyhow::Context as _;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// The program whose pages these are.
const PROGRAM: &str = "htc-grid-images";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, date] = arguments.as_slice() else { anyhow::bail!("usage: man-pages DIR YYYY-MM-DD") };
    write(Path::new(dir), date)
}

/// Writes every page into `dir`, which is made.
fn write(dir: &Path, date: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("could not create {}", dir.display()))?;
    for (name, text) in pages(date)? {
        let file = dir.join(format!("{name}.1"));
        std::fs::write(&file, text).with_context(|| format!("could not write {}", file.display()))?;
    }
    Ok(())
}

/// Each page with its name.
fn pages(date: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut pages = Vec::new();
    let mut open = vec![(PROGRAM.to_owned(), PROGRAM.to_owned(), xtask::manual(PROGRAM))];
    while let Some((name, typed, command)) = open.pop() {
        let own = command.get_subcommands().filter(|own| !own.is_hide_set());
        open.extend(own.map(|own| {
            (format!("{name}-{}", own.get_name()), format!("{typed} {}", own.get_name()), own.clone())
        }));
        let command = command.display_name(&name).bin_name(typed).disable_help_subcommand(true);
        pages.push((name, page(command, date)?));
    }
    Ok(pages)
}

fn page(command: Command, date: &str) -> anyhow::Result<Vec<u8>> {
    let is_top = command.get_name() == PROGRAM;
    let (own, words) = (command.has_subcommands(), words(&command));
    let man = Man::new(command)
        .manual("HTC-Grid images")
        .date(date)
        .source(format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if own {
        man.render_subcommands_section(&mut text)?;
    }
    let mut rest = Roff::new();
    if let Some(words) = words {
        // Lines as they are: commands to be typed are among them, which `render_extra_section` would run together.
        let (heading, lines) = match words.split_once(":\n") {
            Some((first, lines)) if first == "Example" || first == "Examples" => ("EXAMPLES", lines),
            _ => ("NOTES", words.as_str()),
        };
        rest.control("SH", [heading]).control("nf", []);
        for line in lines.lines() {
            rest.text([roman(line)]);
        }
        rest.control("fi", []);
    }
    if !is_top {
        rest.control("SH", ["SEE ALSO"]);
        rest.text([bold(PROGRAM), roman("(1) has the options of every command.")]);
    }
    rest.to_writer(&mut text)?;
    Ok(text)
}

/// What stands below the options in a command's help.
fn words(command: &Command) -> Option<String> {
    command.get_after_long_help().or_else(|| command.get_after_help()).map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a page, by its name.
    fn text<'a>(pages: &'a [(String, String)], name: &str) -> &'a str {
        &pages.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name} has no page")).1
    }

    /// The page of `command` and of each of its own commands has all of their options.
    fn check(pages: &[(String, String)], name: &str, command: &Command) -> usize {
        let text = text(pages, name);
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            if let Some(long) = argument.get_long() {
                assert!(text.contains(&format!("\\-\\-{}", long.replace('-', "\\-"))), "--{long}: {text}");
            }
        }
        let own = command.get_subcommands();
        1 + own.map(|own| check(pages, &format!("{name}-{}", own.get_name()), own)).sum::<usize>()
    }

    #[test]
    fn every_command_has_a_page_with_its_options() {
        let pages: Vec<(String, String)> = pages("2026-11-28")
            .unwrap()
            .into_iter()
            .map(|(name, text)| (name, String::from_utf8(text).unwrap()))
            .collect();
        assert_eq!(check(&pages, PROGRAM, &xtask::manual(PROGRAM)), pages.len());
        assert!(pages.len() > 30, "{}", pages.len());
        let transfer = text(&pages, "htc-grid-images-transfer-images");
        assert!(
            transfer.contains("\n  htc\\-grid\\-images transfer\\-images TAG=prod REGION=eu\\-west\\-1\n"),
            "{transfer}"
        );
        assert!(
            !transfer.contains("state\\-bucket"),
            "the options of every command stand on the first page: {transfer}"
        );
        assert!(text(&pages, PROGRAM).contains("state\\-bucket"));
        for (name, text) in &pages {
            assert!(text.starts_with(".ie"), "{name}: {text}");
            assert!(text.contains(&format!(".TH {name} 1 2026-11-28")), "{name}: {text}");
        }
    }

    #[test]
    fn pages_are_written_into_a_new_folder() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("share/man1"), "2026-11-28").unwrap();
        assert!(dir.path().join("share/man1/htc-grid-images-local-up.1").is_file());
    }
}
