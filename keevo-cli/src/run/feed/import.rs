//! `keevo-cli feed import`: activities first, then follows, in chunks that are answered before the next is read.
//!
//! ```text
//! file ─▶ lines of this step ─▶ chunk ─▶ by feed, some at once ─▶ position saved ─▶ next chunk
//! ```
//!
//! Invariant: sending a record again changes nothing, so a chunk that was half done is sent whole. A line that is refused
//! is told with its number, and the rest goes on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use keevo_core::{Error, ErrorKind};
use keevo_proto::feeds::v1 as pb;
use keevo_proto::feeds::v1::feeds_client::FeedsClient;
use serde_json::json;
use tonic::transport::Channel;

use super::position::Position;
use super::records::{LINE_BYTES_MAX, Record, parse};
use crate::args::feed::Import;
use crate::connect::{Context, Effect, SLOW};
use crate::failure::Failure;
use crate::output::{complain, show};
use crate::render::Done;
use crate::text::{count, line as shown};

/// Records that are under way before the next are read.
const CHUNK: usize = 1_024;
/// Activities of one feed in one call.
const CALL_ACTIVITIES: usize = 100;
/// Calls that are under way at once.
const CALLS: usize = 16;
/// Waits before a call is sent again, in milliseconds.
const RETRY_MS: [u64; 4] = [100, 400, 1_600, 5_000];
/// The steps, in their order.
const STEPS: [&str; 2] = ["activities", "follows"];

/// A line that was refused.
#[derive(Debug)]
struct Refused {
    line: u64,
    reason: String,
}

/// An import under way.
struct Job<'a> {
    context: &'a Context,
    feeds: FeedsClient<Channel>,
    bar: ProgressBar,
    imported: [usize; STEPS.len()],
    refused: usize,
    refused_max: usize,
}

/// Imports a file.
pub(super) async fn import(context: &Context, feeds: FeedsClient<Channel>, args: &Import) -> Result<(), Failure> {
    let open = || {
        File::open(&args.file).map_err(|error| Failure::io(&format!("{} cannot be read", args.file.display()), error))
    };
    let bytes = open()?.metadata().map_err(|error| Failure::io("the file's size is not known", error))?.len();
    let mut position = Position::load(args.position.as_deref(), bytes)?;
    let bar = ProgressBar::new(bytes * 2).with_style(
        ProgressStyle::with_template("{msg:>10} [{bar:40}] {percent}% {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let refused_max = usize::try_from(args.bad_lines).unwrap_or(usize::MAX);
    let mut job = Job { context, feeds, bar, imported: [0; STEPS.len()], refused: 0, refused_max };
    for step in position.step..STEPS.len() {
        job.bar.set_message(STEPS.get(step).copied().unwrap_or_default());
        let before = bytes * u64::try_from(step).unwrap_or_default();
        job.step(step, open()?, &mut position, before).await?;
        position.save(step + 1, 0)?;
    }
    job.bar.finish_and_clear();
    let [activities, follows] = job.imported;
    let noun = if activities == 1 { "activity" } else { "activities" };
    let sentence = format!("imported {activities} {noun} and {}", count(follows, "follow"));
    let json = json!({ "activities": activities, "follows": follows, "refused": job.refused });
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

fn were(refused: usize) -> String {
    if refused == 1 { "1 line was".to_owned() } else { format!("{refused} lines were") }
}

impl Job<'_> {
    async fn step(&mut self, step: usize, file: File, position: &mut Position, before: u64) -> Result<(), Failure> {
        let mut lines = Lines { input: BufReader::new(file), line: 0, bytes: 0 };
        let skip = position.line;
        let mut chunk = Vec::new();
        while let Some((number, text)) = lines.next()? {
            if number <= skip {
                continue;
            }
            match text.and_then(|text| if text.trim().is_empty() { Ok(None) } else { parse(&text).map(Some) }) {
                Ok(Some(record)) if step_of(&record) == step => chunk.push((number, record)),
                // It is told once: the first step meets every line.
                Err(reason) if step == 0 => self.refuse(&Refused { line: number, reason })?,
                // Empty, of another step, or told before.
                _ => {}
            }
            if chunk.len() == CHUNK {
                self.send(step, std::mem::take(&mut chunk)).await?;
                position.save(step, number)?;
            }
            self.bar.set_position(before + lines.bytes);
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
        let mut activities: BTreeMap<String, Vec<(u64, pb::Activity)>> = BTreeMap::new();
        let mut follows = Vec::new();
        for (line, record) in chunk {
            match record {
                Record::Activity(feed, activity) => activities.entry(feed).or_default().push((line, *activity)),
                Record::Follow(follow) => follows.push((line, follow)),
            }
        }
        let (context, feeds) = (self.context, self.feeds.clone());
        let calls = activities.into_iter().flat_map(|(feed, all)| {
            let calls: Vec<_> = all.chunks(CALL_ACTIVITIES).map(|some| (feed.clone(), some.to_vec())).collect();
            calls
        });
        let refused: Vec<Vec<Refused>> = futures::stream::iter(calls)
            .map(|(feed, some)| add(context, feeds.clone(), feed, some))
            .buffer_unordered(CALLS)
            .try_collect()
            .await?;
        let unfollowed: Vec<Option<Refused>> = futures::stream::iter(follows)
            .map(|(line, request)| follow(context, feeds.clone(), line, request))
            .buffer_unordered(CALLS)
            .try_collect()
            .await?;
        let mut refused: Vec<Refused> = refused.into_iter().flatten().chain(unfollowed.into_iter().flatten()).collect();
        refused.sort_by_key(|one| one.line);
        if let Some(imported) = self.imported.get_mut(step) {
            *imported += all - refused.len();
        }
        refused.iter().try_for_each(|one| self.refuse(one))
    }
}

fn step_of(record: &Record) -> usize {
    match record {
        Record::Activity(..) => 0,
        Record::Follow(_) => 1,
    }
}

/// Adds activities to a feed. Where the node refuses them, one at a time, to learn which are bad.
async fn add(
    context: &Context,
    feeds: FeedsClient<Channel>,
    feed: String,
    activities: Vec<(u64, pb::Activity)>,
) -> Result<Vec<Refused>, Failure> {
    let call = |some: &[(u64, pb::Activity)]| {
        let activities = some.iter().map(|(_, activity)| activity.clone()).collect();
        let (request, mut feeds) = (pb::AddActivitiesRequest { feed: feed.clone(), activities }, feeds.clone());
        async move { context.ask(Effect::Reads, SLOW, feeds.add_activities(request)).await.map(drop) }
    };
    if settled(&RETRY_MS, || call(&activities)).await?.is_ok() {
        return Ok(Vec::new());
    }
    let mut refused = Vec::new();
    for one in &activities {
        if let Err(reason) = settled(&RETRY_MS, || call(std::slice::from_ref(one))).await? {
            refused.push(Refused { line: one.0, reason });
        }
    }
    Ok(refused)
}

async fn follow(
    context: &Context,
    feeds: FeedsClient<Channel>,
    line: u64,
    request: pb::FollowRequest,
) -> Result<Option<Refused>, Failure> {
    let call = || {
        let (request, mut feeds) = (request.clone(), feeds.clone());
        async move { context.ask(Effect::Reads, SLOW, feeds.follow(request)).await.map(drop) }
    };
    Ok(settled(&RETRY_MS, call).await?.err().map(|reason| Refused { line, reason }))
}

/// Sends a call until it is answered for good: done, or refused with a reason. Fails when no node carries it out.
async fn settled<F: Future<Output = Result<(), Failure>>>(
    waits_ms: &[u64],
    call: impl Fn() -> F,
) -> Result<Result<(), String>, Failure> {
    let mut waits = waits_ms.iter();
    loop {
        let Err(failure) = call().await else { return Ok(Ok(())) };
        let kind = failure.kind();
        if matches!(kind, ErrorKind::Invalid | ErrorKind::BatchTooLarge) {
            return Ok(Err(failure.to_string()));
        }
        let passing = kind.is_retryable() || matches!(kind, ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded);
        let Some(&wait_ms) = waits.next().filter(|_| passing) else {
            let advice = "Run the same command again: with --position it goes on where it was, and what is there already \
                          stays as it is.";
            return Err(failure.advise(advice.to_owned()));
        };
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
}

/// A line with its number; its text is a reason instead where it is too long or no text.
type Line = (u64, Result<String, String>);

/// The lines of a file, each with its number from 1.
struct Lines<R> {
    input: BufReader<R>,
    line: u64,
    bytes: u64,
}

impl<R: Read> Lines<R> {
    /// The next line; `None` at the end.
    fn next(&mut self) -> Result<Option<Line>, Failure> {
        let mut text = Vec::new();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let failed = |error| Failure::io("the file cannot be read", error);
        let read = self.input.by_ref().take(limit).read_until(b'\n', &mut text).map_err(failed)?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        self.bytes += u64::try_from(read).unwrap_or_default();
        if read == LINE_BYTES_MAX && text.last() != Some(&b'\n') {
            self.skip_rest().map_err(failed)?;
            return Ok(Some((self.line, Err(format!("it is longer than {LINE_BYTES_MAX} bytes")))));
        }
        let text = String::from_utf8(text).map_err(|_not_text| "it is not UTF-8".to_owned());
        Ok(Some((self.line, text)))
    }

    fn skip_rest(&mut self) -> std::io::Result<()> {
        loop {
            let buffer = self.input.fill_buf()?;
            let end = buffer.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let length = end.unwrap_or(buffer.len());
            self.input.consume(length);
            self.bytes += u64::try_from(length).unwrap_or_default();
            if end.is_some() || length == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_numbers_whatever_they_hold() {
        let long = vec![b'x'; LINE_BYTES_MAX + 10];
        let file = [b"one\n".as_slice(), &long, b"\n\xff\nlast"].concat();
        let mut lines = Lines { input: BufReader::new(file.as_slice()), line: 0, bytes: 0 };
        let mut next = || lines.next().expect("read");
        assert_eq!(next(), Some((1, Ok("one\n".to_owned()))));
        assert_eq!(next(), Some((2, Err(format!("it is longer than {LINE_BYTES_MAX} bytes")))));
        assert_eq!(next(), Some((3, Err("it is not UTF-8".to_owned()))));
        assert_eq!(next(), Some((4, Ok("last".to_owned()))));
        assert_eq!(next(), None);
        assert_eq!(lines.bytes, u64::try_from(file.len()).expect("fits"));
    }

    #[tokio::test]
    async fn what_passes_is_tried_again_and_what_is_refused_is_not() {
        let calls = std::cell::Cell::new(0);
        let call = |kinds: &'static [ErrorKind]| {
            calls.set(0);
            let calls = &calls;
            move || {
                let kind = kinds.get(calls.get()).copied();
                calls.set(calls.get() + 1);
                async move { kind.map_or(Ok(()), |kind| Err(Error::new(kind, "no").into())) }
            }
        };
        assert!(matches!(
            settled(&[0, 0, 0], call(&[ErrorKind::Unavailable, ErrorKind::DeadlineExceeded])).await,
            Ok(Ok(()))
        ));
        assert_eq!(calls.get(), 3, "two failures, then an answer");
        assert!(matches!(settled(&[0, 0, 0], call(&[ErrorKind::Invalid; 9])).await, Ok(Err(_))));
        assert_eq!(calls.get(), 1);
        assert!(settled(&[0, 0, 0], call(&[ErrorKind::Unavailable; 9])).await.is_err());
        assert_eq!(calls.get(), 3 + 1);
        assert!(settled(&[0, 0, 0], call(&[ErrorKind::Corrupt; 9])).await.is_err());
        assert_eq!(calls.get(), 1);
    }
}
