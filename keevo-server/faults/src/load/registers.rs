//! Registers: single keys, read, overwritten and compared-and-set by several clients, checked for linearizability.
//!
//! A call in doubt may take effect at any time after it was made, so for the checker it never returns. Reads that failed
//! say nothing and are left out, and so are writes that were refused: would one of them take effect after all, a later read
//! would find a value that nobody wrote.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keevo_core::{Batch, Check, Consistency, Engine, Error, ErrorKind, Key, Keyspace, Result, SeededRandom};
use porcupine_rs::{CheckResult, Model, Operation};

use super::{Client as Remote, Shared, Verdict, below, number, patiently};

/// Clients, and keys that they share.
pub(crate) const CLIENTS: usize = 6;
const KEYS: u64 = 10;
/// How long the checker may take for one key.
const CHECK_WITHIN: Duration = Duration::from_mins(1);
/// How many calls of a key that is not linearizable are told.
const TOLD: usize = 40;

/// What a call did, as the checker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Read this.
    Read(Option<u64>),
    /// Wrote this.
    Put(u64),
    /// Replaced `old` by `new`, or found something else; `None`: one of the two.
    Cas { old: Option<u64>, new: u64, done: Option<bool> },
}

/// One call of one client.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    key: u64,
    client: u32,
    /// From when to when, in nanoseconds.
    called: i64,
    returned: i64,
    action: Action,
}

/// The sequential register.
#[derive(Debug, Clone)]
struct Register;

impl Model for Register {
    type State = Option<u64>;
    type Op = Action;
    type Metadata = ();

    fn init() -> Option<u64> {
        None
    }

    fn step(state: &Option<u64>, action: &Action) -> (bool, Option<u64>) {
        match *action {
            Action::Read(value) => (value == *state, *state),
            Action::Put(value) => (true, Some(value)),
            Action::Cas { old, new, done } => {
                let holds = *state == old;
                (done.is_none_or(|done| done == holds), if holds { Some(new) } else { *state })
            }
        }
    }
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    shared: Arc<Shared>,
    engine: Remote,
    keyspace: Keyspace,
    name: String,
    number: u32,
    random: SeededRandom,
    /// What it has seen last, by key.
    seen: BTreeMap<u64, Option<u64>>,
    written: u64,
}

fn key(keyspace: Keyspace, name: &str, number: u64) -> Key {
    keyspace.key(format!("{name}-register-{number}"), "value")
}

fn bytes(value: u64) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

fn check_of(old: Option<u64>) -> Check {
    old.map_or(Check::Absent, |old| Check::ValueIs(bytes(old).into()))
}

impl Client {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        engine: Remote,
        keyspace: Keyspace,
        name: &str,
        number: usize,
        seed: u64,
    ) -> Self {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            shared: Arc::clone(shared),
            engine,
            keyspace,
            name: name.to_owned(),
            number,
            random: SeededRandom::new(seed ^ u64::from(number)),
            seen: BTreeMap::new(),
            written: 0,
        }
    }

    pub(crate) async fn run(mut self) -> Vec<Call> {
        let mut calls = Vec::new();
        while self.shared.goes_on() {
            let number = below(&self.random, KEYS);
            let called = self.shared.now();
            let action = match below(&self.random, 10) {
                0..=3 => self.read(number, Consistency::Linearizable).await,
                4..=5 => self.read(number, Consistency::Follower).await,
                6..=7 => self.put(number).await,
                _ => self.compare_and_set(number).await,
            };
            let failed = action.is_none();
            if let Some((action, known)) = action {
                let returned = if known { self.shared.now() } else { i64::MAX };
                calls.push(Call { key: number, client: self.number, called, returned, action });
            }
            self.shared.pause(failed).await;
        }
        calls
    }

    /// A value that nobody else writes.
    fn fresh(&mut self) -> u64 {
        self.written += 1;
        (u64::from(self.number) + 1) << 32 | self.written
    }

    async fn read(&mut self, number: u64, consistency: Consistency) -> Option<(Action, bool)> {
        let read = self.engine.get(key(self.keyspace, &self.name, number), consistency).await;
        let value = self.shared.judge("a read of a register", read.and_then(value_of)).ok()?;
        self.seen.insert(number, value);
        Some((Action::Read(value), true))
    }

    async fn put(&mut self, number: u64) -> Option<(Action, bool)> {
        let value = self.fresh();
        let batch = Batch::new().put(key(self.keyspace, &self.name, number), bytes(value));
        let written = self.engine.write(batch).await;
        match self.shared.judge("a put to a register", written) {
            Ok(_) => {
                self.seen.insert(number, Some(value));
                Some((Action::Put(value), true))
            }
            Err(Verdict::Unknown) => Some((Action::Put(value), false)),
            Err(Verdict::Refused) => None,
        }
    }

    async fn compare_and_set(&mut self, number: u64) -> Option<(Action, bool)> {
        let new = self.fresh();
        let old = self.seen.get(&number).copied().flatten();
        let key = key(self.keyspace, &self.name, number);
        let batch = Batch::new().require(key.clone(), check_of(old)).put(key, bytes(new));
        let done = match self.engine.write(batch).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        };
        match self.shared.judge("a compare-and-set of a register", done) {
            Ok(done) => {
                if done {
                    self.seen.insert(number, Some(new));
                } else {
                    self.seen.remove(&number);
                }
                Some((Action::Cas { old, new, done: Some(done) }, true))
            }
            Err(Verdict::Unknown) => Some((Action::Cas { old, new, done: None }, false)),
            Err(Verdict::Refused) => None,
        }
    }
}

fn value_of(record: Option<keevo_core::Record>) -> Result<Option<u64>> {
    record.map(|record| number(&record.value)).transpose()
}

/// Reads every register a last time and checks all of it.
pub(crate) async fn check(
    shared: &Shared,
    engine: &Remote,
    keyspace: Keyspace,
    name: &str,
    mut calls: Vec<Call>,
) -> Result<()> {
    for number in 0..KEYS {
        let called = shared.now();
        let record = patiently(|| engine.get(key(keyspace, name, number), Consistency::Linearizable)).await?;
        let (action, returned) = (Action::Read(value_of(record)?), shared.now());
        calls.push(Call { key: number, client: u32::MAX, called, returned, action });
    }
    let mut by_key: BTreeMap<u64, Vec<Call>> = BTreeMap::new();
    for call in calls {
        by_key.entry(call.key).or_default().push(call);
    }
    for (number, calls) in by_key {
        let (result, calls) = tokio::task::spawn_blocking(move || (linearizable(&calls), calls))
            .await
            .map_err(|error| Error::new(ErrorKind::Closed, "the checker ended badly").with_source(error))?;
        match result {
            CheckResult::Ok => {}
            CheckResult::Unknown => shared.complain(format!(
                "register {number} of {name}: the checker found no answer within {} s",
                CHECK_WITHIN.as_secs()
            )),
            CheckResult::Illegal => {
                shared.complain(format!("register {number} of {name} is not linearizable:\n{}", told(calls)));
            }
        }
    }
    Ok(())
}

fn linearizable(calls: &[Call]) -> CheckResult {
    let history: Vec<Operation<Register>> = calls
        .iter()
        .map(|call| Operation {
            client_id: Some(call.client),
            call_time: call.called,
            return_time: call.returned,
            op: call.action.clone(),
            metadata: None,
        })
        .collect();
    porcupine_rs::check_operations_timeout(&history, CHECK_WITHIN)
}

/// The calls around the first one that the checker cannot place.
fn told(mut calls: Vec<Call>) -> String {
    calls.sort_by_key(|call| call.returned);
    let fails = |count: &usize| {
        // What had not returned by then may still take effect, so it belongs to every prefix.
        let end = calls.get(count.saturating_sub(1)).map_or(i64::MAX, |call| call.returned);
        let mut prefix: Vec<Call> = calls.iter().take(*count).cloned().collect();
        let open = calls.iter().skip(*count).filter(|call| call.called < end);
        let writes = open.filter(|call| !matches!(call.action, Action::Read(_)));
        prefix.extend(writes.map(|call| Call { returned: i64::MAX, action: in_doubt(&call.action), ..call.clone() }));
        linearizable(&prefix) == CheckResult::Illegal
    };
    let (mut sound, mut broken) = (0, calls.len());
    while broken > sound + 1 {
        let middle = usize::midpoint(sound, broken);
        if fails(&middle) { broken = middle } else { sound = middle }
    }
    let lines =
        calls.iter().take(broken).skip(broken.saturating_sub(TOLD)).map(|call| {
            format!("    client {} {} … {} ns: {:?}", call.client, call.called, call.returned, call.action)
        });
    lines.collect::<Vec<_>>().join("\n")
}

fn in_doubt(action: &Action) -> Action {
    match *action {
        Action::Cas { old, new, .. } => Action::Cas { old, new, done: None },
        ref other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(called: i64, returned: i64, action: Action) -> Call {
        Call { key: 0, client: 0, called, returned, action }
    }

    #[test]
    fn a_stale_read_is_found_and_told() {
        let calls = vec![
            call(0, 1, Action::Put(7)),
            call(2, 3, Action::Put(8)),
            call(4, 5, Action::Read(Some(7))),
            call(6, 7, Action::Read(Some(8))),
        ];
        assert_eq!(linearizable(&calls), CheckResult::Illegal);
        let told = told(calls);
        assert!(told.ends_with("Read(Some(7))"), "{told}");
    }

    #[test]
    fn a_write_in_doubt_may_show_late_or_never_but_not_come_and_go() {
        let doubt = |action| call(0, i64::MAX, action);
        let shows = vec![doubt(Action::Put(7)), call(1, 2, Action::Read(None)), call(3, 4, Action::Read(Some(7)))];
        assert_eq!(linearizable(&shows), CheckResult::Ok);
        let never = vec![doubt(Action::Put(7)), call(1, 2, Action::Read(None))];
        assert_eq!(linearizable(&never), CheckResult::Ok);
        let goes = vec![doubt(Action::Put(7)), call(1, 2, Action::Read(Some(7))), call(3, 4, Action::Read(None))];
        assert_eq!(linearizable(&goes), CheckResult::Illegal);
    }

    #[test]
    fn a_value_that_nobody_wrote_and_a_lost_compare_and_set_are_found() {
        assert_eq!(linearizable(&[call(0, 1, Action::Read(Some(9)))]), CheckResult::Illegal);
        let cas = |old, new, done| Action::Cas { old, new, done };
        let both = vec![call(0, 1, cas(None, 1, Some(true))), call(2, 3, cas(None, 2, Some(true)))];
        assert_eq!(linearizable(&both), CheckResult::Illegal);
        let right = vec![call(0, 1, cas(None, 1, Some(true))), call(2, 3, cas(None, 2, Some(false)))];
        assert_eq!(linearizable(&right), CheckResult::Ok);
        let doubt = vec![call(0, i64::MAX, cas(None, 1, None)), call(2, 3, Action::Read(Some(1)))];
        assert_eq!(linearizable(&doubt), CheckResult::Ok);
    }
}
