//! A correct call passes; each kind of mistake is found and named.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use service_models::{Checked, Exchange, Models, Side};
use tempfile::TempDir;

/// Small models in botocore's format.
fn models() -> (TempDir, Models) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("ecr", include_str!("models/ecr.json")),
        ("sts", include_str!("models/sts.json")),
        ("s3", include_str!("models/s3.json")),
    ] {
        let place = dir.path().join(name).join("2026-01-01");
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("service-2.json"), text).unwrap();
    }
    let models = Models::at(dir.path().to_owned());
    (dir, models)
}

fn headers(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn signed(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=k/20260101/eu-west-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
}

/// The mistakes found in a call of ECR.
fn ecr(input: &str, status: u16, output: &str) -> String {
    let json = "application/x-amz-json-1.1";
    let exchange = Exchange {
        method: "POST".into(),
        target: "/".into(),
        headers: headers(&[
            ("x-amz-target", "AmazonEC2ContainerRegistry_V20150921.Put"),
            ("content-type", json),
            ("user-agent", "someone/1.0 more"),
        ]),
        body: Some(input.into()),
        status,
        answer_headers: headers(&[("content-type", json), ("x-amzn-requestid", "1")]),
        answer_body: Some(output.into()),
    };
    problems(&exchange)
}

fn problems(exchange: &Exchange) -> String {
    let (_dir, models) = models();
    let found = models.check(exchange).unwrap();
    found.iter().map(|mismatch| format!("{mismatch}\n")).collect()
}

const NAMES: &str = r#"{"names":["ab"]}"#;

#[test]
fn a_valid_call_passes() {
    let input = r#"{"name":"ab-cd","kind":"KMS","count":3,"part":"YWI="}"#;
    let output = r#"{"names":["ab","cd.ef"],"digest":"sha256:0f","tags":{"ab":"x"},"created":1.5,"on":true}"#;
    assert_eq!(ecr(input, 200, output), "");
    assert_eq!(ecr(input, 400, r#"{"__type":"NotFoundException","message":"no"}"#), "");
    assert_eq!(ecr(input, 400, r#"{"__type":"com.amazonaws#ThrottlingException","Message":"no"}"#), "");
    assert_eq!(ecr(input, 500, r#"{"__type":"ServerException","message":"no"}"#), "");
}

#[test]
fn each_wrong_member_of_a_response_is_found() {
    for (output, words) in [
        ("{}", "the required member names is missing"),
        (r#"{"names":["ab"],"extra":1}"#, "the model has no member extra"),
        (r#"{"names":["ab"],"digest":null}"#, "/digest: a string is wanted, this is null"),
        (r#"{"names":["Ab"]}"#, r#"/names[]: "Ab" does not fit the pattern"#),
        (r#"{"names":["ab!"]}"#, r#""ab!" does not fit the pattern"#),
        (r#"{"names":["a"]}"#, "is shorter (1) than 2"),
        (r#"{"names":["abcdefghi"]}"#, "is longer (9) than 8"),
        (r#"{"names":["ab","ab","ab"]}"#, "/names: is longer (3) than 2"),
        (r#"{"names":"ab"}"#, "a list is wanted, this is a text"),
        (r#"{"names":["ab"],"created":"2026-01-01T00:00:00Z"}"#, "a timestamp is wanted, this is a text"),
        (r#"{"names":["ab"],"on":"true"}"#, "a boolean is wanted, this is a text"),
        (r#"{"names":["ab"],"tags":{"A":"x"}}"#, "/tags{}"),
        ("<Put/>", "the body is no JSON"),
    ] {
        let found = ecr(r#"{"name":"ab"}"#, 200, output);
        assert!(found.contains("ecr Put, answer: ") && found.contains(words), "{output}: {found}");
    }
}

#[test]
fn each_wrong_refusal_is_found() {
    for (status, output, words) in [
        (400, r#"{"__type":"NoSuchException","message":"no"}"#, "does not end with NoSuchException (400)"),
        (501, r#"{"__type":"NotImplemented","message":"no"}"#, "does not end with NotImplemented (501)"),
        (404, r#"{"__type":"NotFoundException","message":"no"}"#, "comes with [400], not with 404"),
        (400, r#"{"__type":"ServerException","message":"no"}"#, "comes with [500], not with 400"),
        (400, r#"{"__type":"NotFoundException","Message":"no"}"#, "the model has no member Message"),
        (
            400,
            r#"{"__type":"ThrottlingException","message":"a","Message":"a"}"#,
            "other members than a message",
        ),
        (400, r#"{"message":"no"}"#, "has no __type"),
    ] {
        let found = ecr(r#"{"name":"ab"}"#, status, output);
        assert!(found.contains("answer: ") && found.contains(words), "{output}: {found}");
    }
}

#[test]
fn each_wrong_request_is_found_with_its_client() {
    for (input, words) in [
        ("{}", "the required member name is missing"),
        (r#"{"name":"ab","kind":"kms"}"#, r#"/kind: "kms" is none of KMS, AES256"#),
        (r#"{"name":"ab","count":0}"#, "/count: 0 is out of range"),
        (r#"{"name":"ab","count":1.5}"#, "a integer is wanted, this is a number"),
        (r#"{"name":"ab","part":"YWJjZGU="}"#, "/part: is longer (5) than 4"),
        (r#"{"name":"ab","part":"?"}"#, "/part: is no base64"),
        (r#"{"name":"ab","more":1}"#, "the model has no member more"),
        ("[]", "a structure is wanted, this is a list"),
    ] {
        let found = ecr(input, 200, NAMES);
        let who = "(asked by someone/1.0)";
        assert!(
            found.contains("request: ") && found.contains(words) && found.contains(who),
            "{input}: {found}"
        );
    }
    let exchange = Exchange {
        method: "POST".into(),
        target: "/".into(),
        headers: headers(&[("x-amz-target", "AmazonEC2ContainerRegistry_V20150921.Take")]),
        ..Exchange::default()
    };
    assert!(problems(&exchange).contains("the model has no operation Take"));
}

const EMPTY: &str = "<AssumeRoleResult/>";

/// The mistakes found in a call of STS; `inner` is below the answer's root.
fn sts(form: &str, inner: &str) -> String {
    let answer = format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">{inner}<ResponseMetadata><RequestId>1</RequestId>\
         </ResponseMetadata></AssumeRoleResponse>"
    );
    sts_answer(form, 200, &answer)
}

fn sts_answer(form: &str, status: u16, answer: &str) -> String {
    problems(&Exchange {
        method: "POST".into(),
        target: "/".into(),
        headers: headers(&[("authorization", &signed("sts"))]),
        body: Some(format!("Action=AssumeRole&Version=2011-06-15&{form}")),
        status,
        answer_headers: Vec::new(),
        answer_body: Some(answer.into()),
    })
}

#[test]
fn forms_and_their_answers() {
    const ROLE: &str = "RoleArn=arn:aws:iam::123456789012:role/ops";
    let whole = "<AssumeRoleResult><Credentials><AccessKeyId>KEY</AccessKeyId><Expiration>2026-01-01T00:00:00Z</Expiration>\
                 </Credentials></AssumeRoleResult>";
    let form = format!(
        "{ROLE}&DurationSeconds=900&Tags.member.1.Key=abc&Tags.member.2.Key=def&Tags.member.2.Value=ghi"
    );
    assert_eq!(sts(&form, whole), "");
    for (form, words) in [
        ("RoleArn=short", "/RoleArn: is shorter (5) than 20"),
        ("", "the required member RoleArn is missing"),
        (&format!("{ROLE}&DurationSeconds=x"), "a integer is wanted"),
        (&format!("{ROLE}&Tags.member.1.Value=abc"), "/Tags[]: the required member Key is missing"),
        (&format!("{ROLE}&Policy=x"), "the model has no field Policy"),
    ] {
        let found = sts(form, EMPTY);
        assert!(found.contains("request: ") && found.contains(words), "{form}: {found}");
    }
    for (inner, words) in [
        ("", "there is no <AssumeRoleResult>"),
        ("<AssumeRoleResult><Other/></AssumeRoleResult>", "the model has no element <Other>"),
        ("<AssumeRoleResult><Credentials/></AssumeRoleResult>", "the required member AccessKeyId is missing"),
        (&whole.replace("2026-01-01T00:00:00Z", "yesterday"), "a time as iso8601 is wanted"),
        (&whole.replace("KEY", "<Key/>"), "found where a text is expected"),
    ] {
        let found = sts(ROLE, inner);
        assert!(found.contains("answer: ") && found.contains(words), "{inner}: {found}");
    }
    let refusal = |namespace: &str, code: &str| {
        format!(
            "<ErrorResponse{namespace}><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error><RequestId>1</RequestId></ErrorResponse>"
        )
    };
    let space = " xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"";
    assert_eq!(sts_answer(ROLE, 400, &refusal(space, "ExpiredTokenException")), "");
    assert_eq!(sts_answer(ROLE, 403, &refusal(space, "AccessDenied")), "");
    assert!(sts_answer(ROLE, 403, &refusal("", "AccessDenied")).contains("the namespace is None"));
    assert!(sts_answer(ROLE, 400, &refusal(space, "NoSuch")).contains("does not end with NoSuch"));
}

/// The mistakes found in a call of S3.
fn s3(
    request: &str,
    sent: &[(&str, &str)],
    body: &str,
    status: u16,
    got: &[(&str, &str)],
    answer: &str,
) -> String {
    let (method, target) = request.split_once(' ').unwrap();
    let authorization = signed("s3");
    let sent: Vec<_> = [("authorization", authorization.as_str())].iter().chain(sent).copied().collect();
    problems(&Exchange {
        method: method.into(),
        target: target.into(),
        headers: headers(&sent),
        body: Some(body.into()),
        status,
        answer_headers: headers(got),
        answer_body: Some(answer.into()),
    })
}

#[test]
fn documents_and_headers_of_s3() {
    const LIST: &str = "GET /state?list-type=2";
    let list = |inner: &str| {
        format!(
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{inner}</ListBucketResult>"
        )
    };
    let contents = "<Contents><Key>a</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>";
    let whole = list(&format!("<Name>state</Name><KeyCount>2</KeyCount>{contents}{contents}"));
    assert_eq!(s3(LIST, &[], "", 200, &[("x-amz-request-id", "1")], &whole), "");
    for (answer, words) in [
        (list("<KeyCount>two</KeyCount>"), "a integer is wanted"),
        (list("<Count>2</Count>"), "the model has no element <Count>"),
        (list("<Contents><Key></Key></Contents>"), "/Contents[]/Key: is shorter (0) than 1"),
        (list("<Name>a</Name><Name>b</Name>"), "/Name: appears twice"),
        (whole.replace("ListBucketResult", "List"), "the root is <List>, not <ListBucketResult>"),
        ("<a>".to_owned(), "the body is no XML"),
    ] {
        let found = s3(LIST, &[], "", 200, &[], &answer);
        assert!(found.contains("s3 ListObjectsV2, answer: ") && found.contains(words), "{answer}: {found}");
    }
    let get = |sent: &[(&str, &str)], got: &[(&str, &str)]| {
        s3("GET /state/a%2Bb?versionId=1", sent, "", 200, got, "any bytes")
    };
    let modified = ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT");
    assert_eq!(get(&[("if-match", "\"x\"")], &[modified, ("x-amz-server-side-encryption", "aws:kms")]), "");
    assert!(
        get(&[], &[("x-amz-server-side-encryption", "rot13")])
            .contains("\"rot13\" is none of AES256, aws:kms")
    );
    assert!(
        get(&[], &[("x-amz-more", "1")]).contains("answer: the document: the model has no header x-amz-more")
    );
    assert!(get(&[], &[("last-modified", "2026-01-01")]).contains("a time as rfc822 is wanted"));
    assert!(
        get(&[("x-amz-more", "1")], &[])
            .contains("request: the document: the model has no header x-amz-more")
    );
    assert!(s3("GET /state/a?more=1", &[], "", 200, &[], "").contains("the model has no query more"));
    assert!(s3("DELETE /state/a", &[], "", 200, &[], "").contains("the status is 200, not 204"));

    let put = |sum: &[(&str, &str)], body: &str| s3("PUT /state?versioning", sum, body, 200, &[], "");
    let sum = [("content-md5", "x")];
    let enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(put(&sum, enabled), "");
    assert!(put(&[], enabled).contains("a checksum is required"));
    assert!(put(&sum, &enabled.replace("Enabled", "On")).contains("\"On\" is none of Enabled, Suspended"));
    assert!(put(&sum, "").contains("the required member VersioningConfiguration is missing"));

    let refusal = |code: &str| {
        format!("<Error><Code>{code}</Code><Message>no</Message><RequestId>1</RequestId></Error>")
    };
    assert_eq!(s3("GET /state/a", &[], "", 404, &[], &refusal("NoSuchKey")), "");
    assert_eq!(s3("GET /state/a", &[], "", 304, &[], ""), "");
    assert!(
        s3("GET /state/a", &[], "", 403, &[], &refusal("NoSuchKey"))
            .contains("comes with [404], not with 403")
    );
    assert!(s3("GET /state/a", &[], "", 404, &[], &refusal("Gone")).contains("does not end with Gone (404)"));
    assert!(s3("PUT /state/a", &[], "", 200, &[], "").contains("the model has no such operation"));
}

#[test]
fn a_log_is_counted_by_caller_and_each_mismatch_once() {
    let (_dir, models) = models();
    let line = r#"{"method":"POST","target":"/","headers":[["x-amz-target","AmazonEC2ContainerRegistry_V20150921.Put"],["content-type","application/x-amz-json-1.1"],["user-agent","a/1"]],"body":"{}","status":200,"answer_headers":[["content-type","application/x-amz-json-1.1"],["x-amzn-requestid","1"]],"answer_body":"{\"names\":[]}"}"#;
    let checked = Checked::log(&models, &format!("{line}\n{line}\n{{\"cut")).unwrap();
    assert_eq!(checked.callers.into_iter().collect::<Vec<_>>(), [("a/1".to_owned(), 2)]);
    let wrong = Checked::log(&models, &format!("{line}\n{line}\n")).unwrap();
    assert_eq!(
        wrong.text(None),
        "2 x ecr Put, request: the document: the required member name is missing (asked by a/1)\n"
    );
    assert_eq!(wrong.text(Some(Side::Answer)), "");
    let missing = Models::at(std::path::PathBuf::from("/nowhere"));
    assert!(Checked::log(&missing, line).is_err());
}
