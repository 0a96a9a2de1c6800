//! Where changes go to: the trait, and what there is of it.

mod file;
mod kafka;
mod stdout;

use std::path::PathBuf;

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::{ClusterId, Error, ErrorKind, Result};
use serde_json::Value;

use crate::format::Outgoing;
use crate::places::Place;
use crate::spec::{Sink, To};

/// What takes the changes of a sink, batch by batch.
///
/// A batch is given in two steps. What `stage` answers is stored before `commit`, so that whoever opens the target after a
/// crash in between can find out whether it has the batch.
pub trait Target: Send {
    /// Gives it a batch, durably. Answers with what is needed to find out later whether it has it.
    fn stage<'a>(&'a mut self, batch: &'a [Outgoing]) -> BoxFuture<'a, Result<Value>>;

    /// Makes the batch valid, where staging it did not.
    fn commit(&mut self) -> BoxFuture<'_, Result<()>>;

    /// Lets go of it; what is staged and not committed is given up.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        futures::future::ready(()).boxed()
    }
}

/// What a target turned out to have when it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Whether it has the batch that was staged last.
    pub has_staged: bool,
    /// What else it has, by shard.
    pub seen: Vec<Place>,
}

/// Opens targets.
pub trait Targets: Send + Sync + 'static {
    /// The target of a sink. `staged` is what [`Target::stage`] answered of a batch of which nobody knows whether it is told.
    /// From here on no earlier opener of the same sink changes anything in it, where the target can see to that.
    fn open<'a>(
        &'a self,
        sink: &'a Sink,
        cluster: ClusterId,
        staged: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(Box<dyn Target>, Recovered)>>;
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::new(ErrorKind::Io, "the work on a sink's files broke off").with_source(error))?
}

/// The targets of a node.
#[derive(Debug, Clone)]
pub struct DefaultTargets {
    folder: PathBuf,
}

impl DefaultTargets {
    /// Targets whose files lie in `folder`, a folder a sink.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }
}

/// The folder of a sink. One that is made anew under an old name begins in another: what lies in the old one was told by
/// another sink, from other changes.
pub(crate) fn folder_of(sink: &Sink) -> String {
    format!("{}-{:016x}", sink.name, sink.id)
}

impl Targets for DefaultTargets {
    fn open<'a>(
        &'a self,
        sink: &'a Sink,
        cluster: ClusterId,
        staged: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(Box<dyn Target>, Recovered)>> {
        async move {
            match &sink.to {
                To::Kafka(topic) => kafka::open(topic, sink, cluster, staged).await,
                To::File { rotate_mib, keep } => {
                    let bytes_max = u64::from(*rotate_mib) << 20;
                    file::open(self.folder.join(folder_of(sink)), (bytes_max, *keep), staged).await
                }
                To::Stdout => Ok(stdout::open()),
            }
        }
        .boxed()
    }
}
