//! `POST /v1alpha1/comments:analyze`, in the shape of the Perspective API, whose users need another home.
//!
//! Attributes are the model's labels under Perspective's names ([`ATTRIBUTES`]); a label may also be asked for by its
//! own name in capitals. Texts are judged in English only.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use keevo_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use crate::serve::http::{Api, Asked, Front, answer, fields, score, switch, text};
use crate::serve::moderator::{Call, Input, LongText, Moderator};

pub(super) const API: Api = Api { place: 2, error };

/// Perspective's attributes, each with the labels that it may be called here.
const ATTRIBUTES: [(&str, &[&str]); 7] = [
    ("TOXICITY", &["toxic", "toxicity"]),
    ("SEVERE_TOXICITY", &["severe_toxic", "severe_toxicity"]),
    ("IDENTITY_ATTACK", &["identity_hate", "identity_attack"]),
    ("INSULT", &["insult"]),
    ("PROFANITY", &["obscene"]),
    ("THREAT", &["threat"]),
    ("SEXUALLY_EXPLICIT", &["sexual_explicit"]),
];

pub(super) async fn analyze(State(front): State<Arc<Front>>, request: Request) -> Response {
    answer(&front, API, request, |asked| judge(&front, asked)).await
}

pub(super) async fn no_method() -> Response {
    super::no_method(API)
}

async fn judge(front: &Front, asked: Asked) -> Result<Value> {
    let moderator = front.moderator()?;
    let body = fields(&asked.body)?;
    let comment = body.get("comment").and_then(|comment| comment.get("text"));
    let comment = text(comment.ok_or_else(|| Error::invalid("`comment.text` is missing"))?, "comment.text")?;
    let attributes = attributes(body.get("requestedAttributes"), moderator)?;
    check_languages(body.get("languages"))?;
    let spans = switch(body, "spanAnnotations")?;
    let call = Call { priority: asked.priority, timeout: asked.timeout, long: LongText::Windows };
    let scored = moderator.score(vec![Input::from(comment.to_owned())], call).await?;
    let probabilities = scored.first().map(|one| one.probabilities.as_slice()).unwrap_or_default();
    let mut scores = Map::new();
    for (name, place, threshold) in attributes {
        let value = probabilities.get(place).copied().unwrap_or_default();
        if f64::from(value) < threshold {
            continue;
        }
        let shown = json!({"value": score(value), "type": "PROBABILITY"});
        let mut attribute = Map::new();
        if spans {
            let end = comment.encode_utf16().count();
            attribute.insert("spanScores".to_owned(), json!([{"begin": 0, "end": end, "score": &shown}]));
        }
        attribute.insert("summaryScore".to_owned(), shown);
        scores.insert(name, Value::Object(attribute));
    }
    let mut answer = Map::new();
    answer.insert("attributeScores".to_owned(), Value::Object(scores));
    answer.insert("languages".to_owned(), json!(["en"]));
    answer.insert("detectedLanguages".to_owned(), json!(["en"]));
    if let Some(token) = body.get("clientToken") {
        answer.insert("clientToken".to_owned(), json!(text(token, "clientToken")?));
    }
    Ok(Value::Object(answer))
}

/// The attributes asked for, each with the place of its label and the score below which it is left out.
fn attributes(asked: Option<&Value>, moderator: &Moderator) -> Result<Vec<(String, usize, f64)>> {
    let asked = asked.and_then(Value::as_object).filter(|asked| !asked.is_empty());
    let asked = asked.ok_or_else(|| Error::invalid("`requestedAttributes` must name at least one attribute"))?;
    let labels = &moderator.info().labels;
    let mut found = Vec::new();
    for (name, options) in asked {
        let plain = name.strip_suffix("_EXPERIMENTAL").unwrap_or(name);
        let ours = ATTRIBUTES.iter().find(|(known, _)| *known == plain).map(|(_, ours)| *ours).unwrap_or_default();
        let is_it = |label: &String| ours.contains(&label.as_str()) || label.eq_ignore_ascii_case(plain);
        let place = labels.iter().position(is_it).ok_or_else(|| {
            let known: Vec<String> = labels.iter().map(|label| label.to_uppercase()).collect();
            Error::invalid(format!("attribute {name} is not judged here; the labels are {}", known.join(", ")))
        })?;
        if options.get("scoreType").is_some_and(|kind| kind != "PROBABILITY") {
            return Err(Error::invalid(format!("the scoreType of {name} must be PROBABILITY")));
        }
        let threshold = match options.get("scoreThreshold") {
            None | Some(Value::Null) => 0.0,
            Some(value) => {
                let wrong = || Error::invalid(format!("the scoreThreshold of {name} must be a number"));
                value.as_f64().ok_or_else(wrong)?
            }
        };
        found.push((name.clone(), place, threshold));
    }
    Ok(found)
}

fn check_languages(languages: Option<&Value>) -> Result<()> {
    let Some(languages) = languages.filter(|languages| !languages.is_null()) else { return Ok(()) };
    let wrong = || Error::invalid("`languages` must be an array of language codes");
    for language in languages.as_array().ok_or_else(wrong)? {
        let language = language.as_str().ok_or_else(wrong)?;
        if language.split('-').next() != Some("en") {
            let message = format!("texts are judged in English only, not in `{language}`; leave `languages` out");
            return Err(Error::invalid(message));
        }
    }
    Ok(())
}

fn error(error: &Error) -> (StatusCode, Value) {
    let (status, name) = match error.kind() {
        ErrorKind::Invalid | ErrorKind::BatchTooLarge => (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"),
        ErrorKind::Unauthenticated => (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
        ErrorKind::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED"),
        ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        ErrorKind::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
    };
    let mut body = Map::new();
    body.insert("code".to_owned(), json!(status.as_u16()));
    body.insert("message".to_owned(), json!(error.message()));
    body.insert("status".to_owned(), json!(name));
    let reason = match error.kind() {
        ErrorKind::BatchTooLarge => Some("COMMENT_TOO_LONG"),
        ErrorKind::Invalid if error.message().contains("is empty") => Some("COMMENT_EMPTY"),
        ErrorKind::Invalid if error.message().contains("English only") => Some("LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"),
        _ => None,
    };
    if let Some(reason) = reason {
        let kind = "type.googleapis.com/google.commentanalyzer.v1alpha1.Error";
        body.insert("details".to_owned(), json!([{"@type": kind, "errorType": reason}]));
    }
    (status, json!({ "error": body }))
}
