//! The corpus: what is found in each Dockerfile, and what is rejected. The end-to-end tests check that docker takes the same from
//! elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::stages::{Root, What};
use super::*;

const HOST: &str = "registry.test:5000/corpus";
const HTTP: &str = "http://files.test:5000";
const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Fills in `{{...}}`.
fn rendered(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap();
        out.push_str(before);
        match name {
            "host" => out.push_str(HOST),
            "http" => out.push_str(HTTP),
            "sum" => out.push_str(DIGEST),
            name => match name.strip_suffix('@') {
                Some(name) => out.push_str(&format!("{HOST}/{name}@{DIGEST}")),
                None => out.push_str(&format!("{HOST}/{name}")),
            },
        }
        rest = after;
    }
    out + rest
}

/// The form used in the table.
fn shown(what: &str) -> String {
    let short = what.replace(&format!("{HOST}/"), "").replace(HTTP, "");
    short.split_once('@').map_or(short.clone(), |(name, _)| format!("{name}@"))
}

fn found(file: &Dockerfile, given: &Given<'_>) -> Result<BTreeSet<String>, DockerfileError> {
    let base = matches!(file.needs(given), Ok(Needs { base: Base::Argument(_), .. }))
        || matches!(needs::follow(file, given)?.root, Root::Argument(_));
    let outside = needs::follow(file, given)?.outside;
    let what = outside.iter().map(|outside| match &outside.what {
        What::Stage(image) | What::Image(image) => shown(image),
        What::Address { address, .. } => shown(address),
    });
    Ok(what.chain(base.then(|| "base@".to_owned())).collect())
}

#[test]
fn the_corpus_is_read_as_the_table_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let table = std::fs::read_to_string(folder.join("table.txt")).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(" | ").collect())
        .collect();
    let files = std::fs::read_dir(&folder).unwrap().count() - 1;
    assert_eq!(rows.len(), files, "each Dockerfile has its row");
    assert!(rows.len() >= 40);
    let platforms = ["linux/amd64".parse().unwrap()];
    let args = BTreeMap::new();
    let mut wrong = Vec::new();
    for row in rows {
        let [name, takes, _, _, verdict] = row[..] else { panic!("{row:?}") };
        let text = std::fs::read_to_string(folder.join(format!("{name}.Dockerfile"))).unwrap();
        let text = rendered(&text);
        let target = text.strip_prefix("# target: ").and_then(|rest| rest.lines().next());
        let base = text.contains("BASE_IMAGE") || text.contains("HTCGRID_ECR_REPO");
        let given = Given {
            base,
            base_argument: None,
            entry_point_argument: None,
            args: &args,
            target,
            platforms: &platforms,
        };
        let read = Dockerfile::parse("Dockerfile", text.as_bytes());
        let set = read.as_ref().ok().and_then(|file| found(file, &given).ok());
        let set = set.map_or("?".to_owned(), |set| set.into_iter().collect::<Vec<_>>().join(" "));
        let takes: BTreeSet<&str> = takes.split(' ').collect();
        let takes = takes.into_iter().collect::<Vec<_>>().join(" ");
        let said = match read.and_then(|file| file.needs(&given)) {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        let fits = match verdict.split_once(' ') {
            None => said == "ok",
            Some((line, words)) => {
                shown_error(&said).starts_with(&format!("Dockerfile:{line}: "))
                    && shown_error(&said).contains(words)
            }
        };
        if set != takes || !fits {
            wrong.push(format!("{name}: takes {set}, wanted {takes}; says {said}, wanted {verdict}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn shown_error(said: &str) -> String {
    said.replace(&format!("{HOST}/"), "").replace(HTTP, "")
}

fn needs(text: &str, target: Option<&str>, base: bool) -> Result<Needs, String> {
    let args = BTreeMap::from([("HOST", HOST), ("TARGETOS", "c/d:1")]);
    let args = args.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let platforms = ["linux/amd64".parse().unwrap(), "linux/arm64".parse().unwrap()];
    let file = Dockerfile::parse("D", text.as_bytes()).map_err(|error| error.to_string())?;
    let given = Given {
        base,
        base_argument: None,
        entry_point_argument: None,
        args: &args,
        target,
        platforms: &platforms,
    };
    file.needs(&given).map_err(|error| error.to_string())
}

#[test]
fn base_and_entry_point_are_passed_as_the_dockerfile_declares_them() {
    let own = needs("ARG BASE_IMAGE\nFROM $BASE_IMAGE\nARG ENTRY_POINT=start.sh\n", None, true).unwrap();
    assert_eq!(own.base, Base::Argument("BASE_IMAGE".to_owned()));
    assert_eq!(own.entry_point, Some(("ENTRY_POINT".to_owned(), Some("start.sh".to_owned()))));
    let theirs =
        "ARG HTCGRID_ECR_REPO\nFROM ${HTCGRID_ECR_REPO} AS b\nARG HTCGRID_LAMBDA_ENTRYPOINT\nFROM b\n";
    let theirs = needs(theirs, None, true).unwrap();
    assert_eq!(theirs.base, Base::Argument("HTCGRID_ECR_REPO".to_owned()));
    assert_eq!(theirs.entry_point, Some(("HTCGRID_LAMBDA_ENTRYPOINT".to_owned(), None)));
    // Without a given base, an argument's own default is the base.
    let default = needs("ARG BASE_IMAGE=a/b:1\nFROM $BASE_IMAGE\n", None, false).unwrap();
    assert_eq!((default.base, default.base_line), (Base::Own(Box::new("a/b:1".parse().unwrap())), 2));
    let given = needs("ARG HOST\nFROM ${HOST}/b:1 AS x\nFROM scratch\n", Some("x"), false).unwrap();
    assert_eq!(given.base, Base::Own(Box::new(format!("{HOST}/b:1").parse().unwrap())));
    for (text, target, base, error) in [
        ("ARG BASE_IMAGE\nFROM $BASE_IMAGE\n", None, false, "D:2: $BASE_IMAGE has no value"),
        (
            "ARG BASE_IMAGE\nFROM $BASE_IMAGE/x\n",
            None,
            true,
            "D:2: the base is the whole value of its argument",
        ),
        (
            "ARG BASE_IMAGE\nFROM $BASE_IMAGE:x\n",
            None,
            true,
            "D:2: the base is the whole value of its argument",
        ),
        ("FROM a/b:1\n", Some("x"), false, "D:1: it has no stage x"),
        ("FROM a/b\n", None, false, "D:1: the base docker.io/a/b has neither tag nor digest"),
        ("FROM a/b:$TARGETARCH\n", None, false, "D:1: the base differs between platforms or builders"),
        (
            "FROM --platform=linux/arm64 a/b:1\n",
            None,
            false,
            "D:1: --platform=linux/arm64 is not the platform",
        ),
        ("RUN true\nFROM a/b:1\n", None, false, "D:1: RUN is before the first FROM"),
        ("FROM a/b:1\nHELLO\n", None, false, "D:2: `HELLO` is not an instruction"),
        ("FROM a:1 AS x\nFROM b:1 AS X\n", None, false, "D:2: two stages are called x"),
        ("FROM a:1\nRUN <<EOF\ntrue\n", None, false, "D:2: the here-document EOF has no end"),
        ("", None, false, "D:1: it has no FROM"),
        ("ARG A=a/b:1 B=$A\nFROM $B\n", None, false, "D:1: the value of A is not known"),
        (
            "FROM a/b:1\nENV U=http://x.test/a\nENV U=f V=$U\nADD $V /\n",
            None,
            false,
            "D:4: http://x.test/a is not pinned",
        ),
        ("FROM a/b:1 AS linux\nFROM $TARGETOS\n", None, false, "D:1: a/b:1 is not pinned"),
    ] {
        let found = needs(text, target, base).unwrap_err();
        assert!(found.starts_with(error), "{found} for {text:?}");
    }
}

#[test]
fn a_file_is_copied_by_its_own_name_or_a_parent_directory() {
    let args = BTreeMap::from([("F".to_owned(), "a.sh".to_owned())]);
    for (text, names, copies) in [
        ("COPY . /", false, true),
        ("COPY *.sh /", false, true),
        ("COPY ./a.sh /", true, true),
        ("ARG F=b.sh\nCOPY ${F} /", true, true),
        ("ARG G=b.sh\nCOPY ${G} /", false, false),
        ("ADD [\"a.sh\", \"/\"]", true, true),
        ("COPY $OF_THE_BASE /", true, true),
        ("COPY --from=x a.sh /", false, false),
        ("RUN cat a.sh", false, false),
    ] {
        let text = format!("FROM scratch AS x\nFROM scratch\n{text}\n");
        let file = Dockerfile::parse("D", text.as_bytes()).unwrap();
        assert_eq!((file.names("a.sh", &args), file.may_copy("a.sh", &args)), (names, copies), "{text}");
    }
}

#[test]
fn a_pinned_copy_differs_only_in_its_from_lines() {
    let text = "# c\nFROM --platform=$TARGETPLATFORM \\\n  a/b:1 \\\n # why\n AS one\r\nRUN true\nFROM a/b:1\nFROM one\n";
    let file = Dockerfile::parse("D", text.as_bytes()).unwrap();
    let pinned = file.pin(&needs(text, None, false).unwrap(), "r/a/b@sha256:1");
    assert_eq!(
        pinned,
        "# c\nFROM --platform=$TARGETPLATFORM r/a/b@sha256:1 AS one\n\n\n\nRUN true\nFROM r/a/b@sha256:1\nFROM one\n"
    );
}

#[test]
fn triggers_of_an_image_are_checked_too() {
    let check =
        |trigger: &str| check_triggers("x@sha256:1", &[trigger.to_owned()]).map_err(|e| e.to_string());
    let pinned = format!("COPY --from=a/b@{DIGEST} /x /x");
    for good in ["COPY . /app", "RUN npm install", "ADD app.tar /", &pinned] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    for (bad, words) in [
        ("ADD http://x.test/a /a", "x@sha256:1, ONBUILD:1: http://x.test/a is not pinned"),
        ("ADD $FROM_ENV /a", "the value of FROM_ENV is not known"),
        ("COPY --from=a/b:1 /x /x", "a/b:1 is not pinned"),
        ("RUN --mount=from=a/b:1,target=/b true", "a/b:1 is not pinned"),
    ] {
        let error = check(bad).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}
