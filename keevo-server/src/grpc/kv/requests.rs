//! One method a request: decode, check, call the engine within the deadline, encode.
//!
//! Invariant: a write whose deadline passes is `OutcomeUnknown`, everything else `DeadlineExceeded`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use keevo_core::limits::MULTI_GET_KEYS_MAX;
use keevo_core::{
    Batch, ClientId, Consistency, Engine, Error, ErrorKind, FanOut, Key, Keyspace, KeyspaceKind, PageToken, Result,
    Scan, ScanRange, ShardId,
};
use keevo_proto::kv::v1 as pb;
use keevo_proto::{DEADLINE_MS_DEFAULT, DEADLINE_MS_MAX, MULTI_GET_BYTES_MAX, id_from_bytes};
use tokio::time::Instant;

use super::KvService;
use crate::host::{Host, SessionScope};

/// How long before the deadline of a request the engine gives up, at most: it knows what it waited for.
const REASON_TIME: Duration = Duration::from_millis(100);

impl<H: Host> KvService<H> {
    /// Answers one request of a pipe.
    pub(super) async fn answer_any(&self, request: Option<pb::pipe_request::Request>) -> pb::pipe_response::Response {
        use pb::pipe_request::Request as Ask;
        use pb::pipe_response::Response as Answer;
        let answered = match request {
            Some(Ask::Get(request)) => self.answer_get(request).await.map(Answer::Get),
            Some(Ask::MultiGet(request)) => self.answer_multi_get(request).await.map(Answer::MultiGet),
            Some(Ask::Scan(request)) => self.answer_scan(request).await.map(Answer::Scan),
            Some(Ask::Write(request)) => self.answer_write(request).await.map(Answer::Write),
            Some(Ask::FanOut(request)) => self.answer_fan_out(request).await.map(Answer::FanOut),
            Some(Ask::OpenSession(request)) => self.answer_open_session(request).await.map(Answer::OpenSession),
            Some(Ask::Keyspace(request)) => self.answer_keyspace(request).await.map(Answer::Keyspace),
            None => Err(Error::invalid("pipe.request is missing, or of a newer version")),
        };
        answered.unwrap_or_else(|error| Answer::Failure(pb::Failure::from(&error)))
    }

    pub(super) async fn check(&self, host: &Arc<H>, keyspace: Keyspace) -> Result<()> {
        self.keyspaces.check(host.as_ref(), keyspace).await
    }

    pub(super) async fn answer_keyspace(&self, request: pb::KeyspaceRequest) -> Result<pb::KeyspaceResponse> {
        let kind: Option<KeyspaceKind> = request.create.map(TryInto::try_into).transpose()?;
        let left = Left::new(request.deadline_ms);
        let host = left.host(&self.host);
        let keyspace = left
            .within(ErrorKind::DeadlineExceeded, async {
                match kind {
                    Some(kind) => host.engine().keyspace(&request.name, kind).await,
                    None => host.engine().find_keyspace(&request.name).await,
                }
            })
            .await?;
        self.keyspaces.learn(keyspace);
        Ok(pb::KeyspaceResponse { keyspace: Some(keyspace.into()) })
    }

    pub(super) async fn answer_get(&self, request: pb::GetRequest) -> Result<pb::GetResponse> {
        let key: Key = required(request.key, "get.key")?.try_into()?;
        let consistency = consistency(request.consistency)?;
        let left = Left::new(request.deadline_ms);
        let host = left.host(&self.host);
        let record = left
            .within(ErrorKind::DeadlineExceeded, async {
                self.check(&host, key.keyspace).await?;
                host.engine().get(key, consistency).await
            })
            .await?;
        Ok(pb::GetResponse { record: record.map(Into::into) })
    }

    pub(super) async fn answer_multi_get(&self, request: pb::MultiGetRequest) -> Result<pb::MultiGetResponse> {
        if request.keys.len() > MULTI_GET_KEYS_MAX {
            return Err(Error::new(
                ErrorKind::BatchTooLarge,
                format!("the read names {} keys, more than {MULTI_GET_KEYS_MAX}", request.keys.len()),
            ));
        }
        let keys = request.keys.into_iter().map(TryInto::try_into).collect::<Result<Vec<Key>>>()?;
        let consistency = consistency(request.consistency)?;
        let left = Left::new(request.deadline_ms);
        let host = left.host(&self.host);
        let records = left
            .within(ErrorKind::DeadlineExceeded, async {
                let mut checked = None;
                for key in &keys {
                    if checked.replace(key.keyspace) != Some(key.keyspace) {
                        self.check(&host, key.keyspace).await?;
                    }
                }
                host.engine().multi_get(keys, consistency).await
            })
            .await?;
        let bytes: usize = records.iter().flatten().map(|record| record.value.len()).sum();
        if bytes > MULTI_GET_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::BatchTooLarge,
                format!("the values have {bytes} bytes, more than the {MULTI_GET_BYTES_MAX} of one answer"),
            ));
        }
        let records = records.into_iter().map(|record| pb::GetResponse { record: record.map(Into::into) }).collect();
        Ok(pb::MultiGetResponse { records })
    }

    pub(super) async fn answer_scan(&self, request: pb::ScanRequest) -> Result<pb::ScanResponse> {
        let left = Left::new(request.deadline_ms);
        let host = left.host(&self.host);
        let scan = Scan::try_from(request)?;
        scan.validate()?;
        refuse_foreign_token(&scan)?;
        let (ScanRange::Partition { keyspace, .. } | ScanRange::Ordered { keyspace, .. }) = scan.range;
        let page = left
            .within(ErrorKind::DeadlineExceeded, async {
                self.check(&host, keyspace).await?;
                host.engine().scan(scan).await
            })
            .await?;
        Ok(page.into())
    }

    pub(super) async fn answer_write(&self, request: pb::WriteRequest) -> Result<pb::WriteResponse> {
        let batch: Batch = required(request.batch, "write.batch")?.try_into()?;
        batch.validate()?;
        let left = Left::new(request.deadline_ms);
        let host = left.host(&self.host);
        if let Some(key) = batch.partition_key() {
            left.within(ErrorKind::DeadlineExceeded, self.check(&host, key.keyspace)).await?;
        }
        Ok(left.within(ErrorKind::OutcomeUnknown, host.engine().write(batch)).await?.into())
    }

    pub(super) async fn answer_fan_out(&self, request: pb::FanOutRequest) -> Result<pb::FanOutResponse> {
        let fan_out: FanOut = required(request.fan_out, "fan_out.fan_out")?.try_into()?;
        let left = Left::new(request.deadline_ms);
        let host = left.host(&self.host);
        let done = left
            .within(ErrorKind::DeadlineExceeded, async {
                self.check(&host, fan_out.keyspace).await?;
                host.engine().fan_out(fan_out).await
            })
            .await
            .map_err(late_fan_out)?;
        Ok(done.into())
    }

    pub(super) async fn answer_open_session(&self, request: pb::OpenSessionRequest) -> Result<pb::OpenSessionResponse> {
        let client = ClientId(id_from_bytes(&request.client, "open_session.client")?);
        let scope = match required(request.scope, "open_session.scope")? {
            pb::open_session_request::Scope::Shard(shard) => SessionScope::Shard(ShardId(shard)),
            pb::open_session_request::Scope::Key(key) => {
                let key: Key = key.try_into()?;
                key.validate()?;
                SessionScope::Key(key)
            }
        };
        let left = Left::new(request.deadline_ms);
        let host = left.host(&self.host);
        let shard = left.within(ErrorKind::DeadlineExceeded, host.open_session(scope, client)).await?;
        Ok(pb::OpenSessionResponse { shard: shard.0 })
    }
}

/// A page token lies in the range of its scan; one that does not comes from another, and would skip records unsaid.
fn refuse_foreign_token(scan: &Scan) -> Result<()> {
    let Some(PageToken(last)) = &scan.after else { return Ok(()) };
    let (lower, upper) = Scan { after: None, ..scan.clone() }.encoded_bounds();
    if *last >= lower && (upper.is_empty() || *last < upper) {
        return Ok(());
    }
    Err(Error::invalid("the page token belongs to another scan"))
}

/// A fan-out may be repeated, so that one without an answer is late and no more.
fn late_fan_out(error: Error) -> Error {
    match error.kind() {
        ErrorKind::OutcomeUnknown => {
            Error::new(ErrorKind::DeadlineExceeded, error.message().to_owned()).with_source(error)
        }
        _ => error,
    }
}

fn required<T>(field: Option<T>, what: &str) -> Result<T> {
    field.ok_or_else(|| Error::invalid(format!("{what} is missing")))
}

fn consistency(wire: Option<pb::Consistency>) -> Result<Consistency> {
    wire.map_or(Ok(Consistency::default()), TryInto::try_into)
}

/// The time that a request has left.
#[derive(Debug, Clone, Copy)]
struct Left {
    limit_ms: u32,
    end: Instant,
}

impl Left {
    fn new(deadline_ms: u32) -> Self {
        let limit_ms = if deadline_ms == 0 { DEADLINE_MS_DEFAULT } else { deadline_ms.min(DEADLINE_MS_MAX) };
        Self { limit_ms, end: Instant::now() + Duration::from_millis(limit_ms.into()) }
    }

    /// The node as it serves this request. It gets a little less time, so that its own reason comes first.
    fn host<H: Host>(self, host: &Arc<H>) -> Arc<H> {
        let limit = Duration::from_millis(self.limit_ms.into());
        host.within(limit.saturating_sub(REASON_TIME.min(limit / 10)))
    }

    /// `future`, or an error of the kind `late` once the deadline of the request has passed.
    async fn within<T>(self, late: ErrorKind, future: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout_at(self.end, future).await {
            Ok(result) => result,
            Err(elapsed) => {
                Err(Error::new(late, format!("no answer within {} ms", self.limit_ms)).with_source(elapsed))
            }
        }
    }
}
