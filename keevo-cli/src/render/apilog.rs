//! The API log: calls, counts, what became of a replay, hashes.

use std::collections::BTreeMap;
use std::fmt::Write;

use keevo_proto::admin::v1 as pb;
use serde_json::{Map, Value, json};

use super::table;
use crate::output::Answer;
use crate::run::apilog::{Found, json_of, when};
use crate::text::{count, line, shorten, time};

/// The most reasons of one replay that are told apart.
const REASONS_MAX: usize = 20;

fn app(app: Option<u32>) -> String {
    app.map_or_else(|| "kv".to_owned(), |app| app.to_string())
}

/// Calls.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) calls: Vec<Found>,
    /// Whether there are more.
    pub(crate) more: bool,
}

impl Answer for Calls {
    fn table(&self) -> String {
        let rows = self.calls.iter().map(|found| {
            let call = &found.call;
            [
                when(&found.place),
                app(call.app),
                line(&call.principal),
                line(&call.method),
                shorten(&call.request),
                found.failed.as_deref().map_or_else(|| "OK".to_owned(), line),
            ]
        });
        let mut text = table(["Time", "App", "Who", "Method", "Request", "Outcome"], rows.collect(), "no calls");
        if self.more {
            text.push_str("\nthere are more: raise --limit, or narrow the search");
        }
        text
    }

    fn json(&self) -> Value {
        let calls: Vec<_> = self.calls.iter().map(json_of).map(Value::Object).collect();
        json!({ "calls": calls, "more": self.more })
    }

    fn list(&self) -> Option<&'static str> {
        Some("calls")
    }
}

/// One call, as a line.
#[derive(Debug)]
pub(crate) struct Line(pub(crate) Found);

impl Answer for Line {
    fn table(&self) -> String {
        let Found { place, call, failed } = &self.0;
        let outcome = failed.as_deref().map_or_else(String::new, |kind| format!("  {}", line(kind)));
        let (who, method) = (line(&call.principal), line(&call.method));
        format!("{}  {:<4} {who}  {method}  {}{outcome}", when(place), app(call.app), shorten(&call.request))
    }

    fn json(&self) -> Value {
        Value::Object(json_of(&self.0))
    }
}

/// How many calls there were, by app and method.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    by_method: BTreeMap<(Option<u32>, String), Counted>,
    first_ms: Option<u64>,
    last_ms: u64,
}

#[derive(Debug, Default)]
struct Counted {
    calls: u64,
    failed: u64,
    bytes: u64,
}

/// A method without what is different in every call: of a path the first parts.
fn kind_of(method: &str) -> String {
    let Some((verb, target)) = method.split_once(' ') else { return method.to_owned() };
    let path = target.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).take(3).collect();
    format!("{verb} /{}", parts.join("/"))
}

impl Stats {
    pub(crate) fn count(&mut self, found: &Found) {
        let ms = found.place.hlc >> 16;
        self.first_ms.get_or_insert(ms);
        self.last_ms = ms;
        let counted = self.by_method.entry((found.call.app, kind_of(&found.call.method))).or_default();
        counted.calls += 1;
        counted.failed += u64::from(found.failed.is_some());
        counted.bytes += u64::try_from(found.call.request.len()).unwrap_or(u64::MAX);
    }
}

impl Answer for Stats {
    fn table(&self) -> String {
        let rows = self.by_method.iter().map(|((of, method), counted)| {
            let Counted { calls, failed, bytes } = counted;
            [app(*of), line(method), calls.to_string(), failed.to_string(), bytes.to_string()]
        });
        let text = table(["App", "Method", "Calls", "Failed", "Request bytes"], rows.collect(), "no calls");
        let Some(first_ms) = self.first_ms else { return text };
        format!("{text}\nfrom {} to {}", time(first_ms), time(self.last_ms))
    }

    fn json(&self) -> Value {
        let methods = self.by_method.iter().map(|((app, method), counted)| {
            let Counted { calls, failed, bytes } = counted;
            json!({ "app": app, "method": method, "calls": calls, "failed": failed, "request_bytes": bytes })
        });
        let methods: Vec<_> = methods.collect();
        json!({ "methods": methods, "first_ms": self.first_ms, "last_ms": self.last_ms })
    }

    fn list(&self) -> Option<&'static str> {
        Some("methods")
    }
}

/// Calls that nodes refused.
#[derive(Debug, Default)]
pub(crate) struct Refused(pub(crate) Vec<(String, pb::RefusedCall)>);

impl Answer for Refused {
    fn table(&self) -> String {
        let rows = self.0.iter().map(|(endpoint, refused)| {
            let call = refused.call.clone().unwrap_or_default();
            let why = format!("{}: {}", line(&refused.kind), line(&refused.message));
            [line(endpoint), time(call.stamp_us / 1_000), app(call.app), line(&call.principal), line(&call.method), why]
        });
        table(["Node", "Time", "App", "Who", "Method", "Why"], rows.collect(), "no refused calls")
    }

    fn json(&self) -> Value {
        let calls = self.0.iter().map(|(endpoint, refused)| {
            let call = refused.call.clone().unwrap_or_default();
            json!({
                "endpoint": endpoint,
                "stamp_us": call.stamp_us,
                "app": call.app,
                "principal": call.principal,
                "method": call.method,
                "kind": refused.kind,
                "message": refused.message,
            })
        });
        Value::Array(calls.collect())
    }
}

/// What became of a replay.
#[derive(Debug, Default)]
pub(crate) struct Report {
    dry_run: bool,
    applied: u64,
    skipped: u64,
    /// Those of users who were erased since.
    erased: u64,
    /// Those that had failed when they were recorded, by kind.
    had_failed: BTreeMap<String, u64>,
    failed: u64,
    reasons: BTreeMap<String, u64>,
}

impl Report {
    /// Nothing yet.
    pub(crate) fn new(dry_run: bool) -> Self {
        Self { dry_run, ..Self::default() }
    }

    /// Counts a call that is not repeated, since it had failed.
    pub(crate) fn had_failed(&mut self, kind: &str) {
        *self.had_failed.entry(kind.to_owned()).or_default() += 1;
    }

    /// Counts what became of a call.
    pub(crate) fn count(&mut self, method: &str, result: &pb::ReplayResult) {
        match result.outcome() {
            pb::ReplayOutcome::Applied => self.applied += 1,
            pb::ReplayOutcome::Skipped if !result.reason.is_empty() => {
                self.erased += 1;
                self.reason(format!("{}: {}", kind_of(method), result.reason), 1);
            }
            pb::ReplayOutcome::Skipped => self.skipped += 1,
            pb::ReplayOutcome::Failed | pb::ReplayOutcome::Unspecified => {
                self.failed += 1;
                self.reason(format!("{}: {}", kind_of(method), result.reason), 1);
            }
        }
    }

    fn reason(&mut self, reason: String, calls: u64) {
        let known = self.reasons.contains_key(&reason) || self.reasons.len() < REASONS_MAX;
        let reason = if known { reason } else { "other reasons".to_owned() };
        *self.reasons.entry(reason).or_default() += calls;
    }

    /// Adds what became of other calls.
    pub(crate) fn add(&mut self, other: Self) {
        self.applied += other.applied;
        self.skipped += other.skipped;
        self.erased += other.erased;
        self.failed += other.failed;
        for (reason, calls) in other.reasons {
            self.reason(reason, calls);
        }
    }
}

impl Answer for Report {
    fn table(&self) -> String {
        let had_failed: u64 = self.had_failed.values().sum();
        let what = if self.dry_run { "could be repeated" } else { "repeated" };
        let applied = count(usize::try_from(self.applied).unwrap_or(usize::MAX), "call");
        let mut text = format!(
            "{applied} {what}, {} skipped as repeated before, {had_failed} left out as failed when recorded, {} failed",
            self.skipped, self.failed
        );
        if self.erased > 0 {
            write!(text, ", {} skipped as erased", self.erased).expect("a string takes all text");
        }
        for (reason, calls) in &self.reasons {
            write!(text, "\n{calls:>8}  {}", line(reason)).expect("a string takes all text");
        }
        text
    }

    fn json(&self) -> Value {
        json!({
            "dry_run": self.dry_run,
            "applied": self.applied,
            "skipped": self.skipped,
            "erased": self.erased,
            "left_out": self.had_failed,
            "failed": self.failed,
            "reasons": self.reasons,
        })
    }
}

/// What became of the calls of a user.
#[derive(Debug)]
pub(crate) struct Erased {
    pub(crate) end: pb::EraseCallsProgress,
    pub(crate) dry_run: bool,
}

impl Answer for Erased {
    fn table(&self) -> String {
        let end = &self.end;
        let all = |number: u64, name: &str| count(usize::try_from(number).unwrap_or(usize::MAX), name);
        let (erased, written) = if self.dry_run { ("would be erased", "would be") } else { ("erased", "were") };
        let mut text = format!(
            "{} {erased}; {} of {} of the archive {written} reduced to the API log",
            all(end.calls, "call"),
            end.rewritten,
            all(end.segments, "segment")
        );
        if end.calls_left > 0 {
            let needed = if end.oldest_backup.is_empty() {
                "there is no backup yet, and the archive is needed for the first one".to_owned()
            } else {
                format!("backup {} needs their segments", line(&end.oldest_backup))
            };
            let left = all(end.calls_left, "call");
            write!(
                text,
                "\n{left} stay: {needed}. Run `backup create`, `backup prune --keep 1`, and this command again"
            )
            .expect("a string takes all text");
        }
        text
    }

    fn json(&self) -> Value {
        let end = &self.end;
        json!({
            "dry_run": self.dry_run, "calls": end.calls, "segments": end.segments, "rewritten": end.rewritten,
            "calls_left": end.calls_left, "oldest_backup": end.oldest_backup,
        })
    }
}

/// The records and the hash of each keyspace.
#[derive(Debug)]
pub(crate) struct Hashes(pub(crate) BTreeMap<String, (u64, u64)>);

impl Answer for Hashes {
    fn table(&self) -> String {
        let rows =
            self.0.iter().map(|(name, (records, hash))| [line(name), records.to_string(), format!("{hash:016x}")]);
        table(["Keyspace", "Records", "Hash"], rows.collect(), "no records")
    }

    fn json(&self) -> Value {
        let one = |(name, (records, hash)): (&String, &(u64, u64))| {
            (name.clone(), json!({ "records": records, "hash": format!("{hash:016x}") }))
        };
        Value::Object(self.0.iter().map(one).collect::<Map<_, _>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_reasons_apart_up_to_a_bound() {
        let failed = |reason: String| pb::ReplayResult { outcome: pb::ReplayOutcome::Failed.into(), reason };
        let mut report = Report::default();
        report.had_failed("CONFLICT");
        report.count("a.B/C", &pb::ReplayResult { outcome: pb::ReplayOutcome::Applied.into(), reason: String::new() });
        for number in 0..30 {
            report.count("POST /chat/v1/channels/team/x?user_id=1", &failed(format!("reason {}", number % 25)));
        }
        let skipped =
            |reason: &str| pb::ReplayResult { outcome: pb::ReplayOutcome::Skipped.into(), reason: reason.into() };
        report.count("a.B/C", &skipped("its user was erased"));
        let mut sum = Report::default();
        sum.add(report);
        assert_eq!((sum.skipped, sum.erased), (0, 1), "it was never repeated");
        assert_eq!(sum.reasons.len(), REASONS_MAX + 1);
        assert_eq!(sum.reasons.values().sum::<u64>(), 31);
        let text = sum.table();
        assert!(text.starts_with("1 call repeated, 0 skipped"), "{text}");
        assert!(text.contains("POST /chat/v1/channels: reason 0") && text.contains("1 skipped as erased"), "{text}");
    }

    #[test]
    fn an_erasure_says_what_stays_and_what_to_do_about_it() {
        let end = pb::EraseCallsProgress { segments: 40, rewritten: 3, calls: 12, ..pb::EraseCallsProgress::default() };
        let done = Erased { end: end.clone(), dry_run: false };
        assert_eq!(done.table(), "12 calls erased; 3 of 40 segments of the archive were reduced to the API log");
        let end = pb::EraseCallsProgress { calls_left: 1, oldest_backup: "monday".into(), ..end };
        let left = Erased { end, dry_run: true }.table();
        assert!(
            left.contains("12 calls would be erased") && left.contains("1 call stay: backup monday needs"),
            "{left}"
        );
        let none = pb::EraseCallsProgress { calls_left: 2, ..pb::EraseCallsProgress::default() };
        assert!(Erased { end: none, dry_run: false }.table().contains("there is no backup yet"));
    }
}
