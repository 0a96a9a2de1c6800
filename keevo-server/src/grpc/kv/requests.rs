//! One method a request: decode, check, call the engine within the deadline, encode.
//!
//! The engine has a little less time than the request, so that its answer, such as that a quorum is missing, is heard.
//!
//! Invariant: a write whose deadline passes is `OutcomeUnknown`, everything else `DeadlineExceeded`.

use std::future::Future;
use std::time::Duration;

use keevo_core::call::CallRequest;
use keevo_core::limits::MULTI_GET_KEYS_MAX;
use keevo_core::trace::TraceContext;
use keevo_core::{
    Batch, ClientId, Consistency, Engine, Error, ErrorKind, FanOut, Key, Keyspace, KeyspaceKind, Result, Scan,
    ScanRange, ShardId,
};
use keevo_proto::kv::v1 as pb;
use keevo_proto::{DEADLINE_MS_DEFAULT, DEADLINE_MS_MAX, MULTI_GET_BYTES_MAX, Message, id_from_bytes};

use super::KvService;
use super::record::{FAN_OUT, KEYSPACE, WRITE};
use crate::auth::grant::Action;
use crate::host::{Host, SessionScope};

/// How much earlier than the request the engine gives up, at most; a tenth of a shorter deadline.
const MARGIN: Duration = Duration::from_millis(200);

impl<H: Host> KvService<H> {
    /// The service with an engine that answers before the request's deadline.
    fn bounded(&self, deadline_ms: u32) -> Self {
        let limit = limit(deadline_ms);
        Self { host: self.host.bounded(limit.saturating_sub(MARGIN.min(limit / 10))), ..self.clone() }
    }

    /// Answers one request of a pipe.
    pub(super) async fn answer_any(
        &self,
        request: Option<pb::pipe_request::Request>,
        traceparent: &str,
    ) -> pb::pipe_response::Response {
        use pb::pipe_response::Response as Answer;
        let (name, call) = (pipe_name(request.as_ref()), self.calls.begin(TraceContext::parse(traceparent)));
        let answered = call.run(self.answer_one(request)).await;
        call.end(name, answered.as_ref().err().map(Error::kind));
        answered.unwrap_or_else(|error| Answer::Failure(pb::Failure::from(&error)))
    }

    async fn answer_one(&self, request: Option<pb::pipe_request::Request>) -> Result<pb::pipe_response::Response> {
        use pb::pipe_request::Request as Ask;
        use pb::pipe_response::Response as Answer;
        match request {
            Some(Ask::Get(request)) => self.answer_get(request).await.map(Answer::Get),
            Some(Ask::MultiGet(request)) => self.answer_multi_get(request).await.map(Answer::MultiGet),
            Some(Ask::Scan(request)) => self.answer_scan(request).await.map(Answer::Scan),
            Some(Ask::Write(request)) => self.answer_write(request).await.map(Answer::Write),
            Some(Ask::FanOut(request)) => self.answer_fan_out(request).await.map(Answer::FanOut),
            Some(Ask::OpenSession(request)) => self.answer_open_session(request).await.map(Answer::OpenSession),
            Some(Ask::Keyspace(request)) => self.answer_keyspace(request).await.map(Answer::Keyspace),
            None => Err(Error::invalid("pipe.request is missing, or of a newer version")),
        }
    }

    pub(super) async fn check(&self, keyspace: Keyspace) -> Result<()> {
        self.keyspaces.check(self.host.as_ref(), keyspace).await
    }

    pub(super) async fn answer_keyspace(&self, request: pb::KeyspaceRequest) -> Result<pb::KeyspaceResponse> {
        if request.create.is_none() {
            return self.keyspace_now(request).await;
        }
        let asked = CallRequest::Body(request.encode_to_vec().into());
        self.recorded(KEYSPACE, asked, self.keyspace_now(request)).await
    }

    async fn keyspace_now(&self, request: pb::KeyspaceRequest) -> Result<pb::KeyspaceResponse> {
        let kind: Option<KeyspaceKind> = request.create.map(TryInto::try_into).transpose()?;
        let service = self.bounded(request.deadline_ms);
        let keyspace = within(request.deadline_ms, ErrorKind::DeadlineExceeded, async {
            if let Some(pass) = &service.pass {
                return service.limited_keyspace(pass, &request.name, kind).await;
            }
            match kind {
                Some(kind) => service.host.engine().keyspace(&request.name, kind).await,
                None => service.host.engine().find_keyspace(&request.name).await,
            }
        })
        .await?;
        self.keyspaces.learn(keyspace);
        Ok(pb::KeyspaceResponse { keyspace: Some(keyspace.into()) })
    }

    pub(super) async fn answer_get(&self, request: pb::GetRequest) -> Result<pb::GetResponse> {
        let key: Key = required(request.key, "get.key")?.try_into()?;
        let consistency = consistency(request.consistency)?;
        let service = self.bounded(request.deadline_ms);
        let record = within(request.deadline_ms, ErrorKind::DeadlineExceeded, async {
            service.check(key.keyspace).await?;
            service.allow(Action::Read, key.keyspace, [&key.partition]).await?;
            service.host.engine().get(key, consistency).await
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
        let service = self.bounded(request.deadline_ms);
        let records = within(request.deadline_ms, ErrorKind::DeadlineExceeded, async {
            let mut checked = None;
            for key in &keys {
                if checked.replace(key.keyspace) != Some(key.keyspace) {
                    service.check(key.keyspace).await?;
                }
                service.allow(Action::Read, key.keyspace, [&key.partition]).await?;
            }
            service.host.engine().multi_get(keys, consistency).await
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
        let deadline_ms = request.deadline_ms;
        let scan = Scan::try_from(request)?;
        scan.validate()?;
        refuse_foreign_token(&scan)?;
        let (ScanRange::Partition { keyspace, .. } | ScanRange::Ordered { keyspace, .. }) = scan.range;
        let service = self.bounded(deadline_ms);
        let page = within(deadline_ms, ErrorKind::DeadlineExceeded, async {
            service.check(keyspace).await?;
            service.allow_scan(&scan.range).await?;
            service.host.engine().scan(scan).await
        })
        .await?;
        Ok(page.into())
    }

    pub(super) async fn answer_write(&self, request: pb::WriteRequest) -> Result<pb::WriteResponse> {
        self.recorded(WRITE, CallRequest::Command, self.write_now(request)).await
    }

    async fn write_now(&self, request: pb::WriteRequest) -> Result<pb::WriteResponse> {
        let batch: Batch = required(request.batch, "write.batch")?.try_into()?;
        batch.validate()?;
        let service = self.bounded(request.deadline_ms);
        if let Some(key) = batch.partition_key() {
            within(request.deadline_ms, ErrorKind::DeadlineExceeded, async {
                service.check(key.keyspace).await?;
                service.allow(Action::Write, key.keyspace, [&key.partition]).await
            })
            .await?;
        }
        let write = service.host.engine().write(batch);
        Ok(within(request.deadline_ms, ErrorKind::OutcomeUnknown, write).await?.into())
    }

    pub(super) async fn answer_fan_out(&self, request: pb::FanOutRequest) -> Result<pb::FanOutResponse> {
        self.recorded(FAN_OUT, CallRequest::Command, self.fan_out_now(request)).await
    }

    async fn fan_out_now(&self, request: pb::FanOutRequest) -> Result<pb::FanOutResponse> {
        let fan_out: FanOut = required(request.fan_out, "fan_out.fan_out")?.try_into()?;
        let service = self.bounded(request.deadline_ms);
        let done = within(request.deadline_ms, ErrorKind::DeadlineExceeded, async {
            service.check(fan_out.keyspace).await?;
            let partitions = fan_out.targets.iter().map(|target| &target.partition);
            service.allow(Action::Write, fan_out.keyspace, partitions).await?;
            service.host.engine().fan_out(fan_out).await
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
        self.allow_session()?;
        let service = self.bounded(request.deadline_ms);
        let open = service.host.open_session(scope, client);
        let shard = within(request.deadline_ms, ErrorKind::DeadlineExceeded, open).await?;
        Ok(pb::OpenSessionResponse { shard: shard.0 })
    }
}

/// A page token lies in the range of its scan; one that does not comes from another, and would skip records unsaid.
fn refuse_foreign_token(scan: &Scan) -> Result<()> {
    let Some(at) = scan.resumes_at() else { return Ok(()) };
    let (lower, upper) = Scan { after: None, ..scan.clone() }.encoded_bounds();
    if at >= lower && (upper.is_empty() || at < upper) {
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

/// What a request of a pipe is counted as.
fn pipe_name(request: Option<&pb::pipe_request::Request>) -> &'static str {
    use pb::pipe_request::Request as Ask;
    match request {
        Some(Ask::Get(_)) => "keevo.kv.v1.Kv/Pipe.Get",
        Some(Ask::MultiGet(_)) => "keevo.kv.v1.Kv/Pipe.MultiGet",
        Some(Ask::Scan(_)) => "keevo.kv.v1.Kv/Pipe.Scan",
        Some(Ask::Write(_)) => "keevo.kv.v1.Kv/Pipe.Write",
        Some(Ask::FanOut(_)) => "keevo.kv.v1.Kv/Pipe.FanOut",
        Some(Ask::OpenSession(_)) => "keevo.kv.v1.Kv/Pipe.OpenSession",
        Some(Ask::Keyspace(_)) => "keevo.kv.v1.Kv/Pipe.Keyspace",
        None => "keevo.kv.v1.Kv/Pipe.unknown",
    }
}

fn required<T>(field: Option<T>, what: &str) -> Result<T> {
    field.ok_or_else(|| Error::invalid(format!("{what} is missing")))
}

fn consistency(wire: Option<pb::Consistency>) -> Result<Consistency> {
    wire.map_or(Ok(Consistency::default()), TryInto::try_into)
}

/// How long a request may take.
fn limit(deadline_ms: u32) -> Duration {
    let limit_ms = if deadline_ms == 0 { DEADLINE_MS_DEFAULT } else { deadline_ms.min(DEADLINE_MS_MAX) };
    Duration::from_millis(limit_ms.into())
}

/// `future`, or an error of the kind `late` once the deadline of the request has passed.
async fn within<T>(deadline_ms: u32, late: ErrorKind, future: impl Future<Output = Result<T>>) -> Result<T> {
    let limit = limit(deadline_ms);
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result,
        Err(elapsed) => {
            Err(Error::new(late, format!("no answer within {} ms", limit.as_millis())).with_source(elapsed))
        }
    }
}
