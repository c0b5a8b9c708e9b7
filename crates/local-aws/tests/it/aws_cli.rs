//! The aws CLI, with its own code for requests and answers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::common::Local;
use crate::common::programs::{aws_environment, command, installed, missing};
use reqwest::Method;
use serde_json::{Value, json};

/// Loads the CLI once (most of the cost of a short command) and runs each command in its own process.
const COMMANDS: &str = "\
import json, os, sys, tempfile
from awscli.clidriver import main
for line in sys.stdin:
    files = [tempfile.TemporaryFile(), tempfile.TemporaryFile()]
    child = os.fork()
    if child == 0:
        code = 255
        try:
            os.dup2(files[0].fileno(), 1)
            os.dup2(files[1].fileno(), 2)
            sys.argv = ['aws', *json.loads(line)]
            code = main() or 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    said = []
    for file in files:
        file.seek(0)
        said.append(file.read().decode())
    print(json.dumps([os.waitstatus_to_exitcode(status), *said]), flush=True)
";

/// The aws CLI, loaded.
struct Cli {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Cli {
    fn start(python: &Path, url: &str) -> Self {
        let mut python = command(python, &aws_environment(url));
        python.args(["-c", COMMANDS]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().unwrap();
        let (commands, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, commands, answers: BufReader::new(answers) }
    }

    /// Exit code, stdout and stderr of a command.
    fn output(&mut self, arguments: &[&str]) -> (i64, String, String) {
        writeln!(self.commands, "{}", json!(arguments)).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("aws {arguments:?}: {error}"))
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_cli_parses_every_answer() {
    let Some(python) = installed("python").filter(|_| installed("aws").is_some()) else {
        return missing("the aws CLI is not in target/python");
    };
    let local = Local::start();
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("file");
    std::fs::write(&file, "hello").unwrap();
    let file = file.to_str().unwrap();
    let cli = std::cell::RefCell::new(Cli::start(&python, &local.url));
    let output = |line: &str| {
        let words = line.split(' ').map(|word| if word == "FILE" { file } else { word });
        let words: Vec<&str> = words.chain(["--output", "json"]).collect();
        cli.borrow_mut().output(&words)
    };
    let run = |line: &str| -> Value {
        let (code, stdout, stderr) = output(line);
        assert_eq!(code, 0, "aws {line}: {stdout}{stderr}");
        serde_json::from_str(&stdout).unwrap_or(Value::Null)
    };
    let refused = |line: &str, code: &str| {
        let (exit_code, stdout, stderr) = output(line);
        assert_ne!(exit_code, 0, "aws {line}");
        let said = stdout + &stderr;
        assert!(said.contains(code), "aws {line}: {said}");
    };
    assert_eq!(run("sts get-caller-identity")["Account"], "123456789012");
    let key = run("kms create-key --description ecr")["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned();
    run(&format!("kms create-alias --alias-name alias/ecr/mainline-htc --target-key-id {key}"));
    run(&format!("kms enable-key-rotation --key-id {key}"));
    assert_eq!(run("kms list-aliases")["Aliases"][0]["AliasName"], "alias/ecr/mainline-htc");
    run(
        "ecr create-repository --repository-name curl --encryption-configuration encryptionType=KMS,kmsKey=alias/ecr/mainline-htc",
    );
    refused("ecr create-repository --repository-name curl", "RepositoryAlreadyExistsException");
    refused("ecr start-image-scan --repository-name curl --image-id imageTag=1", "NotImplemented");
    local.caller().registry().await.image("curl", "1", b"layer").await;
    let images = run("ecr describe-images --repository-name curl");
    assert_eq!(images["imageDetails"][0]["imageTags"], json!(["1"]));
    // A time that the CLI can read, and no longer a number.
    assert!(images["imageDetails"][0]["imagePushedAt"].to_string().starts_with(['"', '1']), "{images}");
    refused("ecr delete-repository --repository-name curl", "RepositoryNotEmptyException");
    run("ecr put-image-tag-mutability --repository-name curl --image-tag-mutability MUTABLE_WITH_EXCLUSION \
         --image-tag-mutability-exclusion-filters filterType=WILDCARD,filter=*-sha256-*");
    run("ecr create-pull-through-cache-rule --ecr-repository-prefix quay --upstream-registry-url quay.io");
    assert_eq!(
        run("ecr describe-pull-through-cache-rules")["pullThroughCacheRules"][0]["upstreamRegistryUrl"],
        "quay.io"
    );
    assert_eq!(run("ecr get-account-setting --name BLOB_MOUNTING")["value"], "DISABLED");
    let many = run("ecr describe-repositories --page-size 1");
    assert_eq!(many["repositories"].as_array().unwrap().len(), 1);
    let data = run("ecr get-authorization-token");
    assert_eq!(data["authorizationData"][0]["proxyEndpoint"], json!(local.url));

    run("s3api create-bucket --bucket state --create-bucket-configuration LocationConstraint=eu-west-1");
    run("s3api put-bucket-versioning --bucket state --versioning-configuration Status=Enabled");
    assert_eq!(run("s3api get-bucket-versioning --bucket state")["Status"], "Enabled");
    assert_eq!(run("s3api head-bucket --bucket state")["BucketRegion"], "eu-west-1");
    let put = run("s3api put-object --bucket state --key a --body FILE --if-none-match *");
    assert!(put["VersionId"].is_string());
    refused("s3api put-object --bucket state --key a --body FILE --if-none-match *", "PreconditionFailed");
    run("s3 cp FILE s3://state/b/c");
    let listed = run("s3api list-objects-v2 --bucket state");
    assert_eq!(listed["Contents"].as_array().unwrap().len(), 2);
    run("s3 rm s3://state --recursive");
    let versions = run("s3api list-object-versions --bucket state");
    assert_eq!(versions["DeleteMarkers"].as_array().unwrap().len(), 2);
    let block = run("s3api get-public-access-block --bucket state");
    assert_eq!(block["PublicAccessBlockConfiguration"]["BlockPublicPolicy"], true);
    refused("s3api get-bucket-policy --bucket state", "NoSuchBucketPolicy");
    let stack =
        json!({ "name": "mainline", "region": "eu-west-1", "outputs": { "ImageTFStateBucketID": "state" } });
    local.local(Method::POST, "stacks", Some(stack)).await;
    let stacks = run("cloudformation describe-stacks --stack-name mainline");
    assert_eq!(stacks["Stacks"][0]["Outputs"][0]["OutputValue"], "state");
    refused("cloudformation describe-stacks --stack-name other", "ValidationError");
}
