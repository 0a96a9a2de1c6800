//! `keevo-cli chat import`: a step for each kind of line, in chunks that are answered before the next is read.
//!
//! Invariant: sending a line again changes nothing, so a chunk that was half done is sent whole. A line that is refused is
//! told with its number, and the rest goes on.

use std::fs::File;

use indicatif::{ProgressBar, ProgressStyle};
use keevo_core::Error;
use keevo_proto::chat::v1 as pb;
use serde_json::{Map, Value};

use super::Transfer;
use crate::args::chat::Import;
use crate::connect::{Context, Effect, SLOW};
use crate::failure::Failure;
use crate::output::{complain, show};
use crate::render::Done;
use crate::run::feed::import::calls::{RETRY_MS, settled};
use crate::run::feed::import::lines::Lines;
use crate::run::feed::position::Position;
use crate::text::line as shown;

/// The most lines of one call, and their bytes.
const CHUNK_LINES: usize = 500;
const CHUNK_BYTES: usize = 2 << 20;
/// The steps, in their order; files of positions hold their numbers.
const STEPS: [&str; 9] =
    ["users", "channels", "members", "polls", "votes", "messages", "replies", "reactions", "reads"];
/// The step of messages, which is told of even where there are none.
const MESSAGES: usize = 5;

/// An import under way.
struct Job<'a> {
    context: &'a Context,
    transfer: Transfer,
    bar: ProgressBar,
    imported: [usize; STEPS.len()],
    /// Which steps the file has lines of, where the first step has met every line.
    present: Option<[bool; STEPS.len()]>,
    refused: usize,
    refused_max: usize,
}

/// Imports a file.
pub(super) async fn import(context: &Context, transfer: Transfer, args: &Import) -> Result<(), Failure> {
    let open = || {
        File::open(&args.file).map_err(|error| Failure::io(&format!("{} cannot be read", args.file.display()), error))
    };
    let bytes = open()?.metadata().map_err(|error| Failure::io("the file's size is not known", error))?.len();
    let mut position = Position::load(args.position.as_deref(), bytes)?;
    let bar = ProgressBar::new(bytes * u64::try_from(STEPS.len()).unwrap_or_default()).with_style(
        ProgressStyle::with_template("{msg:>10} [{bar:40}] {percent}% {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let refused_max = usize::try_from(args.bad_lines).unwrap_or(usize::MAX);
    let mut job = Job { context, transfer, bar, imported: [0; STEPS.len()], present: None, refused: 0, refused_max };
    for step in position.step..STEPS.len() {
        job.bar.set_message(STEPS.get(step).copied().unwrap_or_default());
        let before = bytes * u64::try_from(step).unwrap_or_default();
        if job.present.and_then(|present| present.get(step).copied()).unwrap_or(true) {
            job.step(step, open()?, &mut position, before).await?;
        }
        position.save(step + 1, 0)?;
    }
    job.bar.finish_and_clear();
    let (sentence, json) = told(&job);
    show(context.output, &Done { sentence, json })?;
    if job.refused == 0 {
        return Ok(());
    }
    let error = Error::invalid(format!("{} refused", were(job.refused)));
    let advice = "Mend these lines and import the file again: what is there already stays as it is.";
    Err(Failure::with_advice(error, advice))
}

/// What was imported, as a sentence and as JSON. Kinds of which there was nothing are left out of the sentence, but for
/// messages.
fn told(job: &Job<'_>) -> (String, Value) {
    let names = ["user", "channel", "member", "poll", "vote", "message", "reply", "reaction", "read"];
    let mut parts = Vec::new();
    let mut json = Map::new();
    for (step, (imported, (name, names))) in job.imported.iter().zip(names.iter().zip(STEPS)).enumerate() {
        json.insert(names.to_owned(), (*imported).into());
        if step == MESSAGES || *imported > 0 {
            parts.push(if *imported == 1 { format!("1 {name}") } else { format!("{imported} {names}") });
        }
    }
    json.insert("refused".to_owned(), job.refused.into());
    (format!("imported {}", parts.join(", ")), json.into())
}

fn were(refused: usize) -> String {
    if refused == 1 { "1 line was".to_owned() } else { format!("{refused} lines were") }
}

/// The step that a line belongs to. What is no line of an import is refused by the node, in the first step.
fn step_of(text: &str) -> usize {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
        return 0;
    };
    let is_reply = |line: &Value| line.get("parent").is_some_and(|parent| !parent.is_null());
    match fields.iter().next().map(|(kind, line)| (kind.as_str(), line)) {
        Some(("channel", _)) => 1,
        Some(("member", _)) => 2,
        Some(("poll", _)) => 3,
        Some(("vote", _)) => 4,
        Some(("message", line)) if is_reply(line) => MESSAGES + 1,
        Some(("message", _)) => MESSAGES,
        Some(("reaction", _)) => 7,
        Some(("read" | "thread_read", _)) => 8,
        _ => 0,
    }
}

impl Job<'_> {
    async fn step(&mut self, step: usize, file: File, position: &mut Position, before: u64) -> Result<(), Failure> {
        let mut lines = Lines::new(file);
        let skip = position.line;
        let mut present = [false; STEPS.len()];
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while let Some((number, text)) = lines.next()? {
            if number <= skip {
                continue;
            }
            let text = match text {
                Ok(text) => text.trim().to_owned(),
                Err(reason) => {
                    // It is told once: the first step meets every line.
                    if step == 0 {
                        self.refuse(number, &reason)?;
                    }
                    continue;
                }
            };
            let of = step_of(&text);
            present.get_mut(of).into_iter().for_each(|one| *one = true);
            if of == step && !text.is_empty() {
                bytes += text.len();
                chunk.push((number, text));
            }
            if chunk.len() == CHUNK_LINES || bytes >= CHUNK_BYTES {
                self.send(step, std::mem::take(&mut chunk)).await?;
                bytes = 0;
                position.save(step, number)?;
            }
            self.bar.set_position(before + lines.bytes);
        }
        if step == 0 && skip == 0 {
            self.present = Some(present);
        }
        self.send(step, chunk).await
    }

    fn refuse(&mut self, line: u64, reason: &str) -> Result<(), Failure> {
        self.refused += 1;
        self.bar.suspend(|| complain(&format!("line {line}: {}", shown(reason))));
        if self.refused <= self.refused_max {
            return Ok(());
        }
        let error = Error::invalid(format!("{} refused, and the import stopped there", were(self.refused)));
        Err(Failure::with_advice(error, "Mend the file, or let more pass with --bad-lines."))
    }

    async fn send(&mut self, step: usize, chunk: Vec<(u64, String)>) -> Result<(), Failure> {
        if chunk.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = chunk.iter().map(|(_, text)| text.clone()).collect();
        let call = || {
            let (mut transfer, request) = (self.transfer.clone(), pb::ImportRequest { lines: lines.clone() });
            let context = self.context;
            async move { context.ask(Effect::Reads, SLOW, transfer.import(request)).await }
        };
        let answer = settled(&RETRY_MS, call).await?;
        let refused = answer.map_err(Error::invalid)?.refused;
        if let Some(imported) = self.imported.get_mut(step) {
            *imported += chunk.len().saturating_sub(refused.len());
        }
        for one in refused {
            let number =
                usize::try_from(one.line).ok().and_then(|line| chunk.get(line)).map_or(0, |(number, _)| *number);
            self.refuse(number, &one.reason)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_step() {
        for (line, step) in [
            (r#"{"user": {"id": "a"}}"#, 0),
            (r#"{"channel": {}}"#, 1),
            (r#"{"member": {}}"#, 2),
            (r#"{"vote": {}}"#, 4),
            (r#"{"message": {"id": "m"}}"#, 5),
            (r#"{"message": {"id": "m", "parent": null}}"#, 5),
            (r#"{"message": {"id": "r", "parent": "m"}}"#, 6),
            (r#"{"reaction": {}}"#, 7),
            (r#"{"thread_read": {}}"#, 8),
            ("no JSON", 0),
            ("[]", 0),
        ] {
            assert_eq!(step_of(line), step, "{line}");
        }
    }
}
