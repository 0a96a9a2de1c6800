//! Sinks as their users see them: to a broker that speaks the protocol, to files, over kills and failures.

mod files;
mod kafka;
mod stuck;

use std::sync::Arc;
use std::time::Duration;

use crate::runner::Runner;
use crate::spec::{Delivery, Format, KafkaTopic, Sink, To};
use crate::status::{SinkStatus, State};
use crate::target::Targets;
use crate::testing::Rig;
use crate::{Connection, Start};

/// A node that runs sinks, on a runtime of its own, so that it can be killed as a process is: at any point, all at once.
struct Node {
    runtime: tokio::runtime::Runtime,
    runner: Runner,
}

impl Node {
    fn start(rig: &Rig, targets: Arc<dyn Targets>, number: u64) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let runner = rig.runner(targets, number);
        runtime.spawn(runner.clone().run(tokio_util::sync::CancellationToken::new()));
        Self { runtime, runner }
    }

    /// Ends it at once; what it is writing to a file at this moment is written, as a system call of a process would be.
    fn kill(self) {
        let Self { runtime, runner } = self;
        let ending = std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(10)));
        ending.join().expect("it ends");
        drop(runner);
    }
}

/// A sink of all orders, to be made.
fn sink(to: To) -> Sink {
    Sink {
        id: 0,
        name: "orders".into(),
        keyspace: "orders".into(),
        prefix: Vec::new(),
        to,
        format: Format::Json,
        node: None,
        paused: false,
        created_ms: 0,
    }
}

fn topic(brokers: String, delivery: Delivery) -> To {
    let connection = Connection { brokers, tls: None, sasl: None };
    To::Kafka(KafkaTopic { connection, topic: "orders".into(), delivery })
}

async fn made(rig: &Rig, to: To) -> Sink {
    rig.sinks.create(sink(to), Start::Now).await.expect("made")
}

/// Waits until the sink is as wanted.
async fn until(rig: &Rig, what: &str, wanted: impl Fn(&SinkStatus) -> bool) -> SinkStatus {
    for _ in 0..3_000 {
        let status = rig.sinks.status("orders").await.expect("a status");
        if wanted(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}: {:?}", rig.sinks.status("orders").await);
}

async fn until_told(rig: &Rig, changes: u64) -> SinkStatus {
    until(rig, &format!("{changes} changes are told"), |status| status.told >= changes).await
}

fn is(state: State) -> impl Fn(&SinkStatus) -> bool {
    move |status| status.state == state
}
