//! Moderation: the queue, verdicts, policies, the status.

use keevo_proto::admin::v1 as pb;
use serde_json::{Value, json};

use super::table;
use crate::output::Answer;
use crate::text::{line, time};

/// The most characters of a text in a table.
const TEXT_CHARS_MAX: usize = 60;

/// JSON that a node sent as text; as text where it is none.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// An app's policy and blocklists.
#[derive(Debug)]
pub(crate) struct Policies(pub(crate) pb::GetModerationPolicyResponse);

impl Answer for Policies {
    /// The policy alone, so that it can be edited and set again.
    fn table(&self) -> String {
        format!("{:#}", parsed(&self.0.policy))
    }

    fn json(&self) -> Value {
        json!({ "policy": parsed(&self.0.policy), "blocklists": self.0.blocklists })
    }
}

/// The terms of a blocklist.
#[derive(Debug)]
pub(crate) struct Terms(pub(crate) pb::GetBlocklistResponse);

impl Answer for Terms {
    fn table(&self) -> String {
        let of = |terms: &[String], counts: &str| {
            terms.iter().map(|term| [line(term), counts.to_owned()]).collect::<Vec<_>>()
        };
        let mut rows = of(&self.0.words, "as a word");
        rows.extend(of(&self.0.parts, "inside words too"));
        table(["Term", "Counts"], rows, "no terms")
    }

    fn json(&self) -> Value {
        json!({ "words": self.0.words, "parts": self.0.parts })
    }
}

/// The id of a text, for people: NULs become spaces.
pub(crate) fn name(verdict: &pb::Verdict) -> String {
    line(&format!("{} {}", verdict.kind, verdict.id.replace('\0', " ")))
}

/// The start of a text, for people.
pub(crate) fn start(text: &str) -> String {
    let short: String = text.chars().take(TEXT_CHARS_MAX).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    line(&format!("{short}{more}"))
}

/// The highest scores, for people.
fn scores(verdict: &pb::Verdict) -> String {
    let mut scores: Vec<(&String, &f32)> = verdict.scores.iter().collect();
    scores.sort_by(|a, b| b.1.total_cmp(a.1).then(a.0.cmp(b.0)));
    let shown = scores.into_iter().take(3).map(|(label, score)| format!("{} {score:.2}", line(label)));
    shown.collect::<Vec<_>>().join(", ")
}

/// A verdict for programs.
pub(crate) fn verdict_json(verdict: &pb::Verdict) -> Value {
    let scores: std::collections::BTreeMap<&String, &f32> = verdict.scores.iter().collect();
    json!({
        "kind": verdict.kind,
        "id": verdict.id.split('\0').collect::<Vec<_>>(),
        "scope": verdict.scope,
        "author": verdict.author,
        "text": verdict.text,
        "at_ms": verdict.at_ms,
        "action": verdict.action,
        "reasons": parsed(&verdict.reasons),
        "scores": scores,
        "model": verdict.model,
        "masked": verdict.masked,
        "judged_ms": verdict.judged_ms,
    })
}

/// A page of the review queue.
#[derive(Debug)]
pub(crate) struct Queue(pub(crate) pb::ListReviewQueueResponse);

impl Answer for Queue {
    fn table(&self) -> String {
        let rows = self.0.entries.iter().filter_map(|entry| {
            let verdict = entry.verdict.as_ref()?;
            Some([
                line(&entry.id),
                verdict.action.clone(),
                name(verdict),
                line(&verdict.author),
                scores(verdict),
                start(&verdict.text),
            ])
        });
        let mut shown = table(["Id", "Action", "What", "Author", "Scores", "Text"], rows.collect(), "nothing waits");
        if !self.0.next.is_empty() {
            shown.push_str("\nmore: --after ");
            shown.push_str(&line(&self.0.next));
        }
        shown
    }

    fn json(&self) -> Value {
        let entry = |entry: &pb::list_review_queue_response::Entry| json!({ "id": entry.id, "verdict": entry.verdict.as_ref().map(verdict_json) });
        json!({ "entries": self.0.entries.iter().map(entry).collect::<Vec<_>>(), "next": self.0.next })
    }

    fn list(&self) -> Option<&'static str> {
        Some("entries")
    }
}

/// The verdicts on a text.
#[derive(Debug)]
pub(crate) struct Verdicts(pub(crate) Vec<pb::Verdict>);

impl Answer for Verdicts {
    fn table(&self) -> String {
        let rows = self.0.iter().map(|verdict| {
            [
                time(verdict.judged_ms),
                verdict.action.clone(),
                scores(verdict),
                line(&verdict.model),
                start(&verdict.text),
            ]
        });
        table(["Judged", "Action", "Scores", "Model", "Text"], rows.collect(), "no verdict")
    }

    fn json(&self) -> Value {
        json!({ "verdicts": self.0.iter().map(verdict_json).collect::<Vec<_>>() })
    }

    fn list(&self) -> Option<&'static str> {
        Some("verdicts")
    }
}

impl Answer for pb::GetModerationStatusResponse {
    fn table(&self) -> String {
        let workers = self.workers.iter().map(|worker| {
            let state = if worker.resting { "resting" } else { "asked" };
            [line(&worker.url), state.to_owned(), worker.in_flight.to_string()]
        });
        let workers = table(["Worker", "State", "Under way"], workers.collect(), "no workers: no text is judged");
        let mut counts: Vec<[String; 2]> = ["allow", "flag", "mask", "hold", "shadow", "bounce", "block"]
            .iter()
            .map(|action| {
                let count = self.verdicts.get(*action).copied().unwrap_or_default();
                [format!("verdicts: {action}"), count.to_string()]
            })
            .collect();
        for (name, value) in [
            ("waiting", self.pending),
            ("the oldest waits for, ms", self.lag_ms),
            ("not judged in time", self.late),
            ("came in past the callers", self.caught_up),
            ("set aside", self.set_aside),
        ] {
            counts.push([name.to_owned(), value.to_string()]);
        }
        format!("{workers}\n{}", table(["Since the start", ""], counts, ""))
    }

    fn json(&self) -> Value {
        let worker = |worker: &pb::get_moderation_status_response::Worker| json!({ "url": worker.url, "in_flight": worker.in_flight, "resting": worker.resting });
        let verdicts: std::collections::BTreeMap<&String, &u64> = self.verdicts.iter().collect();
        json!({
            "workers": self.workers.iter().map(worker).collect::<Vec<_>>(),
            "verdicts": verdicts,
            "pending": self.pending,
            "lag_ms": self.lag_ms,
            "late": self.late,
            "caught_up": self.caught_up,
            "set_aside": self.set_aside,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict() -> pb::Verdict {
        pb::Verdict {
            kind: "message".into(),
            id: "team:x\0m1".into(),
            action: "flag".into(),
            text: format!("bad\u{1b}[2J {}", "x".repeat(80)),
            scores: [("toxic".to_owned(), 0.91), ("insult".to_owned(), 0.5)].into(),
            reasons: r#"[{"label":{"label":"toxic"}}]"#.into(),
            ..pb::Verdict::default()
        }
    }

    #[test]
    fn the_queue_is_safe_to_look_at_and_whole_as_json() {
        let entry = pb::list_review_queue_response::Entry { id: "00ff".into(), verdict: Some(verdict()) };
        let queue = Queue(pb::ListReviewQueueResponse { entries: vec![entry], next: "00ff".into() });
        let shown = queue.table();
        assert!(!shown.contains('\u{1b}') && !shown.contains('\0'), "{shown:?}");
        assert!(shown.contains("toxic 0.91, insult 0.50") && shown.contains("more: --after 00ff"), "{shown}");
        let json = queue.json();
        assert_eq!(json["entries"][0]["verdict"]["id"], json!(["team:x", "m1"]));
        assert_eq!(json["entries"][0]["verdict"]["reasons"][0]["label"]["label"], "toxic");
        assert_eq!(Queue(pb::ListReviewQueueResponse::default()).table(), "nothing waits");
    }

    #[test]
    fn the_status_says_that_nobody_judges() {
        let shown = pb::GetModerationStatusResponse { pending: 7, ..Default::default() }.table();
        assert!(shown.contains("no workers: no text is judged") && shown.contains("waiting"), "{shown}");
    }
}
