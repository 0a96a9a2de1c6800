//! `POST /v1/moderations`, as OpenAI's clients ask and read it.
//!
//! The answer has OpenAI's categories, filled from the model's labels by [`CATEGORIES`]; what the model has no label
//! for scores 0 and is never flagged. The model's own labels stand beside them under their own names, and the version of
//! its weights beside its name.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use keevo_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use crate::serve::http::{Api, Asked, Front, answer, fields, score, text};
use crate::serve::moderator::{Call, Input, LongText, Moderator, Scored};

pub(super) const API: Api = Api { place: 0, error };

/// The names under which OpenAI's clients may ask for the model.
const ALIASES: [&str; 6] = [
    "omni-moderation-latest",
    "omni-moderation-2024-09-26",
    "text-moderation-latest",
    "text-moderation-stable",
    "text-moderation-007",
    "default",
];

/// OpenAI's categories, and the labels of ours that each is the largest of.
const CATEGORIES: [(&str, &[&str]); 13] = [
    ("harassment", &["toxic", "toxicity", "insult"]),
    ("harassment/threatening", &["threat"]),
    ("hate", &["identity_hate", "identity_attack", "hate"]),
    ("hate/threatening", &[]),
    ("illicit", &[]),
    ("illicit/violent", &[]),
    ("self-harm", &[]),
    ("self-harm/instructions", &[]),
    ("self-harm/intent", &[]),
    ("sexual", &["sexual_explicit"]),
    ("sexual/minors", &[]),
    ("violence", &["threat"]),
    ("violence/graphic", &[]),
];

pub(super) async fn moderations(State(front): State<Arc<Front>>, request: Request) -> Response {
    answer(&front, API, request, |asked| judge(&front, asked)).await
}

pub(super) async fn no_method() -> Response {
    super::no_method(API)
}

async fn judge(front: &Front, asked: Asked) -> Result<Value> {
    let moderator = front.moderator()?;
    let body = fields(&asked.body)?;
    check_model(body.get("model"), moderator)?;
    let inputs = inputs(body.get("input"))?;
    // One object with several parts is one text to judge; each string is one.
    let sizes: Vec<usize> = inputs.iter().map(Vec::len).collect();
    let flat = inputs.into_iter().flatten().map(Input::from).collect();
    let call = Call { priority: asked.priority, timeout: asked.timeout, long: LongText::Windows };
    let mut scored = moderator.score(flat, call).await?.into_iter();
    let results: Vec<Value> =
        sizes.into_iter().map(|size| result(moderator, &scored.by_ref().take(size).collect::<Vec<_>>())).collect();
    let id = format!("modr-{:032x}", front.random.next_u128());
    let info = moderator.info();
    Ok(json!({"id": id, "model": info.name, "model_version": info.version, "results": results}))
}

fn check_model(model: Option<&Value>, moderator: &Moderator) -> Result<()> {
    let Some(model) = model.filter(|model| !model.is_null()) else { return Ok(()) };
    let model = text(model, "model")?;
    if model == moderator.info().name || ALIASES.contains(&model) {
        return Ok(());
    }
    let message = format!("there is no model `{model}` here; leave `model` out or say `{}`", moderator.info().name);
    Err(Error::new(ErrorKind::NotFound, message))
}

/// The texts of each thing to judge.
fn inputs(input: Option<&Value>) -> Result<Vec<Vec<String>>> {
    match input {
        Some(Value::String(one)) => Ok(vec![vec![one.clone()]]),
        Some(Value::Array(many)) if many.iter().any(Value::is_object) => {
            Ok(vec![many.iter().map(part).collect::<Result<Vec<String>>>()?])
        }
        Some(Value::Array(many)) => {
            many.iter().map(|one| Ok(vec![text(one, "input")?.to_owned()])).collect::<Result<Vec<_>>>()
        }
        _ => Err(Error::invalid("`input` must be a string, an array of strings, or an array of text parts")),
    }
}

fn part(part: &Value) -> Result<String> {
    match part.get("type").and_then(Value::as_str) {
        Some("text") => {
            let missing = || Error::invalid("a part of type `text` must have a `text`");
            Ok(text(part.get("text").ok_or_else(missing)?, "text")?.to_owned())
        }
        Some("image_url") => Err(Error::invalid("images are not judged here: leave parts of type `image_url` out")),
        _ => Err(Error::invalid("each part of `input` must be an object of type `text`")),
    }
}

/// What is said of one thing: the worst of its parts.
fn result(moderator: &Moderator, parts: &[Scored]) -> Value {
    let labels = &moderator.info().labels;
    let rows: Vec<Vec<f32>> = parts.iter().map(|part| part.probabilities.clone()).collect();
    let worst = crate::serve::windows::largest(&rows);
    let of = |label: &str| labels.iter().zip(&worst).find(|(name, _)| *name == label).map(|(_, value)| *value);
    let (mut categories, mut scores, mut applied) = (Map::new(), Map::new(), Map::new());
    for (category, ours) in CATEGORIES {
        let known: Vec<(&str, f32)> = ours.iter().filter_map(|label| of(label).map(|value| (*label, value))).collect();
        let flagged = known.iter().any(|(label, value)| *value >= moderator.options.threshold_of(label));
        let largest = known.iter().map(|(_, value)| *value).fold(0.0, f32::max);
        categories.insert(category.to_owned(), flagged.into());
        scores.insert(category.to_owned(), score(largest));
        applied.insert(category.to_owned(), if known.is_empty() { json!([]) } else { json!(["text"]) });
    }
    let mut flagged = false;
    for (label, value) in labels.iter().zip(&worst) {
        let over = *value >= moderator.options.threshold_of(label);
        flagged |= over;
        categories.entry(label.clone()).or_insert(over.into());
        scores.entry(label.clone()).or_insert_with(|| score(*value));
    }
    json!({
        "flagged": flagged,
        "categories": categories,
        "category_scores": scores,
        "category_applied_input_types": applied,
    })
}

fn error(error: &Error) -> (StatusCode, Value) {
    let row = error.kind().row();
    let (status, kind, code) = match error.kind() {
        ErrorKind::NotFound => (404, "invalid_request_error", Some("model_not_found")),
        ErrorKind::Unauthenticated => (401, "invalid_request_error", Some("invalid_api_key")),
        ErrorKind::ResourceExhausted => (429, "requests", Some("rate_limit_exceeded")),
        _ if row.http_status < 500 => (row.http_status, "invalid_request_error", None),
        _ => (row.http_status, "server_error", None),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, json!({"error": {"message": error.message(), "type": kind, "param": null, "code": code}}))
}
