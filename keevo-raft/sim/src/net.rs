//! The simulated network: messages between hosts, with delay, loss, cuts and reordering.
//!
//! ```text
//! send ──► connection (in order) ──► link: cut? held? ──► the host's queue
//!               │ breaks                   │
//!               └─ what was on it is lost, or comes late, after what is sent over the next connection
//! ```
//!
//! Invariant: requests from one host to another arrive in the order in which they were sent as long as their
//! connection lives, which is what `keevo_raft::Transport` promises; answers have no order, and nothing arrives
//! twice. No request that was on a connection when it broke is answered.

pub(crate) mod links;
mod reply;
pub(crate) mod transport;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::mpsc;

use crate::app::NodeApp;
use crate::world::{Act, World, lock};
use links::Links;
pub(crate) use reply::Reply;

/// A host: a node by its id, or [`CLIENTS`].
pub(crate) type HostId = u64;
/// The host that programs and workloads run on.
pub(crate) const CLIENTS: HostId = 0;

/// What a node is to do when a message arrives.
pub(crate) type Job = Box<dyn FnOnce(&NodeApp) + Send>;

/// How many messages may wait for a node.
const QUEUE_MAX: usize = 65_536;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrived,
    Lost,
    /// Its connection broke, but the other end may still read it some time.
    Late,
}

/// The network.
#[derive(Clone)]
pub(crate) struct Wires {
    pub(crate) world: Arc<World>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    ports: BTreeMap<HostId, mpsc::Sender<Job>>,
    links: Links,
    next_number: u64,
    /// While a host's tasks are dropped: what their ends cause, by the numbers of the requests.
    ends: Option<BTreeMap<u64, Act>>,
}

impl fmt::Debug for Wires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wires").finish_non_exhaustive()
    }
}

impl Wires {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { world, state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The links, to be damaged or mended.
    pub(crate) fn with_links<T>(&self, change: impl FnOnce(&mut Links) -> T) -> T {
        change(&mut self.lock().links)
    }

    /// Connects a node; what arrives for it comes out of the queue.
    pub(crate) fn connect(&self, host: HostId) -> mpsc::Receiver<Job> {
        let (job_tx, job_rx) = mpsc::channel(QUEUE_MAX);
        self.lock().ports.insert(host, job_tx);
        job_rx
    }

    /// A node has died: its connections break, and nobody listens any more.
    pub(crate) fn disconnect(&self, host: HostId) {
        let mut state = self.lock();
        state.ports.remove(&host);
        state.links.break_all(host);
    }

    /// Numbers requests in the order in which they are made.
    pub(crate) fn next_number(&self) -> u64 {
        let mut state = self.lock();
        state.next_number += 1;
        state.next_number
    }

    /// Drops what a crashed host leaves. Tokio drops tasks in an order that depends on all tasks that the process has
    /// ever had; what the others notice of it happens in the order of the requests.
    pub(crate) fn drop_host(&self, leftovers: impl Sized) {
        self.lock().ends = Some(BTreeMap::new());
        drop(leftovers);
        let ends = self.lock().ends.take().unwrap_or_default();
        for end in ends.into_values() {
            end();
        }
    }

    /// Does what the end of a request causes, in turn if its host is being dropped.
    pub(crate) fn at_end(&self, number: u64, end: Act) {
        let mut state = self.lock();
        if let Some(ends) = &mut state.ends {
            ends.insert(number, end);
            return;
        }
        drop(state);
        end();
    }

    /// Lets held messages go on their way.
    pub(crate) fn release(&self) {
        let held = self.with_links(Links::release);
        for act in held {
            self.world.after(0, act);
        }
    }

    /// Sends a message. `act` happens once, when its fate is known; `ordered` messages of a pair stay in order.
    pub(crate) fn transmit(
        &self,
        from: HostId,
        to: HostId,
        ordered: bool,
        bytes: usize,
        act: impl FnOnce(Fate) + Send + 'static,
    ) {
        let dice = &self.world.network_dice;
        let now_ms = self.world.now_ms();
        let (delay_ms, connection) = self.with_links(|links| {
            let delay_ms = links.delay_ms(from, to, bytes, dice);
            if dice.below(1_000) < links.loss_per_mille {
                links.break_connection(from, to);
            }
            let connection = links.connection(from, to);
            if !ordered {
                return (delay_ms, connection);
            }
            (links.in_order(from, to, now_ms, delay_ms), connection)
        });
        let wires = self.clone();
        self.world.after(delay_ms, move || wires.arrive(from, to, connection.filter(|_| ordered), Box::new(act)));
    }

    fn arrive(&self, from: HostId, to: HostId, connection: Option<u64>, act: Box<dyn FnOnce(Fate) + Send>) {
        let mut state = self.lock();
        let links = &mut state.links;
        if links.is_held(from, to) {
            let wires = self.clone();
            links.hold_back(Box::new(move || wires.arrive(from, to, connection, act)));
            return;
        }
        if links.is_cut(from, to) {
            drop(state);
            return act(Fate::Lost);
        }
        let broken = connection.and_then(|number| links.broken(from, to, number));
        drop(state);
        match broken {
            None => act(Fate::Arrived),
            Some(links::Broken::Softly) if self.world.network_dice.chance(25) => act(Fate::Late),
            Some(_) => act(Fate::Lost),
        }
    }

    /// Sends a request to a node, where `job` answers it. One that finds nobody is answered with `Unavailable`.
    pub(crate) fn request<T: Send + 'static>(
        &self,
        to: HostId,
        ordered: bool,
        bytes: usize,
        reply: Reply<T>,
        job: impl FnOnce(&NodeApp, Reply<T>) + Send + 'static,
    ) {
        if self.with_links(|links| links.refuses(reply.caller, to)) {
            return reply.refuse();
        }
        let wires = self.clone();
        self.transmit(reply.caller, to, ordered, bytes, move |fate| match fate {
            Fate::Lost => reply.lose(),
            Fate::Arrived => wires.hand_over(to, reply, job),
            Fate::Late => {
                // What the broken connection had carried is still read, but nobody hears the answer.
                wires.world.count_fault("reorder");
                let reply = reply.cut_off();
                let late_ms = wires.world.network_dice.between(1, 150);
                let world = Arc::clone(&wires.world);
                world.after(late_ms, move || wires.hand_over(to, reply, job));
            }
        });
    }

    fn hand_over<T: Send + 'static>(
        &self,
        to: HostId,
        reply: Reply<T>,
        job: impl FnOnce(&NodeApp, Reply<T>) + Send + 'static,
    ) {
        self.world.note(format_args!("{} arrives", reply.label));
        let port = self.lock().ports.get(&to).cloned();
        match port {
            None => reply.refuse(),
            Some(port) => {
                let carried: Job = Box::new(move |app| job(app, reply));
                // A full queue drops the message, as a full socket would in the end: the job's reply is reset.
                drop(port.try_send(carried));
            }
        }
    }
}

#[cfg(test)]
mod tests;
