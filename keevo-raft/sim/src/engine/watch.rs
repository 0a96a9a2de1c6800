//! Watches: a node pushes the changes over its connection, in order; a broken connection ends the watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use keevo_core::{CommitEvent, Cursor, Engine, Error, ErrorKind, Result, Watch, WatchFrom, WatchRange};
use tokio::sync::{Notify, mpsc};

use super::{Call, Repeat, SimEngine};
use crate::net::{CLIENTS, Fate, Wires};

/// How many changes may wait for the client.
const QUEUE_MAX: usize = 4_096;

type Pushed = Result<CommitEvent>;

impl SimEngine {
    /// A cursor after everything acknowledged so far, for each shard of the range: to resume from wherever a watch
    /// ends, also before its first event.
    pub async fn watch_start(&self, range: &WatchRange) -> Result<Vec<Cursor>> {
        let range = range.clone();
        let call: Call<Vec<Cursor>> = Arc::new(move |app| {
            let range = range.clone();
            Box::pin(async move { app.engine.watch_start(&range).await })
        });
        self.call("watch start", Repeat::Freely, call).await
    }

    pub(super) async fn watch_from_a_node(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        let wires = self.sim.wires.clone();
        let call: Call<mpsc::Receiver<Pushed>> = Arc::new(move |app| {
            let (range, from, wires) = (range.clone(), from.clone(), wires.clone());
            Box::pin(async move {
                let watch = app.engine.watch(range, from).await?;
                let (event_tx, event_rx) = mpsc::channel(QUEUE_MAX);
                let far_end = FarEnd { number: wires.next_number(), wires, event_tx: Some(event_tx) };
                drop(tokio::spawn(push(app.node.id(), watch, far_end)));
                Ok(event_rx)
            })
        });
        let event_rx = self.call("watch", Repeat::Freely, call).await?;
        let events = futures::stream::unfold(Some(event_rx), |state| async move {
            let mut event_rx = state?;
            match event_rx.recv().await {
                Some(Ok(event)) => Some((Ok(event), Some(event_rx))),
                Some(Err(error)) => Some((Err(error), None)),
                None => Some((Err(Error::new(ErrorKind::Unavailable, "the watch's connection broke")), None)),
            }
        });
        Ok(events.boxed())
    }
}

/// A node's end of a watch's connection. When it goes, the client hears of it.
struct FarEnd {
    number: u64,
    wires: Wires,
    event_tx: Option<mpsc::Sender<Pushed>>,
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        let event_tx = self.event_tx.take();
        self.wires.at_end(self.number, Box::new(move || drop(event_tx)));
    }
}

/// Sends what a watch gives to the client, until either end or the connection is gone.
async fn push(node: u64, mut watch: Watch, far_end: FarEnd) {
    let broken = Arc::new(Notify::new());
    // The number of the event that the client expects; what comes out of turn ends the connection.
    let expected = Arc::new(AtomicU64::new(0));
    for number in 0_u64.. {
        let event = tokio::select! {
            biased;
            () = broken.notified() => return,
            event = watch.next() => event,
        };
        let (Some(event), Some(event_tx)) = (event, far_end.event_tx.clone()) else { return };
        let (broken, expected) = (Arc::clone(&broken), Arc::clone(&expected));
        far_end.wires.transmit(node, CLIENTS, true, 0, move |fate| {
            let in_turn = fate == Fate::Arrived && expected.load(Ordering::SeqCst) == number;
            if in_turn && event_tx.try_send(event).is_ok() {
                expected.store(number + 1, Ordering::SeqCst);
            } else {
                expected.store(u64::MAX, Ordering::SeqCst);
                broken.notify_one();
            }
        });
    }
}
