//! Tests with the real terraform on a configuration that needs no provider.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::*;

const CONFIGURATION: &str = r#"
variable "names" {
  type = set(string)
}

variable "gate" {
  type    = string
  default = ""
}

resource "terraform_data" "item" {
  for_each = var.names

  input = each.value
}

resource "terraform_data" "slow" {
  for_each = toset(var.gate == "" ? [] : [var.gate])

  # Blocks until somebody opens the other end.
  provisioner "local-exec" {
    command = "read line < ${each.value}"
  }
}

output "names" {
  value = sort([for item in terraform_data.item : item.output])
}
"#;

struct Fixture {
    dir: tempfile::TempDir,
    terraform: Terraform,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("main.tf"), CONFIGURATION).unwrap();
        std::fs::write(dir.path().join("none.tfrc"), "").unwrap();
        let program = Program::find().expect("these tests run terraform or tofu from PATH");
        let terraform = Terraform::new(program, dir.path())
            .env("TF_CLI_CONFIG_FILE", dir.path().join("none.tfrc").display().to_string());
        Self { dir, terraform }
    }

    fn variables(&self, names: &[&str], gate: &str) -> PathBuf {
        let path = self.dir.path().join("fixture.tfvars.json");
        std::fs::write(&path, serde_json::json!({ "names": names, "gate": gate }).to_string()).unwrap();
        path
    }

    async fn plan(&self, names: &[&str], gate: &str, out: &str) -> Result<Plan, TerraformError> {
        let (variables, out) = (self.variables(names, gate), self.dir.path().join(out));
        let request = PlanRequest { variables: &variables, out: &out, destroy: false, lock: true };
        self.terraform.plan(&request, |_| ()).await
    }

    async fn apply(&self, plan: &str) -> (Result<(), TerraformError>, Vec<Event>) {
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        let result = self
            .terraform
            .apply(&self.dir.path().join(plan), move |event| seen.lock().unwrap().push(event.clone()))
            .await;
        let events = events.lock().unwrap().clone();
        (result, events)
    }

    fn gate(&self) -> PathBuf {
        let path = self.dir.path().join("gate");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        path
    }
}

/// Whether the slow resource waits at its gate. An earlier interrupt may arrive before its creation.
fn is_provisioning(event: &Event) -> bool {
    matches!(event, Event::Text(text) if text.contains("Provisioning with"))
}

/// Lets the process that reads the gate continue.
fn open(gate: &Path) {
    std::fs::write(gate, "go\n").unwrap();
}

// One test, because a signal reaches every run of this process.
#[tokio::test]
async fn a_state_from_its_first_plan_to_an_interrupt() {
    let fixture = Fixture::new();
    let (terraform, backend) = (&fixture.terraform, Backend::default());
    terraform.init(&backend, false, |_| ()).await.unwrap();
    assert_eq!(terraform.state().list().await.unwrap(), [""; 0]);

    // Plan, apply, read back.
    let plan = fixture.plan(&["a", "b"], "", "first").await.unwrap();
    assert!(plan.effective().all(|change| change.action == Action::Create));
    assert_eq!(plan.effective().count(), 2);
    assert!(plan.outputs.contains_key("names"));
    let (result, events) = fixture.apply("first").await;
    result.unwrap();
    let a = r#"terraform_data.item["a"]"#;
    assert!(
        events.contains(&Event::ApplyStart { address: a.to_owned(), action: Action::Create }),
        "{events:?}"
    );
    assert!(fixture.plan(&["a", "b"], "", "none").await.unwrap().is_empty());

    // The state changes after the plan was made.
    fixture.plan(&["a", "b", "c"], "", "old").await.unwrap();
    terraform.state().remove(&[r#"terraform_data.item["b"]"#.to_owned()]).await.unwrap();
    assert_eq!(terraform.state().list().await.unwrap(), [a]);
    assert!(matches!(fixture.apply("old").await.0, Err(TerraformError::StalePlan)));

    // Another run holds the lock.
    let gate = fixture.gate();
    let path = gate.display().to_string();
    fixture.plan(&["z"], &path, "slow").await.unwrap();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let mut begun = Some(begun);
    let slow = fixture.dir.path().join("slow");
    let (holding, blocked) = tokio::join!(
        async {
            has_begun.await.unwrap();
            let held = fixture.plan(&["z"], &path, "second").await.unwrap_err();
            let gate = gate.clone();
            tokio::task::spawn_blocking(move || open(&gate)).await.unwrap();
            held
        },
        terraform.apply(&slow, move |event| {
            if matches!(event, Event::ApplyStart { .. })
                && let Some(begun) = begun.take()
            {
                begun.send(()).unwrap();
            }
        }),
    );
    blocked.unwrap();
    let TerraformError::Locked { holder } = holding else { panic!("{holding}") };
    assert_eq!(holder.operation, "apply");
    assert!(holder.who.contains('@') && !holder.id.is_empty(), "{holder:?}");
    assert!(terraform.state().force_unlock(&holder.id).await.is_err(), "it is released already");

    // SIGTERM is sent to this process only. It is forwarded to terraform, which stops in an orderly way and releases the lock.
    std::fs::remove_file(&gate).unwrap();
    let gate = fixture.dir.path().join("gate-2");
    std::fs::rename(fixture.gate(), &gate).unwrap();
    fixture.plan(&["z"], &gate.display().to_string(), "interrupted").await.unwrap();
    let result = terraform
        .apply(&fixture.dir.path().join("interrupted"), |event| {
            if !is_provisioning(event) {
                return;
            }
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
        })
        .await;
    assert!(matches!(result, Err(TerraformError::Interrupted)), "{result:?}");
    // The started resource is in the state, and the lock is free.
    let left = terraform.state().list().await.unwrap();
    assert_eq!(left.len(), 2, "{left:?}");
    fixture.plan(&["z"], "", "after").await.unwrap();
}

/// Ctrl-C on a terminal: every process of the group gets SIGINT, once.
#[test]
fn ctrl_c_lets_terraform_finish() {
    // A signal to the group of the test run would end cargo and the shell, so the test starts itself in its own session.
    let itself = std::env::current_exe().unwrap();
    let said = Cmd::new(itself)
        .args(["--ignored", "--exact", "tests::ctrl_c_in_a_separate_session", "--nocapture"])
        .read()
        .unwrap();
    assert!(said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "signals its whole session; ctrl_c_lets_terraform_finish runs it"]
async fn ctrl_c_in_a_separate_session() {
    // If run by hand from a shell, it may already lead a group; that group is its own too.
    let _ = rustix::process::setsid();
    let fixture = Fixture::new();
    fixture.terraform.init(&Backend::default(), false, |_| ()).await.unwrap();
    let gate = fixture.gate().display().to_string();
    fixture.plan(&[], &gate, "plan").await.unwrap();
    let result = fixture
        .terraform
        .apply(&fixture.dir.path().join("plan"), |event| {
            if !is_provisioning(event) {
                return;
            }
            rustix::process::kill_current_process_group(rustix::process::Signal::INT).unwrap();
        })
        .await;
    assert!(matches!(result, Err(TerraformError::Interrupted)), "{result:?}");
    assert_eq!(fixture.terraform.state().list().await.unwrap().len(), 1);
    fixture.plan(&[], "", "after").await.unwrap();
}
