//! `keevo.kv.v1.Kv` over any engine.
//!
//! ```text
//! unary calls ─┐
//!              ├─▶ requests: decode, check the keyspace, deadline ──▶ Host::engine
//! Pipe ────────┘                                      Watch ──▶ header with the start, then events in batches
//! ```
//!
//! Invariant: unary calls and pipes run the same code. A request names a keyspace as the registry has it, or it
//! reaches no engine; keyspace 0 is never reachable from here.

mod keyspaces;
mod pipe;
mod record;
mod requests;
mod rights;
mod watch;

use std::fmt;
use std::sync::Arc;

use futures::stream::BoxStream;
use keevo_core::Result;
use keevo_core::call::CallLog;
use keevo_proto::kv::v1 as pb;
use keevo_proto::kv::v1::kv_server::{Kv, KvServer};
use keevo_proto::{MESSAGE_BYTES_MAX, status_from_error};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::auth::Pass;
use crate::calls::Calls;
use crate::host::Host;
use keyspaces::Keyspaces;
pub(crate) use record::{NOBODY, is_in_doubt};

/// The key-value service of one node.
pub struct KvService<H> {
    host: Arc<H>,
    keyspaces: Arc<Keyspaces>,
    calls: Arc<Calls>,
    /// Where calls that change something are recorded.
    log: Option<Arc<CallLog>>,
    /// The caller, where its rights are limited.
    pass: Option<Pass>,
    shutdown: CancellationToken,
}

impl<H: Host> KvService<H> {
    /// The service over `host`, ready to be added to a server. When `shutdown` is cancelled, pipes take no more
    /// requests and end once those in flight are answered; watches end with `Unavailable`.
    pub fn server(host: Arc<H>, shutdown: CancellationToken) -> KvServer<Self> {
        Self::counting_server(host, shutdown, Arc::default())
    }

    /// The same, which counts the requests of pipes in `calls`.
    pub fn counting_server(host: Arc<H>, shutdown: CancellationToken, calls: Arc<Calls>) -> KvServer<Self> {
        Self::recording_server(host, shutdown, calls, None)
    }

    /// The same, which records what changes something in `log`.
    pub fn recording_server(
        host: Arc<H>,
        shutdown: CancellationToken,
        calls: Arc<Calls>,
        log: Option<Arc<CallLog>>,
    ) -> KvServer<Self> {
        KvServer::new(Self { host, keyspaces: Arc::default(), calls, log, pass: None, shutdown })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

impl<H> Clone for KvService<H> {
    fn clone(&self) -> Self {
        Self {
            host: Arc::clone(&self.host),
            keyspaces: Arc::clone(&self.keyspaces),
            calls: Arc::clone(&self.calls),
            log: self.log.clone(),
            pass: self.pass.clone(),
            shutdown: self.shutdown.clone(),
        }
    }
}

impl<H> fmt::Debug for KvService<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KvService")
    }
}

fn answer<T>(result: Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status_from_error(&error))
}

#[tonic::async_trait]
impl<H: Host> Kv for KvService<H> {
    type WatchStream = BoxStream<'static, Result<pb::WatchResponse, Status>>;
    type PipeStream = BoxStream<'static, Result<pb::PipeResponses, Status>>;

    async fn keyspace(&self, request: Request<pb::KeyspaceRequest>) -> Result<Response<pb::KeyspaceResponse>, Status> {
        answer(self.of_caller(&request).answer_keyspace(request.into_inner()).await)
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        answer(self.of_caller(&request).answer_get(request.into_inner()).await)
    }

    async fn multi_get(&self, request: Request<pb::MultiGetRequest>) -> Result<Response<pb::MultiGetResponse>, Status> {
        answer(self.of_caller(&request).answer_multi_get(request.into_inner()).await)
    }

    async fn scan(&self, request: Request<pb::ScanRequest>) -> Result<Response<pb::ScanResponse>, Status> {
        answer(self.of_caller(&request).answer_scan(request.into_inner()).await)
    }

    async fn write(&self, request: Request<pb::WriteRequest>) -> Result<Response<pb::WriteResponse>, Status> {
        answer(self.of_caller(&request).answer_write(request.into_inner()).await)
    }

    async fn fan_out(&self, request: Request<pb::FanOutRequest>) -> Result<Response<pb::FanOutResponse>, Status> {
        answer(self.of_caller(&request).answer_fan_out(request.into_inner()).await)
    }

    async fn open_session(
        &self,
        request: Request<pb::OpenSessionRequest>,
    ) -> Result<Response<pb::OpenSessionResponse>, Status> {
        answer(self.of_caller(&request).answer_open_session(request.into_inner()).await)
    }

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        answer(self.of_caller(&request).open_watch(request.into_inner()).await)
    }

    async fn pipe(&self, request: Request<Streaming<pb::PipeRequests>>) -> Result<Response<Self::PipeStream>, Status> {
        Ok(Response::new(pipe::open(self.of_caller(&request), request.into_inner())))
    }
}
