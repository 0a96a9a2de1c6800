//! `POST /predict` and `GET /info`, as Text Embeddings Inference has them.
//!
//! Where it takes a softmax in any case, this follows the model: labels that are judged each by itself get a sigmoid.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use keevo_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use crate::serve::http::{Api, Asked, Front, answer, fields, score, switch};
use crate::serve::moderator::{Call, Input, LongText, Scored};

pub(super) const API: Api = Api { place: 1, error };

const SHAPE: &str = "`inputs` must be a string, a pair of strings [string, string], or a batch of them, each in an \
                     array of its own: [[string], [string, string], ...]";

pub(super) async fn predict(State(front): State<Arc<Front>>, request: Request) -> Response {
    answer(&front, API, request, |asked| judge(&front, asked)).await
}

pub(super) async fn no_method() -> Response {
    super::no_method(API)
}

async fn judge(front: &Front, asked: Asked) -> Result<Value> {
    let moderator = front.moderator()?;
    let body = fields(&asked.body)?;
    let (is_batch, inputs) = inputs(body.get("inputs"))?;
    let raw = switch(body, "raw_scores")?;
    let long = if switch(body, "truncate")? { LongText::Truncate } else { LongText::Refuse };
    let call = Call { priority: asked.priority, timeout: asked.timeout, long };
    let scored = moderator.score(inputs, call).await?;
    let labels = &moderator.info().labels;
    let mut rows: Vec<Value> = scored.iter().map(|one| predictions(labels, one, raw)).collect();
    Ok(if is_batch { rows.into() } else { rows.pop().unwrap_or_else(|| json!([])) })
}

/// The labels with their scores, the highest first.
fn predictions(labels: &[String], scored: &Scored, raw: bool) -> Value {
    let scores = if raw { &scored.raw } else { &scored.probabilities };
    let mut pairs: Vec<(&String, f32)> = labels.iter().zip(scores.iter().copied()).collect();
    pairs.sort_by(|one, other| other.1.total_cmp(&one.1));
    pairs.into_iter().map(|(label, value)| json!({"score": score(value), "label": label})).collect()
}

/// Whether it is a batch, and what is in it.
fn inputs(inputs: Option<&Value>) -> Result<(bool, Vec<Input>)> {
    match inputs {
        Some(Value::String(one)) => Ok((false, vec![Input::from(one.clone())])),
        Some(Value::Array(many)) if many.is_empty() => Err(Error::invalid("`inputs` cannot be empty")),
        Some(Value::Array(many)) if many.iter().all(Value::is_array) => {
            Ok((true, many.iter().map(|one| sequence(one.as_array())).collect::<Result<Vec<_>>>()?))
        }
        Some(Value::Array(pair)) => Ok((false, vec![sequence(Some(pair))?])),
        _ => Err(Error::invalid(SHAPE)),
    }
}

fn sequence(parts: Option<&Vec<Value>>) -> Result<Input> {
    let wrong = || Error::invalid(SHAPE);
    let texts = parts.map(|parts| parts.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    match texts.flatten().ok_or_else(wrong)?.as_slice() {
        [one] => Ok(Input::from((*one).to_owned())),
        [one, other] => Ok(Input { text: (*one).to_owned(), pair: Some((*other).to_owned()) }),
        _ => Err(wrong()),
    }
}

/// The answer of `/info`.
pub(super) fn info(front: &Front) -> Result<Value> {
    let info = front.moderator()?.info();
    let options = &front.options;
    let ids: Map<String, Value> =
        info.labels.iter().enumerate().map(|(id, label)| (id.to_string(), label.clone().into())).collect();
    let labels: Map<String, Value> =
        info.labels.iter().enumerate().map(|(id, label)| (label.clone(), id.into())).collect();
    Ok(json!({
        "model_id": info.name,
        "model_sha": info.version,
        "model_dtype": info.dtype,
        "model_device": info.device,
        "model_type": {"classifier": {"id2label": ids, "label2id": labels}},
        "problem_type": if info.multi_label { "multi_label_classification" } else { "single_label_classification" },
        "max_concurrent_requests": options.queue_texts_max,
        "max_input_length": info.tokens_max,
        "max_batch_tokens": options.batch_tokens_max,
        "max_batch_requests": options.batch_texts_max,
        "max_client_batch_size": options.request_texts_max,
        "auto_truncate": false,
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

fn error(error: &Error) -> (StatusCode, Value) {
    let (status, kind) = match error.kind() {
        ErrorKind::Invalid if error.message().contains("empty") => (StatusCode::BAD_REQUEST, "Empty"),
        ErrorKind::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "Tokenizer"),
        ErrorKind::BatchTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Validation"),
        ErrorKind::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "Overloaded"),
        ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "Unhealthy"),
        ErrorKind::Unauthenticated => (StatusCode::UNAUTHORIZED, "Unauthorized"),
        ErrorKind::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "Backend"),
        _ => (StatusCode::FAILED_DEPENDENCY, "Backend"),
    };
    (status, json!({"error": error.message(), "error_type": kind}))
}
