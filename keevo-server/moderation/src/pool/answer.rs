//! What a worker's answer means.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::RETRY_AFTER as RETRY_AFTER_NAME;
use hyper::{HeaderMap, StatusCode};
use keevo_core::{Error, ErrorKind, Result};
use serde::Deserialize;

use crate::verdict::Scores;

/// The longest rest that a worker may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// The rest of a worker that is busy and does not say for how long.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The most characters of a worker's own words in an error.
const WORDS_MAX: usize = 300;

/// What came of asking a worker.
#[derive(Debug)]
pub(super) enum Answered {
    /// Scores, one of each text.
    Scores(Vec<Scores>),
    /// The texts are at fault.
    Refused(Error),
    /// It takes nothing in for the moment.
    Busy {
        /// When it is worth asking again.
        after: Duration,
        /// What to tell where nobody else answers.
        error: Error,
    },
    /// It is at fault.
    Failed(Error),
    /// Nobody is there.
    Gone(Error),
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    model: String,
    /// Keevo's sidecar names its weights too.
    #[serde(default)]
    model_version: String,
    results: Vec<One>,
}

#[derive(Deserialize)]
struct One {
    category_scores: BTreeMap<String, f32>,
}

#[derive(Deserialize)]
struct Refusal {
    error: Words,
}

#[derive(Deserialize)]
struct Words {
    message: String,
}

/// Reads an answer.
pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Answered {
    if status.is_success() {
        return match scores(body) {
            Ok(scores) => Answered::Scores(scores),
            Err(error) => Answered::Failed(error),
        };
    }
    let error = |kind| Error::new(kind, format!("a moderation worker answered {}: {}", status.as_u16(), words(body)));
    match status.as_u16() {
        400 | 422 => Answered::Refused(error(ErrorKind::Invalid)),
        413 => Answered::Refused(error(ErrorKind::BatchTooLarge)),
        429 | 503 => Answered::Busy { after: retry_after(headers), error: error(ErrorKind::ResourceExhausted) },
        401 => Answered::Failed(error(ErrorKind::Unauthenticated)),
        403 => Answered::Failed(error(ErrorKind::PermissionDenied)),
        404 | 405 => Answered::Failed(error(ErrorKind::NotFound)),
        408 | 504 => Answered::Failed(error(ErrorKind::DeadlineExceeded)),
        502 => Answered::Failed(error(ErrorKind::Unavailable)),
        _ => Answered::Failed(error(ErrorKind::Corrupt)),
    }
}

fn scores(body: &Bytes) -> Result<Vec<Scores>> {
    let bad = |what: String| Error::corrupt(format!("a moderation worker's answer {what}"));
    let body: Body =
        serde_json::from_slice(body).map_err(|error| bad("is not as it must be".into()).with_source(error))?;
    let model = match (body.model, body.model_version) {
        (model, version) if version.is_empty() => model,
        (model, version) => format!("{model}@{version}"),
    };
    let mut scores = Vec::with_capacity(body.results.len());
    for one in body.results {
        if let Some((label, value)) = one.category_scores.iter().find(|(_, value)| !(0.0..=1.0).contains(*value)) {
            return Err(bad(format!("gives {label} the score {value}")));
        }
        let labels = one.category_scores.into_iter().filter(|(_, value)| *value > 0.0).collect();
        scores.push(Scores { model: model.clone(), labels });
    }
    Ok(scores)
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let asked = headers.get(RETRY_AFTER_NAME).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    asked.map_or(RETRY_AFTER, |seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// What a worker says of an error, shortened.
fn words(body: &Bytes) -> String {
    let said = serde_json::from_slice::<Refusal>(body).map(|refusal| refusal.error.message);
    said.unwrap_or_else(|_other| String::from_utf8_lossy(body).into_owned()).chars().take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Answered {
        read(StatusCode::from_u16(status).expect("a status"), &HeaderMap::new(), &Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn scores_are_read_and_checked() {
        let good = r#"{"model":"m","model_version":"7","results":[{"category_scores":{"toxic":0.5,"violence":0}}]}"#;
        match answer(200, good) {
            Answered::Scores(scores) => {
                assert_eq!(scores[0].model, "m@7");
                assert_eq!(scores[0].labels, BTreeMap::from([("toxic".to_owned(), 0.5)]));
            }
            other => panic!("{other:?}"),
        }
        for bad in [
            "",
            "[]",
            r#"{"results":[{}]}"#,
            r#"{"results":[{"category_scores":{"toxic":1.5}}]}"#,
            r#"{"results":[{"category_scores":{"toxic":null}}]}"#,
            r#"{"results":[{"category_scores":{"toxic":-1}}]}"#,
        ] {
            assert!(matches!(answer(200, bad), Answered::Failed(_)), "{bad}");
        }
    }

    #[test]
    fn who_is_at_fault_follows_from_the_status() {
        assert!(matches!(answer(400, "{}"), Answered::Refused(_)));
        match answer(413, r#"{"error":{"message":"too long"}}"#) {
            Answered::Refused(error) => {
                assert_eq!(error.kind(), ErrorKind::BatchTooLarge);
                assert!(error.message().ends_with("413: too long"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        for status in [401, 403, 404, 500, 502, 504] {
            assert!(matches!(answer(status, "x"), Answered::Failed(_)), "{status}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER_NAME, "7".parse().expect("a value"));
        match read(StatusCode::TOO_MANY_REQUESTS, &headers, &Bytes::new()) {
            Answered::Busy { after, .. } => assert_eq!(after, Duration::from_secs(7)),
            other => panic!("{other:?}"),
        }
        headers.insert(RETRY_AFTER_NAME, "86400".parse().expect("a value"));
        assert_eq!(retry_after(&headers), RETRY_AFTER_MAX);
        headers.insert(RETRY_AFTER_NAME, "soon".parse().expect("a value"));
        assert_eq!(retry_after(&headers), RETRY_AFTER);
    }
}
