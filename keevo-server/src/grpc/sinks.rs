//! `keevo.admin.v1.Sinks` over the sinks of the cluster.
//!
//! Invariant: the service decides nothing; it translates. A password goes in and never comes out.

use std::fmt;

use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::sinks_server::{Sinks as SinksApi, SinksServer};
use keevo_proto::status_from_error;
use keevo_streams::{
    Connection, Delivery, Format, KafkaTopic, Mechanism, Sasl, Secret, Sink, SinkStatus, Sinks, Start, Tls, To,
};
use tonic::{Request, Response, Status};

/// The service of one node.
pub struct SinksService {
    sinks: Sinks,
}

impl fmt::Debug for SinksService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SinksService")
    }
}

impl SinksService {
    /// The service over the sinks, ready to be added to a server.
    pub fn server(sinks: Sinks) -> SinksServer<Self> {
        SinksServer::new(Self { sinks })
    }
}

fn answer<T>(result: Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status_from_error(&error))
}

/// The sink that a request asks for.
fn asked(sink: pb::Sink) -> Result<Sink> {
    let to = sink.to.ok_or_else(|| Error::invalid("a sink needs a target: a topic of Kafka, a file or stdout"))?;
    let to = match to {
        pb::sink::To::Kafka(topic) => To::Kafka(topic_of(topic)?),
        pb::sink::To::File(file) => To::File { rotate_mib: file.rotate_mib, keep: file.keep },
        pb::sink::To::Stdout(pb::LinesStdout {}) => To::Stdout,
    };
    let format = match sink.format.as_str() {
        "json" => Format::Json,
        "raw" => Format::Raw,
        other => return Err(Error::invalid(format!("a format is json or raw, not '{}'", other.escape_debug()))),
    };
    Ok(Sink {
        id: 0,
        name: sink.name,
        keyspace: sink.keyspace,
        prefix: sink.prefix.to_vec(),
        to,
        format,
        node: Some(sink.node).filter(|node| *node != 0),
        paused: false,
        created_ms: 0,
    })
}

fn topic_of(topic: pb::KafkaTopic) -> Result<KafkaTopic> {
    let pb::KafkaTopic { brokers, topic, transactions, tls, ca_pem, sasl } = topic;
    if !tls && !ca_pem.is_empty() {
        return Err(Error::invalid("a CA is for TLS: ask for that too"));
    }
    let tls = tls.then(|| Tls { ca_pem: Some(ca_pem).filter(|pem| !pem.is_empty()) });
    let sasl = sasl.map(|sasl| {
        let mechanism = Mechanism::from_name(&sasl.mechanism)?;
        Ok::<_, Error>(Sasl { mechanism, username: sasl.username, password: Secret::new(sasl.password) })
    });
    let connection = Connection { brokers, tls, sasl: sasl.transpose()? };
    let delivery = if transactions { Delivery::ExactlyOnce } else { Delivery::AtLeastOnce };
    Ok(KafkaTopic { connection, topic, delivery })
}

fn told_topic(topic: KafkaTopic) -> pb::KafkaTopic {
    let KafkaTopic { connection, topic, delivery } = topic;
    let sasl = connection.sasl.map(|sasl| pb::KafkaSasl {
        mechanism: sasl.mechanism.name().to_owned(),
        username: sasl.username,
        password: String::new(),
    });
    pb::KafkaTopic {
        brokers: connection.brokers,
        topic,
        transactions: delivery == Delivery::ExactlyOnce,
        tls: connection.tls.is_some(),
        ca_pem: connection.tls.and_then(|tls| tls.ca_pem).unwrap_or_default(),
        sasl,
    }
}

fn told(status: SinkStatus) -> pb::SinkStatus {
    let SinkStatus { sink, state, node, told, failure, lag } = status;
    let promise = sink.promise().to_owned();
    let Sink { name, keyspace, prefix, to, format, node: only, created_ms, .. } = sink;
    let to = match to {
        To::Kafka(topic) => pb::sink::To::Kafka(told_topic(topic)),
        To::File { rotate_mib, keep } => pb::sink::To::File(pb::LinesFile { rotate_mib, keep }),
        To::Stdout => pb::sink::To::Stdout(pb::LinesStdout {}),
    };
    let format = match format {
        Format::Json => "json",
        Format::Raw => "raw",
    };
    let shards =
        lag.into_iter().map(|lag| pb::SinkShard { shard: lag.shard, told_revision: lag.told, revision: lag.now });
    pb::SinkStatus {
        sink: Some(pb::Sink {
            name,
            keyspace,
            prefix: prefix.into(),
            to: Some(to),
            format: format.to_owned(),
            node: only.unwrap_or_default(),
        }),
        state: state.name().to_owned(),
        running_on: node,
        promise,
        told,
        created_ms,
        failure: failure.map(|one| pb::SinkFailure { at_ms: one.at_ms, node: one.node, message: one.message }),
        shards: shards.collect(),
    }
}

#[tonic::async_trait]
impl SinksApi for SinksService {
    async fn create_sink(
        &self,
        request: Request<pb::CreateSinkRequest>,
    ) -> Result<Response<pb::CreateSinkResponse>, Status> {
        let pb::CreateSinkRequest { sink, from_revision } = request.into_inner();
        let start = match from_revision {
            None => Start::Now,
            Some(0) => Start::Beginning,
            Some(revision) => Start::Revision(revision),
        };
        let made = async {
            let sink = asked(sink.ok_or_else(|| Error::invalid("the request has no sink"))?)?;
            self.sinks.create(sink, start).await
        };
        answer(made.await.map(|_made| pb::CreateSinkResponse {}))
    }

    async fn list_sinks(
        &self,
        _request: Request<pb::ListSinksRequest>,
    ) -> Result<Response<pb::ListSinksResponse>, Status> {
        let sinks = self.sinks.statuses().await;
        answer(sinks.map(|sinks| pb::ListSinksResponse { sinks: sinks.into_iter().map(told).collect() }))
    }

    async fn get_sink(&self, request: Request<pb::GetSinkRequest>) -> Result<Response<pb::GetSinkResponse>, Status> {
        let found = self.sinks.status(&request.into_inner().name).await;
        answer(found.map(|status| pb::GetSinkResponse { sink: Some(told(status)) }))
    }

    async fn pause_sink(
        &self,
        request: Request<pb::PauseSinkRequest>,
    ) -> Result<Response<pb::PauseSinkResponse>, Status> {
        let paused = self.sinks.pause(&request.into_inner().name, true).await;
        answer(paused.map(|_sink| pb::PauseSinkResponse {}))
    }

    async fn resume_sink(
        &self,
        request: Request<pb::ResumeSinkRequest>,
    ) -> Result<Response<pb::ResumeSinkResponse>, Status> {
        let pb::ResumeSinkRequest { name, skip_gap } = request.into_inner();
        let resumed = async {
            let gap = self.sinks.status(&name).await?.failure.filter(|failure| failure.gap);
            match gap {
                Some(_) if skip_gap => self.sinks.skip_gap(&name).await?,
                Some(failure) => {
                    let message = format!("{}: to go on without them, skip the gap", failure.message);
                    return Err(Error::new(ErrorKind::CursorCompacted, message));
                }
                None => {}
            }
            self.sinks.pause(&name, false).await
        };
        answer(resumed.await.map(|_sink| pb::ResumeSinkResponse {}))
    }

    async fn delete_sink(
        &self,
        request: Request<pb::DeleteSinkRequest>,
    ) -> Result<Response<pb::DeleteSinkResponse>, Status> {
        let deleted = self.sinks.delete(&request.into_inner().name).await;
        answer(deleted.map(|()| pb::DeleteSinkResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> pb::Sink {
        let sasl =
            pb::KafkaSasl { mechanism: "SCRAM-SHA-512".into(), username: "keevo".into(), password: "hush".into() };
        let topic = pb::KafkaTopic {
            brokers: "a:9092".into(),
            topic: "orders".into(),
            transactions: true,
            tls: true,
            ca_pem: String::new(),
            sasl: Some(sasl),
        };
        pb::Sink {
            name: "orders".into(),
            keyspace: "orders".into(),
            prefix: "eu-".into(),
            to: Some(pb::sink::To::Kafka(topic)),
            format: "json".into(),
            node: 0,
        }
    }

    #[test]
    fn a_sink_goes_in_and_comes_out_without_its_password() {
        let sink = asked(request()).expect("possible");
        assert!(sink.check().is_ok());
        let state = keevo_streams::State::Waiting;
        let status = SinkStatus { sink, state, node: 0, told: 3, failure: None, lag: Vec::new() };
        let shown = told(status);
        let Some(pb::sink::To::Kafka(topic)) = shown.sink.clone().and_then(|sink| sink.to) else { panic!("{shown:?}") };
        assert!(topic.tls && topic.transactions && topic.sasl.is_some_and(|sasl| sasl.password.is_empty()));
        assert_eq!(shown.promise, "exactly once (transactions)");
        assert!(!format!("{shown:?}").contains("hush"));
    }

    #[test]
    fn what_is_missing_or_unknown_is_refused() {
        let bad: [fn(&mut pb::Sink); 3] = [
            |sink| sink.to = None,
            |sink| sink.format = "xml".into(),
            |sink| {
                if let Some(pb::sink::To::Kafka(topic)) = &mut sink.to {
                    topic.sasl = Some(pb::KafkaSasl { mechanism: "GSSAPI".into(), ..Default::default() });
                }
            },
        ];
        for change in bad {
            let mut sink = request();
            change(&mut sink);
            assert_eq!(asked(sink).expect_err("refused").kind(), ErrorKind::Invalid);
        }
    }
}
