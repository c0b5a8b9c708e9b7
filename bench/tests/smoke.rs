//! The whole benchmark on a tiny set: real registries, the floor, and skopeo if it is installed.

use std::path::Path;

#[expect(clippy::disallowed_methods, reason = "a test of the program itself has to start it")]
fn bench() -> std::process::Command {
    std::process::Command::new(env!("CARGO_BIN_EXE_bench"))
}

/// The registries are Debian's `docker-registry`: if it is missing, this test fails with a message.
#[test]
fn a_tiny_set_is_copied_measured_and_reported() {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-smoke");
    let output = bench()
        .args(["--only", "smoke", "--rounds", "2", "--link", "loopback"])
        .args(["--tool", "floor", "--tool", "skopeo-x4", "--tool", "crane-x4", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    let cells = report["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2, "single and index");
    for cell in cells {
        let row = |tool: &str| {
            cell["rows"].as_array().unwrap().iter().find(|row| row["tool"] == tool).unwrap().clone()
        };
        let floor = row("floor");
        assert_eq!(floor["cold"]["runs"], 2, "{stderr}");
        // Five blobs once, one mount, two manifests.
        assert_eq!(floor["cold"]["target"]["by_kind"]["PUT upload"], 5);
        assert_eq!(floor["cold"]["target"]["by_kind"]["POST mount"], 1);
        assert_eq!(floor["cold"]["target"]["by_kind"]["PUT manifest"], 2);
        assert_eq!(floor["cold"]["source"]["by_kind"].as_object().unwrap().len(), 0);
        assert!(floor["cold"]["target"]["bytes_in"].as_u64().unwrap() > 700 << 10);
        let skopeo = row("skopeo-x4");
        if which::which("skopeo").is_ok() {
            // The benchmark itself compares the digests with the source's: a wrong copy has no figures.
            assert_eq!(skopeo["cold"]["runs"], 2, "{stderr}");
            assert_eq!(skopeo["idle"]["runs"], 2, "{stderr}");
            assert!(skopeo["cold"]["cpu_s"].as_f64().unwrap() > 0.0);
            assert_eq!(skopeo["idle"]["target"]["by_kind"]["PUT upload"], serde_json::Value::Null);
        } else {
            assert_eq!(skopeo["missing"], "not in PATH");
        }
        if which::which("crane").is_err() {
            assert_eq!(row("crane-x4")["missing"], "not in PATH");
        }
    }
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("| floor (uploads alone) |"), "{table}");
    assert!(std::fs::read_to_string(out.join("report.svg")).unwrap().starts_with("<svg"));
}
