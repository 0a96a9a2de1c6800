//! How sinks do.

use crate::claim::Failure;
use crate::spec::Sink;

/// What a sink does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A node runs it.
    Running,
    /// Nobody runs it at the moment: it was just made, its node has just gone, or its target fails and is tried again.
    Waiting,
    /// A person paused it.
    Paused,
    /// Changes are gone that it did not tell: a person has to say that they may be skipped.
    Gap,
}

impl State {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Gap => "gap",
        }
    }
}

/// How far a sink is behind in one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardLag {
    /// The shard.
    pub shard: u64,
    /// The revision up to which everything is told.
    pub told: u64,
    /// The shard's revision.
    pub now: u64,
}

impl ShardLag {
    /// How many revisions it is behind. Not all of them need be changes of the sink's keyspace.
    pub fn revisions(self) -> u64 {
        self.now.saturating_sub(self.told)
    }
}

/// A sink and how it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkStatus {
    /// The sink.
    pub sink: Sink,
    /// What it does.
    pub state: State,
    /// The node that runs it; 0 = none.
    pub node: u64,
    /// Changes told since it was made.
    pub told: u64,
    /// Why it did not get on the last time.
    pub failure: Option<Failure>,
    /// How far it is behind, by shard.
    pub lag: Vec<ShardLag>,
}

/// What a node knows of a sink.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SinkMetrics {
    /// Its name.
    pub name: String,
    /// Whether this node runs it.
    pub running: bool,
    /// Changes that this node told.
    pub told: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Times that the target failed here.
    pub failures: u64,
    /// How many revisions it is behind, by shard.
    pub lag: Vec<(u64, u64)>,
}
