//! For tests: an engine that breaks on purpose, a judge that can be told how to answer, a record of effects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::keyspaces::MetaStore;
use keevo_core::{
    Batch, Change, CommitEvent, Consistency, Engine, Error, ErrorKind, FanOut, FannedOut, Key, Keyspace, KeyspaceKind,
    ManualClock, MemoryEngine, Op, Record, Result, Scan, ScanPage, Watch, WatchFrom, WatchRange, Written,
};

use crate::moderator::Moderator;
use crate::pipeline::{Pipeline, PipelineOptions, Source};
use crate::policies::Policies;
use crate::text::{TextId, TextKind, TextVersion};
use crate::verdict::{Asking, Effects, Judge, Scores, Verdict};
use crate::verdicts::Verdicts;

/// What happens at the chosen write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies before it is applied.
    StopBefore,
    /// The process dies after it was applied.
    StopAfter,
    /// It is applied, and its answer is lost.
    AnswerLost,
    /// It is refused for the moment.
    Refused,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] = [Self::StopBefore, Self::StopAfter, Self::AnswerLost, Self::Refused];
}

/// An engine that breaks at one write.
#[derive(Debug, Clone)]
pub(crate) struct FaultyEngine {
    inner: MemoryEngine,
    fault: Option<Fault>,
    left: Arc<AtomicI64>,
    dead: Arc<AtomicBool>,
}

impl FaultyEngine {
    pub(crate) fn sound(inner: &MemoryEngine) -> Self {
        Self { inner: inner.clone(), fault: None, left: Arc::new(AtomicI64::new(i64::MAX)), dead: Arc::default() }
    }

    pub(crate) fn at(inner: &MemoryEngine, fault: Fault, write: i64) -> Self {
        Self { fault: Some(fault), left: Arc::new(AtomicI64::new(write)), ..Self::sound(inner) }
    }

    pub(crate) fn fired(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    fn alive(&self) -> Result<()> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(stopped());
        }
        Ok(())
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Closed, "the test has stopped this engine")
}

impl Engine for FaultyEngine {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        self.inner.keyspace(name, kind).await
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.inner.find_keyspace(name).await
    }

    async fn get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        self.alive()?;
        tokio::task::yield_now().await;
        self.inner.get(key, consistency).await
    }

    async fn multi_get(&self, keys: Vec<Key>, consistency: Consistency) -> Result<Vec<Option<Record>>> {
        self.alive()?;
        self.inner.multi_get(keys, consistency).await
    }

    async fn scan(&self, scan: Scan) -> Result<ScanPage> {
        self.alive()?;
        tokio::task::yield_now().await;
        self.inner.scan(scan).await
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        self.alive()?;
        tokio::task::yield_now().await;
        let fault = self.fault.filter(|_| self.left.fetch_sub(1, Ordering::SeqCst) == 0);
        if matches!(fault, Some(Fault::StopBefore | Fault::StopAfter)) {
            self.dead.store(true, Ordering::SeqCst);
        }
        match fault {
            Some(Fault::StopBefore) => Err(stopped()),
            Some(Fault::StopAfter) => self.inner.write(batch).await.and(Err(stopped())),
            Some(Fault::AnswerLost) => {
                let lost = Error::new(ErrorKind::OutcomeUnknown, "the test has lost the answer");
                self.inner.write(batch).await.and(Err(lost))
            }
            Some(Fault::Refused) => Err(Error::new(ErrorKind::Unavailable, "the test refuses this write")),
            None => self.inner.write(batch).await,
        }
    }

    async fn fan_out(&self, fan_out: FanOut) -> Result<FannedOut> {
        self.inner.fan_out(fan_out).await
    }

    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        self.inner.watch(range, from).await
    }
}

/// The meta keyspace on a keyspace of its own, never faulty.
#[derive(Clone)]
pub(crate) struct Meta(MemoryEngine, Keyspace);

impl Meta {
    pub(crate) async fn open(engine: MemoryEngine) -> Self {
        let keyspace = engine.keyspace("meta", KeyspaceKind::Hashed).await.expect("made");
        Self(engine, keyspace)
    }
}

impl MetaStore for Meta {
    async fn get(&self, mut key: Key) -> Result<Option<Record>> {
        key.keyspace = self.1;
        self.0.get(key, Consistency::Linearizable).await
    }

    async fn write(&self, mut batch: Batch) -> Result<Written> {
        batch.preconditions.iter_mut().for_each(|one| one.key.keyspace = self.1);
        for op in &mut batch.ops {
            match op {
                Op::Put { key, .. } | Op::Delete { key } => key.keyspace = self.1,
                other => panic!("policies only put and delete: {other:?}"),
            }
        }
        self.0.write(batch).await
    }
}

/// Scores a text 0.9 toxic where it holds `bad`; refuses `huge`, and breaks at `poison`.
#[derive(Debug, Default)]
pub(crate) struct TestJudge {
    pub(crate) down: AtomicBool,
    pub(crate) asked: AtomicUsize,
    /// Questions with more bytes are too much for it; 0 = none are.
    pub(crate) bytes_max: AtomicUsize,
}

impl Judge for TestJudge {
    fn judge(&self, texts: Vec<String>, _asking: Asking) -> BoxFuture<'_, Result<Vec<Scores>>> {
        async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            if self.down.load(Ordering::SeqCst) {
                return Err(Error::new(ErrorKind::Unavailable, "no worker"));
            }
            let bytes_max = self.bytes_max.load(Ordering::SeqCst);
            if bytes_max > 0 && texts.iter().map(String::len).sum::<usize>() > bytes_max {
                return Err(Error::new(ErrorKind::DeadlineExceeded, "too much at once"));
            }
            if texts.iter().any(|text| text.contains("huge")) {
                return Err(Error::new(ErrorKind::BatchTooLarge, "the text is too long"));
            }
            if texts.iter().any(|text| text.contains("poison")) {
                return Err(Error::corrupt("the model gave no number"));
            }
            let toxic = |text: &String| if text.contains("bad") { 0.9 } else { 0.1 };
            let scores = |text| Scores { model: "test-1".into(), labels: [("toxic".into(), toxic(text))].into() };
            Ok(texts.iter().map(scores).collect())
        }
        .boxed()
    }
}

/// Remembers what was done to texts.
#[derive(Debug, Default)]
pub(crate) struct TestEffects {
    done: Mutex<Vec<String>>,
    /// The ids of texts that are held.
    pub(crate) held: Mutex<BTreeSet<String>>,
}

impl TestEffects {
    fn note(&self, what: &str, version: &TextVersion) -> BoxFuture<'_, Result<()>> {
        self.done.lock().expect("no panic").push(format!("{what} {}", version.id));
        async { Ok(()) }.boxed()
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        let mut seen = self.done.lock().expect("no panic").clone();
        seen.sort();
        seen.dedup();
        seen
    }
}

impl Effects for TestEffects {
    fn take_back<'a>(&'a self, version: &'a TextVersion) -> BoxFuture<'a, Result<()>> {
        self.note("take back", version)
    }

    fn shadow<'a>(&'a self, version: &'a TextVersion) -> BoxFuture<'a, Result<()>> {
        self.note("shadow", version)
    }

    fn replace<'a>(&'a self, version: &'a TextVersion, _masked: &'a str) -> BoxFuture<'a, Result<()>> {
        self.note("replace", version)
    }

    fn release<'a>(&'a self, verdict: &'a Verdict, _masked: Option<&'a str>) -> BoxFuture<'a, Result<()>> {
        if self.held.lock().expect("no panic").remove(&verdict.version.id) {
            return self.note("release", &verdict.version);
        }
        async { Ok(()) }.boxed()
    }

    fn ban<'a>(&'a self, version: &'a TextVersion) -> BoxFuture<'a, Result<()>> {
        self.note("ban", version)
    }
}

/// Texts as plain records: the partition is the id, the value what it says.
#[derive(Debug)]
pub(crate) struct TestSource;

impl Source for TestSource {
    fn name(&self) -> &'static str {
        "texts"
    }

    fn keyspace(&self) -> &'static str {
        "texts"
    }

    fn text(&self, event: &CommitEvent) -> Result<Option<TextVersion>> {
        let Change::Put { value, .. } = &event.change else { return Ok(None) };
        let id = String::from_utf8_lossy(&event.key.partition).into_owned();
        Ok(Some(version(&id, &String::from_utf8_lossy(value))))
    }

    fn erased(&self, event: &CommitEvent) -> Result<Option<TextId>> {
        let id = String::from_utf8_lossy(&event.key.partition).into_owned();
        Ok(matches!(event.change, Change::Delete).then_some(TextId { app: 1, kind: TextKind::Message, id }))
    }
}

/// A version of a text of the tests.
pub(crate) fn version(id: &str, text: &str) -> TextVersion {
    TextVersion::new(1, TextKind::Message, id, text).expect("valid").by("alice", "chat:x", 1_000)
}

/// All that a test works with.
pub(crate) struct World {
    pub(crate) engine: MemoryEngine,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) meta: Meta,
    pub(crate) judge: Arc<TestJudge>,
    pub(crate) effects: Arc<TestEffects>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = Arc::new(ManualClock::new(1_000_000));
        let engine = MemoryEngine::with_clock_and_retained(Arc::clone(&clock) as _, 10_000);
        let meta = Meta::open(MemoryEngine::new()).await;
        Self { engine, clock, meta, judge: Arc::default(), effects: Arc::default() }
    }

    /// Sets the policy of the tests: `bad` is flagged, and terms of lists mask or block.
    pub(crate) async fn with_lists(self) -> Self {
        let policies = Policies::new(self.meta.clone(), Arc::clone(&self.clock) as _);
        let word = |word: &str| vec![crate::blocklist::Term::word(word)];
        policies.set_blocklist(1, "mild", word("darn")).await.expect("set");
        policies.set_blocklist(1, "hard", word("zork")).await.expect("set");
        let text = r#"{"default": {"rules": [{"label": "toxic", "threshold": 0.5, "action": "flag"}],
            "blocklists": [{"name": "mild", "action": "mask"}, {"name": "hard", "action": "block"}]}}"#;
        policies.set_policy(1, crate::policy::Policy::from_json(text).expect("valid")).await.expect("set");
        self
    }

    pub(crate) async fn moderator(&self, engine: FaultyEngine) -> Moderator<FaultyEngine> {
        let policies = Policies::new(self.meta.clone(), Arc::clone(&self.clock) as _);
        let moderator = Moderator::new(engine, policies, Arc::clone(&self.judge) as _, Arc::clone(&self.clock) as _);
        moderator.verdicts().await.expect("opened");
        moderator
    }

    pub(crate) async fn pipeline(&self, engine: FaultyEngine, seed: u64) -> Pipeline<FaultyEngine> {
        let moderator = self.moderator(engine).await;
        self.pipeline_of(moderator, seed)
    }

    pub(crate) fn pipeline_of(&self, moderator: Moderator<FaultyEngine>, seed: u64) -> Pipeline<FaultyEngine> {
        let options = PipelineOptions {
            sweep_every: std::time::Duration::from_millis(5),
            pause_max: std::time::Duration::from_millis(20),
            lease: std::time::Duration::from_millis(300),
            save_every: std::time::Duration::from_millis(5),
            ..PipelineOptions::default()
        };
        let random = keevo_core::SeededRandom::new(seed);
        let effects = Arc::clone(&self.effects) as Arc<dyn Effects>;
        Pipeline::new(moderator, effects, vec![Arc::new(TestSource)], &random, options)
    }

    /// The verdicts' rows, straight from the engine: by text id and hash, each with its value.
    pub(crate) async fn verdicts(&self, ids: &[&str]) -> BTreeMap<(String, String), Verdict> {
        let verdicts = Verdicts::open(FaultyEngine::sound(&self.engine), Arc::clone(&self.clock) as _).await;
        let verdicts = verdicts.expect("opened");
        let mut found = BTreeMap::new();
        for id in ids {
            for verdict in verdicts.of_text(1, TextKind::Message, id, 100).await.expect("read") {
                found.insert(((*id).to_owned(), verdict.version.text.clone()), verdict);
            }
        }
        found
    }

    /// How many texts wait.
    pub(crate) async fn waiting(&self) -> usize {
        let verdicts = Verdicts::open(FaultyEngine::sound(&self.engine), Arc::clone(&self.clock) as _).await;
        verdicts.expect("opened").count_waiting(1_000).await.expect("read")
    }

    /// Erases a text where it lies.
    pub(crate) async fn erase_text(&self, id: &str) {
        let keyspace = self.engine.keyspace("texts", KeyspaceKind::Hashed).await.expect("made");
        self.engine.write(Batch::new().delete(keyspace.key(id.to_owned(), "text"))).await.expect("written");
    }

    /// Writes a text past every caller.
    pub(crate) async fn write_text(&self, id: &str, text: &str) {
        let keyspace = self.engine.keyspace("texts", KeyspaceKind::Hashed).await.expect("made");
        let key = keyspace.key(id.to_owned(), "text");
        self.engine.write(Batch::new().put(key, text.to_owned())).await.expect("written");
    }
}
