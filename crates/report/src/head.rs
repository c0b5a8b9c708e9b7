//! The page's frame: the run's result, where and when it ran, why it failed.

use crate::html::{Html, html};
use crate::{Ending, Page, Section, State, units};

/// The page's title.
pub fn title(page: &Page) -> String {
    let what = match page.ending {
        Ending::Plan => "Plan of transfer-images",
        _ => "transfer-images",
    };
    format!("{what}: grid {}", page.grid)
}

/// Title, verdict, where and when, and the totals.
pub fn header(page: &Page) -> Html {
    let (class, mark, word) = match page.ending {
        Ending::Done => ("ok", "✓", "Done"),
        Ending::NothingToDo => ("ok", "✓", "Nothing to do"),
        Ending::Plan => ("plan", "→", "Plan"),
        Ending::Failed => ("bad", "✗", "Failed"),
        Ending::Interrupted => ("warn", "!", "Interrupted"),
    };
    let kind = if page.ending == Ending::Plan { "Plan for grid " } else { "Images of grid " };
    html! {
        "<header>\n<p class=\"tool\">cargo xtask transfer-images</p>\n<h1>", kind, page.grid,
        "</h1>\n<p class=\"verdict ", class, "\"><span class=\"mark\" aria-hidden=\"true\">", mark,
        "</span><strong>", word, "</strong> ", verdict(page), "</p>\n", tiles(page), facts(page), "</header>\n"
    }
}

/// The run's result, in a sentence.
fn verdict(page: &Page) -> String {
    let all = page.images.len();
    let count = |states: &[State]| page.images.iter().filter(|image| states.contains(&image.state)).count();
    let failed = count(&[State::Failed]);
    let work = count(&[State::Done, State::Failed, State::Unfinished, State::NotBegun]);
    let in_place = || format!("{} in place", units::count(all, "image"));
    match page.ending {
        Ending::Done => format!("{} and verified.", in_place()),
        Ending::NothingToDo => format!("{}; nothing was changed.", in_place()),
        Ending::Plan if failed > 0 => {
            format!("Nothing was changed. {} cannot be looked up or built.", units::count(failed, "image"))
        }
        Ending::Plan => match count(&[State::Planned]) {
            0 if page.resources.is_empty() => format!("{}; there is nothing to do.", in_place()),
            planned => format!("Nothing was changed. {} to bring.", units::count(planned, "image")),
        },
        Ending::Failed | Ending::Interrupted if !page.begun => "Nothing was changed.".to_owned(),
        Ending::Failed | Ending::Interrupted => format!(
            "{} of {} done, which is kept; the same command continues from there.",
            count(&[State::Done]),
            units::count(work, "image")
        ),
    }
}

/// The totals.
fn tiles(page: &Page) -> Html {
    let count = |runtime: bool, states: &[State]| {
        let images = page.images.iter().filter(|image| image.is_runtime == runtime);
        images.filter(|image| states.contains(&image.state)).count()
    };
    let both = |states: &[State]| count(false, states) + count(true, states);
    let (verbs, sent_label): ([&'static str; 2], &'static str) = match page.ending {
        Ending::Plan => (["images to copy", "runtimes to bring"], "to send at most"),
        _ => (["images copied", "runtimes brought"], "sent"),
    };
    let moved = if page.ending == Ending::Plan { State::Planned } else { State::Done };
    let sent = page.images.iter().fold(0_u64, |sum, image| sum.saturating_add(image.sent));
    let open = both(&[State::Unfinished, State::NotBegun]);
    let tile = |class: &'static str, value: String, label: &'static str| {
        html! { "<div class=\"tile ", class, "\"><dt>", label, "</dt><dd>", value, "</dd></div>" }
    };
    let failed = both(&[State::Failed]);
    let mut tiles = vec![
        tile("", count(false, &[moved]).to_string(), verbs[0]),
        tile("", count(true, &[moved]).to_string(), verbs[1]),
        tile("", both(&[State::UpToDate]).to_string(), "up to date"),
        tile(if failed > 0 { "bad" } else { "" }, failed.to_string(), "failed"),
    ];
    if open > 0 {
        tiles.push(tile("warn", open.to_string(), "not done"));
    }
    let is_cut_off = matches!(page.ending, Ending::Failed | Ending::Interrupted);
    if sent > 0 || !is_cut_off {
        tiles.push(tile("", units::bytes(sent), sent_label));
    }
    tiles.push(tile("", units::duration(page.took), "took"));
    html! { "<dl class=\"tiles\">", tiles, "</dl>\n" }
}

/// Where and when.
fn facts(page: &Page) -> Html {
    let fact = |(label, value): (&'static str, &str)| html! { "<div><dt>", label, "</dt><dd>", value, "</dd></div>" };
    let place: Vec<Html> = page.place.iter().map(|(label, value)| fact((*label, value))).collect();
    let shown = page.began.replace('T', " ").replace('Z', " UTC");
    let exit = format!("{} ({})", page.exit_code, page.exit_name);
    html! {
        "<dl class=\"facts\">", place, "<div><dt>began</dt><dd><time datetime=\"", page.began, "\">", shown,
        "</time></dd></div>", fact(("exit code", &exit)), fact(("version", &page.version)), "</dl>\n"
    }
}

/// Why the run failed; `None` if it did not.
pub fn failure(page: &Page) -> Option<Html> {
    let failure = page.failure.as_ref()?;
    let causes: Vec<Html> = failure.causes.iter().map(|cause| html! { "<li>", cause, "</li>" }).collect();
    let causes = (!causes.is_empty()).then(|| html! { "<ul>", causes, "</ul>" });
    let hints =
        failure.hints.iter().map(|hint| html! { "<p class=\"hint\"><b>What to do:</b> ", hint, "</p>" });
    let hints: Vec<Html> = hints.collect();
    Some(html! {
        "<section id=\"failure\" aria-labelledby=\"failure-title\" class=\"failure\"><h2 id=\"failure-title\">",
        "Why it ended</h2><p class=\"words\">", failure.message, "</p>", causes, hints, "</section>\n"
    })
}

/// What was done to the account's resources.
pub fn resources(page: &Page) -> Option<Section> {
    let title = if page.ending == Ending::Plan { "Resources, as planned" } else { "Resources" };
    let intro = html! { "<p>By terraform, before anything was copied:</p>" };
    lines("resources", title, &intro, &page.resources)
}

/// Other notes.
pub fn notes(page: &Page) -> Option<Section> {
    lines("notes", "Notes", &Html::default(), &page.notes)
}

fn lines(id: &'static str, title: &'static str, intro: &Html, lines: &[String]) -> Option<Section> {
    if lines.is_empty() {
        return None;
    }
    let lines: Vec<Html> = lines.iter().map(|line| html! { "<li>", line, "</li>" }).collect();
    Some(Section { id, title, body: html! { intro, "<ul class=\"lines\">", lines, "</ul>" } })
}

/// The tool that wrote the page.
pub fn footer(page: &Page) -> Html {
    html! {
        "<footer><p>Written by cargo xtask ", page.version,
        " when the run ended. Times are UTC, and sizes are those of the compressed layers.</p></footer>\n"
    }
}
