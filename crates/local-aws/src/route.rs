//! Selects the service for a request.

use std::sync::Arc;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;

use crate::account::{Caller, CallerError};
use crate::app::App;
use crate::fault::Fault;
use crate::http::{Answer, header, query, read, set, value, with_body};
use crate::iam;
use crate::input::Input;
use crate::journal::Entry;
use crate::request::{CloseConnection, Recorder, note_caller, note_needs};
use crate::resource::Service;
use crate::time::{http_date, now_millis};
use crate::traffic::RequestBody;
use crate::xml::element;

pub(crate) async fn answer(app: Arc<App>, request: Request<Incoming>) -> Result<Answer, CloseConnection> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let mut recorder = Recorder::new(&app, &parts);
    let entry = &mut recorder.entry;
    let mut answer = if path.starts_with("/_local/") {
        crate::local::answer(&app, &parts, body).await
    } else if path == "/v2" || path.starts_with("/v2/") {
        crate::oci::answer(&app, &parts, body, entry).await?
    } else {
        aws(&app, &parts, body, entry).await
    };
    entry.status = answer.status().as_u16();
    if !entry.service.is_empty() {
        let request = format!("{} {} {}", entry.service, entry.action, entry.path);
        // The request has been executed: the journal records it even if the client no longer waits for the answer.
        drop(recorder);
        app.quirks.answers.hold(&request).await;
        if app.quirks.answers.drops(&request) {
            return Err(CloseConnection);
        }
    }
    set(&mut answer, "date", http_date(now_millis()));
    Ok(answer)
}

/// Handles a request to one of AWS's own services.
async fn aws(app: &Arc<App>, parts: &http::request::Parts, body: Incoming, entry: &mut Entry) -> Answer {
    let seen = app.traffic.seen();
    let body = RequestBody::new(body, seen.clone());
    let answer = if let Some(target) = header(parts, "x-amz-target").map(str::to_owned) {
        json(app, parts, body, &target, entry).await
    } else if parts.uri.path() == "/" && parts.method == Method::POST {
        query_api(app, parts, body, entry).await
    } else {
        crate::s3::answer(app, parts, body, entry).await
    };
    match seen {
        Some(seen) => app.traffic.note(parts, &seen, &entry.action, answer).await,
        None => answer,
    }
}

async fn json(
    app: &Arc<App>,
    parts: &http::request::Parts,
    mut body: RequestBody,
    target: &str,
    entry: &mut Entry,
) -> Answer {
    let (prefix, action) = target.rsplit_once('.').unwrap_or((target, ""));
    let service = crate::SERVICES.into_iter().find(|service| service.target == prefix);
    entry.service = service.map_or(prefix, |service| service.name).to_owned();
    entry.action = action.to_owned();
    let outcome = json_outcome(app, parts, &mut body, service, action, entry).await;
    let (status, document) = match outcome {
        Ok(document) => (StatusCode::OK, without_nulls(document)),
        Err(fault) => {
            entry.error.clone_from(&fault.code);
            let document = serde_json::json!({ "__type": fault.code, "message": fault.message });
            (fault.status, document)
        }
    };
    let mut answer = with_body(status, "application/x-amz-json-1.1", document.to_string());
    if let Some(code) = document["__type"].as_str() {
        set(&mut answer, "x-amzn-errortype", code);
    }
    set(&mut answer, "x-amzn-requestid", crate::store::new_id());
    answer
}

async fn json_outcome(
    app: &Arc<App>,
    parts: &http::request::Parts,
    body: &mut RequestBody,
    service: Option<&'static Service>,
    action: &str,
    entry: &mut Entry,
) -> Result<serde_json::Value, Fault> {
    // A layer part of 20 MiB is 27 MiB in base64.
    let bytes = read(body, 40 * 1024 * 1024).await?;
    let caller = Caller::of(parts, app).map_err(|none| none.fault())?;
    note_caller(entry, &caller);
    let document = if bytes.is_empty() { Ok(serde_json::json!({})) } else { serde_json::from_slice(&bytes) };
    let input = Input(document.map_err(|error| Fault::client("SerializationException", error.to_string()))?);
    let service = service.ok_or_else(|| Fault::not_implemented(&entry.service, action))?;
    let needs = service.needs(app, &caller, action, &input)?;
    note_needs(entry, &needs);
    iam::authorize(app, &caller.principal(), &needs)?;
    if app.quirks.throttles.at_random() {
        return Err(Fault::client("ThrottlingException", "Rate exceeded"));
    }
    let (app, action) = (Arc::clone(app), action.to_owned());
    // Handlers wait for the disk, so they must not run on the threads that serve connections.
    tokio::task::spawn_blocking(move || service.dispatch(&app, &caller, &action, &input))
        .await
        .unwrap_or_else(|error| {
            Err(Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "ServerException", error.to_string()))
        })
}

/// AWS leaves out members without a value.
fn without_nulls(mut document: serde_json::Value) -> serde_json::Value {
    if let Some(members) = document.as_object_mut() {
        members.retain(|_, value| !value.is_null());
        members.values_mut().for_each(|value| *value = without_nulls(value.take()));
    }
    if let Some(items) = document.as_array_mut() {
        items.iter_mut().for_each(|item| *item = without_nulls(item.take()));
    }
    document
}

async fn query_api(
    app: &Arc<App>,
    parts: &http::request::Parts,
    mut body: RequestBody,
    entry: &mut Entry,
) -> Answer {
    let outcome = query_outcome(app, parts, &mut body, entry).await;
    match outcome {
        Ok(document) => with_body(StatusCode::OK, "text/xml", document),
        Err(fault) => {
            entry.error.clone_from(&fault.code);
            // The query services drop the suffix and answer authentication errors with 403.
            let code = match fault.code.trim_end_matches("Exception") {
                "InvalidSignature" => "SignatureDoesNotMatch",
                code => code,
            };
            let status = match code {
                "ExpiredToken" | "SignatureDoesNotMatch" | "AccessDenied" | "MissingAuthenticationToken" => {
                    StatusCode::FORBIDDEN
                }
                _ => fault.status,
            };
            let namespace = match entry.service.as_str() {
                "cloudformation" => crate::cloudformation::NAMESPACE,
                "iam" => iam::api::NAMESPACE,
                _ => crate::sts::NAMESPACE,
            };
            let document = format!(
                "<ErrorResponse xmlns=\"{namespace}\"><Error><Type>{}</Type>{}{}</Error>{}</ErrorResponse>",
                if status.is_server_error() { "Receiver" } else { "Sender" },
                element("Code", code),
                element("Message", &fault.message),
                element("RequestId", &crate::store::new_id()),
            );
            with_body(status, "text/xml", document)
        }
    }
}

async fn query_outcome(
    app: &Arc<App>,
    parts: &http::request::Parts,
    body: &mut RequestBody,
    entry: &mut Entry,
) -> Result<String, Fault> {
    let bytes = read(body, 1024 * 1024).await?;
    let mut form: Vec<(String, String)> = url::form_urlencoded::parse(&bytes).into_owned().collect();
    form.extend(query(parts));
    let action = value(&form, "Action").unwrap_or_default().to_owned();
    let caller = match Caller::of(parts, app) {
        Err(CallerError::Unsigned) if action == crate::sts::UNSIGNED => Ok(Caller::anonymous(app)),
        caller => caller,
    };
    entry.service = match &caller {
        Ok(caller) => caller.service.clone(),
        // An expired key's header still contains the service, but was not parsed further.
        Err(_) => "sts".to_owned(),
    };
    entry.action.clone_from(&action);
    let caller = caller.map_err(|none: CallerError| none.fault())?;
    note_caller(entry, &caller);
    let (needs, handler) = match caller.service.as_str() {
        "sts" => crate::sts::find(&action)?,
        "cloudformation" => crate::cloudformation::find(&action)?,
        "iam" => iam::api::find(&action)?,
        other => return Err(Fault::not_implemented(other, &action)),
    };
    let needs = needs(&caller, &form);
    note_needs(entry, &needs);
    iam::authorize(app, &caller.principal(), &needs)?;
    if app.quirks.throttles.at_random() {
        return Err(Fault::client("Throttling", "Rate exceeded"));
    }
    handler(app, &caller, &form)
}
