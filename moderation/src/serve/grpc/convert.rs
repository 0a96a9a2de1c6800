//! Messages of `keevo.moderation.v1`, and what they mean to the moderator.
//!
//! Invariant: strict. A choice that is not known is `Invalid`, never a default.

use std::time::Duration;

use keevo_core::{Error, Result};
use keevo_proto::moderation::v1 as pb;

use crate::serve::moderator::{Call, Input, LongText, Moderator, Scored};
use crate::serve::queue::Priority;

/// How a request is to be judged.
pub(super) fn call(request: &pb::ClassifyRequest) -> Result<Call> {
    let priority = match pb::Priority::try_from(request.priority) {
        Ok(pb::Priority::Unspecified | pb::Priority::Realtime) => Priority::Realtime,
        Ok(pb::Priority::Bulk) => Priority::Bulk,
        Err(_unknown) => return Err(unknown("priority", request.priority)),
    };
    let long = match pb::LongText::try_from(request.long_text) {
        Ok(pb::LongText::Unspecified | pb::LongText::Windows) => LongText::Windows,
        Ok(pb::LongText::Truncate) => LongText::Truncate,
        Ok(pb::LongText::Refuse) => LongText::Refuse,
        Err(_unknown) => return Err(unknown("long_text", request.long_text)),
    };
    let timeout = (request.timeout_ms > 0).then(|| Duration::from_millis(request.timeout_ms.into()));
    Ok(Call { priority, timeout, long })
}

fn unknown(field: &str, value: i32) -> Error {
    Error::invalid(format!("`{field}` has no choice {value}: this sidecar is older than its caller"))
}

pub(super) fn inputs(inputs: Vec<pb::Input>) -> Vec<Input> {
    inputs.into_iter().map(|input| Input { text: input.text, pair: input.pair }).collect()
}

pub(super) fn response(moderator: &Moderator, scored: Vec<Scored>, raw: bool) -> pb::ClassifyResponse {
    let info = moderator.info();
    let results = scored.into_iter().map(|one| result(moderator, one, raw)).collect();
    pb::ClassifyResponse {
        model: info.name.clone(),
        model_version: info.version.clone(),
        labels: info.labels.clone(),
        results,
    }
}

fn result(moderator: &Moderator, scored: Scored, raw: bool) -> pb::classify_response::Result {
    let over = |label: &str, value: f32| value >= moderator.options.threshold_of(label);
    let labels = moderator.info().labels.iter().zip(&scored.probabilities);
    let flagged_labels: Vec<String> =
        labels.filter(|(label, value)| over(label, **value)).map(|(label, _)| label.clone()).collect();
    pb::classify_response::Result {
        scores: scored.probabilities,
        raw_scores: if raw { scored.raw } else { Vec::new() },
        flagged: !flagged_labels.is_empty(),
        flagged_labels,
        tokens: narrow(scored.tokens),
        windows: narrow(scored.windows),
    }
}

pub(super) fn info(moderator: &Moderator) -> pb::GetInfoResponse {
    let (info, options) = (moderator.info(), &moderator.options);
    pb::GetInfoResponse {
        model: info.name.clone(),
        model_version: info.version.clone(),
        labels: info.labels.clone(),
        multi_label: info.multi_label,
        tokens_max: narrow(info.tokens_max),
        request_texts_max: narrow(options.request_texts_max),
        request_bytes_max: narrow(options.body_bytes_max),
        device: info.device.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Why a request of a stream was not judged.
pub(super) fn failure(error: &Error, retry_after_s: Option<u64>) -> pb::Failure {
    let row = error.kind().row();
    pb::Failure {
        kind: row.name.to_owned(),
        grpc_code: row.grpc_code,
        message: error.message().to_owned(),
        retry_after_s: retry_after_s.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or_default(),
    }
}

/// Counts that are bounded far below.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
