use serde_json::json;

use super::*;

/// The normal form of `config`, with layers `made` by the build and the Dockerfile's instructions.
fn configured(config: Value, made: &[bool], instructions: &[(&str, &str)]) -> Value {
    let instructions: Vec<Layer> = instructions
        .iter()
        .map(|(keyword, text)| Layer {
            keyword: (*keyword).to_owned(),
            text: (*text).to_owned(),
            ..Layer::default()
        })
        .collect();
    let bytes = serde_json::to_vec(&config).unwrap();
    serde_json::from_slice(&config::normal(&bytes, &base(), &[], made, &instructions).unwrap()).unwrap()
}

#[test]
fn all_builders_configurations_become_equal() {
    let base = json!({ "created_by": "base" });
    let legacy = json!({
        "architecture": "arm64", "os": "linux", "container": "0123", "docker_version": "20.10.24",
        "created": "2026-01-01T00:00:00.123456789Z", "container_config": { "Cmd": ["x"] },
        "config": {
            "Hostname": "", "AttachStdin": false, "Env": ["B=1", "A=2"], "Cmd": null, "Image": "sha256:01",
            "Volumes": { "/data": {} }, "WorkingDir": "", "OnBuild": null, "Labels": { "empty": "", "x": "y" }
        },
        "history": [
            base,
            { "created": "2026", "created_by": "/bin/sh -c #(nop)  ENV B=1", "empty_layer": true },
            { "created": "2026", "created_by": "|1 BASE=host/x /bin/sh -c make" },
            { "created": "2026", "created_by": "/bin/sh -c #(nop) COPY file:0123 in /x " },
            { "created": "2026", "created_by": "/bin/sh -c true", "empty_layer": true }
        ]
    });
    let buildkit = json!({
        "architecture": "arm64", "variant": "v8", "os": "linux", "created": "2026-01-02T00:00:00Z",
        "moby.buildkit.buildinfo.v1": "e30=",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=2", "B=1"],
            "Volumes": { "/data": {} }, "WorkingDir": "/", "ArgsEscaped": true, "OnBuild": [],
            "Labels": { "x": "y", "empty": "", "io.buildah.version": "1.28" }
        },
        "history": [
            base,
            { "created_by": "ENV B=1", "comment": "buildkit.dockerfile.v0", "empty_layer": true },
            { "created_by": "RUN |1 BASE=other/x /bin/sh -c make # buildkit", "comment": "buildkit.dockerfile.v0" },
            { "created_by": "COPY x /x # buildkit", "comment": "buildkit.dockerfile.v0" },
            { "created_by": "RUN /bin/sh -c true # buildkit", "comment": "buildkit.dockerfile.v0" }
        ]
    });
    let instructions = [("RUN", "RUN make"), ("COPY", "COPY x /x"), ("RUN", "RUN true")];
    let normal = configured(legacy, &[true, true], &instructions);
    assert_eq!(normal, configured(buildkit, &[true, true, false], &instructions));
    let created = "2020-09-13T12:26:40Z";
    assert_eq!(
        normal,
        json!({
            "architecture": "arm64", "os": "linux", "created": created,
            "config": {
                "Env": ["A=2", "B=1", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Volumes": { "/data": {} }, "Labels": { "empty": "", "x": "y" }
            },
            "history": [
                base,
                { "created": created, "created_by": "RUN make" },
                { "created": created, "created_by": "COPY x /x" },
                { "created": created, "created_by": "RUN true", "empty_layer": true }
            ],
            "rootfs": { "type": "layers", "diff_ids": [] }
        })
    );
    // Normalising it again changes nothing.
    assert_eq!(configured(normal.clone(), &[true, true], &instructions), normal);
}

#[test]
fn the_time_is_that_of_the_base_but_not_before_staged_files() {
    for (config, wanted) in [
        (json!({ "created": "2020-09-13T12:26:40.9Z" }), 1_600_000_000),
        (json!({ "created": "0001-01-01T00:00:00Z" }), EARLIEST),
        (json!({ "created": "1970-01-01T00:00:00Z", "history": null }), EARLIEST),
        (json!({}), EARLIEST),
    ] {
        assert_eq!(Base::read(config.to_string().as_bytes()).unwrap().time, wanted, "{config}");
    }
}
