//! `keevo-cli feed import`: a step for each kind of record, in chunks that are answered before the next is read.
//!
//! ```text
//! file ─▶ lines of this step ─▶ chunk ─▶ calls, some at once ─▶ position saved ─▶ next chunk
//! ```
//!
//! Invariant: sending a record again changes nothing, so a chunk that was half done is sent whole. A line that is refused
//! is told with its number, and the rest goes on.

pub(in crate::run) mod calls;
pub(in crate::run) mod lines;

use std::collections::BTreeMap;
use std::fs::File;

use futures::{StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use keevo_core::Error;
use keevo_proto::feeds::v1 as pb;
use serde_json::{Map, Value};

use super::Clients;
use super::position::Position;
use super::records::{Record, parse};
use crate::args::feed::Import;
use crate::connect::Context;
use crate::failure::Failure;
use crate::output::{complain, show};
use crate::render::Done;
use crate::text::line as shown;
use calls::Call;
use lines::Lines;

/// Records that are under way before the next are read.
const CHUNK: usize = 1_024;
/// Activities of one feed, or users, in one call.
const CALL_RECORDS: usize = 100;
/// Calls that are under way at once.
const CALLS: usize = 16;
/// The steps, in their order; files of positions hold their numbers.
const STEPS: [&str; 6] = ["activities", "follows", "users", "entries", "reactions", "replies"];
/// The step whose calls go one after the other: a reply may be to the one before it.
const REPLIES: usize = 5;

/// A line that was refused.
#[derive(Debug)]
struct Refused {
    line: u64,
    reason: String,
}

/// An import under way.
struct Job<'a> {
    context: &'a Context,
    clients: Clients,
    bar: ProgressBar,
    imported: [usize; STEPS.len()],
    /// Which steps the file has records of, where the first step has met every line.
    present: Option<[bool; STEPS.len()]>,
    refused: usize,
    refused_max: usize,
}

/// Imports a file.
pub(super) async fn import(context: &Context, clients: Clients, args: &Import) -> Result<(), Failure> {
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
    let mut job = Job { context, clients, bar, imported: [0; STEPS.len()], present: None, refused: 0, refused_max };
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
    Err(Failure::with_advice(
        error,
        "Mend these lines and import the file again: what is there already stays as it is.",
    ))
}

/// What was imported, as a sentence and as JSON. Kinds of which there was nothing are left out of the sentence, but for
/// activities and follows.
fn told(job: &Job<'_>) -> (String, Value) {
    let names = ["activity", "follow", "user", "entry", "reaction", "reply"];
    let mut parts = Vec::new();
    let mut json = Map::new();
    for (step, (imported, (name, names))) in job.imported.iter().zip(names.iter().zip(STEPS)).enumerate() {
        json.insert(names.to_owned(), (*imported).into());
        if step < 2 || *imported > 0 {
            parts.push(if *imported == 1 { format!("1 {name}") } else { format!("{imported} {names}") });
        }
    }
    json.insert("refused".to_owned(), job.refused.into());
    let last = parts.pop().unwrap_or_default();
    (format!("imported {} and {last}", parts.join(", ")), json.into())
}

fn were(refused: usize) -> String {
    if refused == 1 { "1 line was".to_owned() } else { format!("{refused} lines were") }
}

impl Job<'_> {
    async fn step(&mut self, step: usize, file: File, position: &mut Position, before: u64) -> Result<(), Failure> {
        let mut lines = Lines::new(file);
        let skip = position.line;
        let mut present = [false; STEPS.len()];
        let mut chunk = Vec::new();
        while let Some((number, text)) = lines.next()? {
            if number <= skip {
                continue;
            }
            match text.and_then(|text| if text.trim().is_empty() { Ok(None) } else { parse(&text).map(Some) }) {
                Ok(Some(record)) => {
                    let of = step_of(&record);
                    present.get_mut(of).into_iter().for_each(|one| *one = true);
                    if of == step {
                        chunk.push((number, record));
                    }
                }
                // It is told once: the first step meets every line.
                Err(reason) if step == 0 => self.refuse(&Refused { line: number, reason })?,
                // Empty, or told before.
                _ => {}
            }
            if chunk.len() == CHUNK {
                self.send(step, std::mem::take(&mut chunk)).await?;
                position.save(step, number)?;
            }
            self.bar.set_position(before + lines.bytes);
        }
        if step == 0 && skip == 0 {
            self.present = Some(present);
        }
        self.send(step, chunk).await
    }

    fn refuse(&mut self, refused: &Refused) -> Result<(), Failure> {
        self.refused += 1;
        self.bar.suspend(|| complain(&format!("line {}: {}", refused.line, shown(&refused.reason))));
        if self.refused <= self.refused_max {
            return Ok(());
        }
        let error = Error::invalid(format!("{} refused, and the import stopped there", were(self.refused)));
        Err(Failure::with_advice(error, "Mend the file, or let more pass with --bad-lines."))
    }

    async fn send(&mut self, step: usize, chunk: Vec<(u64, Record)>) -> Result<(), Failure> {
        let all = chunk.len();
        let at_once = if step == REPLIES { 1 } else { CALLS };
        let (context, clients) = (self.context, &self.clients);
        let refused: Vec<Vec<Refused>> = futures::stream::iter(calls_of(chunk))
            .map(|call| call.send(context, clients.clone()))
            .buffered(at_once)
            .try_collect()
            .await?;
        let mut refused: Vec<Refused> = refused.into_iter().flatten().collect();
        refused.sort_by_key(|one| one.line);
        if let Some(imported) = self.imported.get_mut(step) {
            *imported += all - refused.len();
        }
        refused.iter().try_for_each(|one| self.refuse(one))
    }
}

/// The calls that send the records of one step.
fn calls_of(chunk: Vec<(u64, Record)>) -> Vec<Call> {
    let mut activities: BTreeMap<String, Vec<(u64, pb::Activity)>> = BTreeMap::new();
    // A user that comes twice is what the later line says.
    let mut users: BTreeMap<String, (u64, pb::User)> = BTreeMap::new();
    let mut calls = Vec::new();
    for (line, record) in chunk {
        match record {
            Record::Activity(feed, activity) => activities.entry(feed).or_default().push((line, *activity)),
            Record::User(user) => drop(users.insert(user.id.clone(), (line, user))),
            Record::Follow(follow) => calls.push(Call::Follow(line, follow)),
            Record::Entry(entry) => calls.push(Call::Entry(line, entry)),
            Record::Reaction(reaction) => calls.push(Call::Reaction(line, reaction)),
        }
    }
    for (feed, all) in activities {
        calls.extend(all.chunks(CALL_RECORDS).map(|some| Call::Activities(feed.clone(), some.to_vec())));
    }
    let users: Vec<(u64, pb::User)> = users.into_values().collect();
    calls.extend(users.chunks(CALL_RECORDS).map(|some| Call::Users(some.to_vec())));
    calls
}

fn step_of(record: &Record) -> usize {
    match record {
        Record::Activity(..) => 0,
        Record::Follow(_) => 1,
        Record::User(_) => 2,
        Record::Entry(_) => 3,
        Record::Reaction(reaction) if reaction.parent.is_empty() => 4,
        Record::Reaction(_) => REPLIES,
    }
}
