//! Runtimes that are built by the operator's own Dockerfiles, in the operator's own tree.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::path::Path;

use e2e::{Base, Builder, Project, Run, on_each_builder};
use serde_json::json;

on_each_builder!(
    htc_grids_own_tree_is_built_unchanged,
    each_runtime_has_its_dockerfile_and_context,
    the_base_and_the_builder_are_checked_before_the_build,
);

/// The interface of HTC-Grid's Dockerfile: its arguments' names, its user, the place of the entry point.
const HTC_GRID: &str = "\
ARG HTCGRID_ECR_REPO
FROM ${HTCGRID_ECR_REPO}

# Comments behind a value are words of docker's.
ARG USER=99 #nobody
ARG GROUP=99 #nobody
ARG HTCGRID_LAMBDA_ENTRYPOINT=lambda_entry_point.sh
COPY ${HTCGRID_LAMBDA_ENTRYPOINT} /lambda_entrypoint_signal.sh
RUN cat /content >/from && \\
    cat /lambda_entrypoint_signal.sh >>/from
USER ${USER}:${GROUP}
ENTRYPOINT [\"/bin/sh\", \"/lambda_entrypoint_signal.sh\"]
";

/// The bases of the four runtimes that HTC-Grid builds.
const BASES: [(&str, &str); 4] = [
    ("provided", "lambda/provided:al2"),
    ("python3.8", "lambda/python:3.8"),
    ("dotnet5.0", "lambda/dotnet:5.0"),
    ("java17", "lambda/java:17"),
];

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// `xtask` of the project with another images.toml.
fn xtask(project: &Project, images: &Path) -> Run {
    let run = project.world.bare().env("CARGO_MANIFEST_DIR", project.world.path("project/xtask"));
    let source = |run: Run, host: &str, url: String| run.arg("--upstream").arg(format!("{host}={url}"));
    let run = source(run, "public.ecr.aws", format!("http://{}", project.registry.host()));
    let run = source(run, "docker.io", format!("http://{}/docker.io", project.world.sources.host));
    run.arg("--images").arg(images)
}

fn htc_grids_own_tree_is_built_unchanged(builder: Builder) {
    let Some(project) = Project::with(builder) else { return };
    let host = project.registry.host();
    for (name, base) in BASES {
        project.push_base(&format!("{host}/{base}"), name);
    }
    let tree = project.world.path("htc-grid");
    let folder = "deployment/image_repository";
    write(&tree, &format!("{folder}/lambda_runtimes/Dockerfile"), HTC_GRID);
    for file in ["lambda_entry_point.sh", "lambda_entry_point_provided.sh"] {
        // The files of this project, used by the runtimes that are switched off.
        project.write(file, "#!/bin/sh\n");
        write(
            &tree,
            &format!("{folder}/lambda_runtimes/{file}"),
            &format!("#! /bin/sh\necho {file}; cat /content\n"),
        );
    }
    let json = r#"{"image_to_copy": {"curlimages/curl:7.85.0": "curl"}, "repository": ["lambda", "curl", "submitter"]}"#;
    write(&tree, &format!("{folder}/images_config.json"), json);

    let images = tree.join(folder).join("images.toml");
    let import =
        xtask(&project, &images).args("import-config").arg(tree.join(folder).join("images_config.json"));
    import.arg("--output").arg(&images).ok();
    let written = std::fs::read_to_string(&images).unwrap();
    let line = "provided = { base = \"public.ecr.aws/lambda/provided:al2\", \
                dockerfile = \"deployment/image_repository/lambda_runtimes/Dockerfile\", \
                entry_point = \"lambda_entry_point_provided.sh\" }";
    assert!(written.contains(line), "{written}");

    let transfer =
        || xtask(&project, &images).arg("--registry").arg(host).args("auto-transfer-images --format json");
    transfer().ok();
    for (name, _) in BASES {
        let said = project.run(name);
        let file =
            if name == "provided" { "lambda_entry_point_provided.sh" } else { "lambda_entry_point.sh" };
        assert_eq!(said, format!("{file}\n{name} of {}", project.name), "{name}");
    }
    let again = transfer().ok().json();
    let runtimes = again["runtimes"].as_array().unwrap();
    assert_eq!(runtimes.len(), 4, "{again}");
    assert!(runtimes.iter().all(|runtime| runtime["action"] == "up to date"), "{again}");
    assert_eq!(
        std::fs::read_to_string(tree.join(folder).join("lambda_runtimes/Dockerfile")).unwrap(),
        HTC_GRID
    );
    forget(&project);
}

fn each_runtime_has_its_dockerfile_and_context(builder: Builder) {
    let Some(project) = Project::with(builder) else { return };
    let (host, name) = (project.registry.host(), &project.name);
    project.push_base(&format!("{host}/lambda/python:3.8"), "own");
    project.push_base(&format!("{host}/lambda/java:17"), "given");
    let tree = project.world.path("tree");
    write(&tree, ".git/HEAD", "ref: refs/heads/main\n");
    write(
        &tree,
        "a/Dockerfile",
        "FROM public.ecr.aws/lambda/python:3.8 AS base\nCOPY . /a/\nCMD [\"cat\", \"/content\", \"/a/say\"]\n",
    );
    write(&tree, "a/say", " says a\n");
    write(
        &tree,
        "b/build/Dockerfile.b",
        "ARG START\nFROM ${START}\nARG RUNS\nCOPY run/${RUNS} /run\nENTRYPOINT [\"/bin/sh\", \"/run\"]\n",
    );
    write(&tree, "b/src/run/b.sh", "#!/bin/sh\necho b; cat /content\n");
    // The file is named without a folder: the Dockerfile has its place.
    write(&tree, "b/src/b.sh", "#!/bin/sh\n");
    write(
        &tree,
        "c/Dockerfile",
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE} AS runtime\nARG ENTRY_POINT=c.sh\nCOPY ${ENTRY_POINT} /run\n\
         ENTRYPOINT [\"/bin/sh\", \"/run\"]\nFROM runtime AS debug\nRUN exit 1\n",
    );
    write(&tree, "c/c.sh", "#!/bin/sh\necho c; cat /content\n");
    let base = "public.ecr.aws/lambda/java:17";
    let images = tree.join("images.toml");
    let lines = format!(
        "schema_version = 1\n[runtimes]\n\"{name}-a\" = {{ dockerfile = \"a/Dockerfile\" }}\n\
         \"{name}-b\" = {{ base = \"{base}\", context = \"b/src\", dockerfile = \"b/build/Dockerfile.b\", \
         base_argument = \"START\", entry_point_argument = \"RUNS\", entry_point = \"b.sh\" }}\n\
         \"{name}-c\" = {{ base = \"{base}\", context = \"c\", target = \"runtime\" }}\n"
    );
    std::fs::write(&images, &lines).unwrap();
    xtask(&project, &images).args("lock").ok();
    let lock = std::fs::read_to_string(tree.join("images.lock")).unwrap();
    assert!(lock.contains("public.ecr.aws/lambda/python:3.8") && lock.contains(base), "{lock}");
    let transfer = |words: &str| {
        let run = xtask(&project, &images).arg("--registry").arg(host);
        run.args("auto-transfer-images --format json").args(words)
    };
    transfer("").ok();
    assert_eq!(project.run(&format!("{name}-a")), format!("own of {name} says a"));
    for (runtime, content) in [("b", "given"), ("c", "given")] {
        assert_eq!(project.run(&format!("{name}-{runtime}")), format!("{runtime}\n{content} of {name}"));
    }

    let changed = || {
        let report = transfer("--dry-run").ok().json();
        let builds =
            report["runtimes"].as_array().unwrap().iter().filter(|runtime| runtime["action"] == "build");
        builds
            .map(|runtime| runtime["name"].as_str().unwrap().rsplit('-').next().unwrap().to_owned())
            .collect::<String>()
    };
    assert_eq!(changed(), "");
    // The lock pins the base in the Dockerfile itself.
    project.push_base(&format!("{host}/lambda/python:3.8"), "moved");
    assert_eq!(changed(), "");
    for (file, text, wanted) in [
        ("a/say", " says A\n", "a"),
        ("b/build/Dockerfile.b", "ARG START\nFROM ${START}\nARG RUNS\nCOPY ${RUNS} /run\n", "ab"),
        ("c/c.sh", "#!/bin/sh\necho C\n", "abc"),
    ] {
        write(&tree, file, text);
        assert_eq!(changed(), wanted, "{file}");
    }
    let why = xtask(&project, &images).arg("--registry").arg(host).args("rebuild-runtimes --push --why").ok();
    assert!(
        why.stdout.contains("file say changed") && why.stdout.contains("the Dockerfile changed"),
        "{why}"
    );

    // All mistakes are reported at once, with their place.
    let wrong = lines
        .replace("a/Dockerfile", "../a/Dockerfile")
        .replace("b/src", "/b/src")
        .replace("runtime\"", "none\"");
    std::fs::write(&images, wrong).unwrap();
    let refusals = [
        "is outside of the checkout",
        "must be relative to the top of the checkout",
        "c/Dockerfile:1: it has no stage none",
    ];
    transfer("").end().failed(3, &refusals);
    std::fs::write(&images, &lines).unwrap();
    for (file, text, words) in [
        (
            "a/Dockerfile",
            "FROM public.ecr.aws/lambda/python:3.8\nCOPY --from=busybox:1 /a /b\n",
            "a/Dockerfile:2: busybox:1 is not pinned",
        ),
        ("c/c.sh", "#!/bin/sh\r\necho c\r\n", "c/c.sh:1: ends with a carriage return"),
    ] {
        write(&tree, file, text);
        transfer("").end().failed(3, &[words]);
        write(&tree, "a/Dockerfile", "FROM public.ecr.aws/lambda/python:3.8\n");
    }
    forget(&project);
}

/// What only the base or the builder shows is checked before a build starts, and nothing is pushed.
fn the_base_and_the_builder_are_checked_before_the_build(builder: Builder) {
    let Some(project) = Project::with(builder) else { return };
    let (host, name) = (project.registry.host(), &project.name);
    let refused = |code: i32, words: &[&str]| {
        project.transfer(host, "").end().failed(code, words);
        assert!(project.tags().is_empty(), "nothing is pushed");
    };

    // A base whose trigger fetches content that no key covers.
    let image = format!("{host}/triggers:1");
    let trigger = json!({ "OnBuild": ["ADD https://example.test/x /x"] });
    Base::with_shell(&format!("a trigger of {name}")).push(&image, &trigger);
    project.images(&project.line("").replace(&project.base, &image));
    refused(3, &["ONBUILD:1: https://example.test/x is not pinned"]);

    // An ignored file of the context makes the legacy builder use a tar file, which contains the pinned Dockerfile.
    project.write(
        "Dockerfile",
        &format!("FROM {}\nCOPY . /all/\nCMD [\"cat\", \"/all/start\"]\n", project.base),
    );
    project.write(".dockerignore", "notes\n");
    project.write("notes", "not for the image");
    project.images(&format!("\"{name}\" = {{ dockerfile = \"project/runtimes/Dockerfile\" }}"));
    if builder == Builder::Legacy {
        refused(10, &["copies itself into the image", "name the Dockerfile in .dockerignore"]);
    }
    project.write(".dockerignore", "notes\nDockerfile\n");
    project.transfer(host, "").ok();
    assert!(project.run(name).contains("echo hello"));

    // Here-documents, which docker's legacy builder reads as instructions.
    let heredoc = format!(
        "FROM {}\nRUN cat <<EOF >/said\nFROM nothing:1\nEOF\nCMD [\"cat\", \"/said\"]\n",
        project.base
    );
    project.write("Dockerfile", &heredoc);
    let run = project.transfer(host, "").end();
    if builder == Builder::Legacy {
        run.failed(10, &["Dockerfile:2: the legacy builder knows no here-documents", "buildx"]);
    } else {
        assert_eq!(run.code, Some(0), "{run}");
        assert_eq!(project.run(name), "FROM nothing:1");
    }
}

/// A git checkout has LF everywhere, whatever core.autocrlf is.
#[test]
fn files_for_images_have_lf_in_every_checkout() {
    let Some(git) = e2e::program("git") else { return };
    let mut asked = e2e::command(git);
    asked.arg("-C").arg(e2e::root()).args(["check-attr", "eol", "--"]);
    let files =
        ["runtimes/Dockerfile", "runtimes/lambda_entry_point.sh", "runtimes/lambda_entry_point_provided.sh"];
    let said = e2e::text(asked.args(files));
    let expected: Vec<String> = files.iter().map(|file| format!("{file}: eol: lf")).collect();
    assert_eq!(said, expected.join("\n"));
}

/// Removes these runtimes' images from the engine: their names are not the project's own.
fn forget(project: &Project) {
    for tag in project.tags().into_keys().filter(|tag| tag.contains("-k")) {
        let _ = project.docker().args(["image", "rm", "--force", &format!("lambda:{tag}")]).output();
    }
}
