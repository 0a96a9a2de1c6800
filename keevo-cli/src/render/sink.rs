//! Sinks: where they tell changes to, what they promise, how far they are.

use keevo_proto::admin::v1 as pb;
use serde_json::{Value, json};

use super::table;
use crate::output::Answer;
use crate::text::{line, put_bytes, shorten, time};

/// All sinks.
#[derive(Debug)]
pub(crate) struct Sinks(pub(crate) Vec<pb::SinkStatus>);

/// How many revisions a sink is behind, in all shards together.
fn lag(status: &pb::SinkStatus) -> u64 {
    status.shards.iter().map(|shard| shard.revision.saturating_sub(shard.told_revision)).sum()
}

fn destination(sink: &pb::Sink) -> String {
    match &sink.to {
        Some(pb::sink::To::Kafka(topic)) => format!("kafka {} at {}", line(&topic.topic), line(&topic.brokers)),
        Some(pb::sink::To::File(_)) => "file".to_owned(),
        Some(pb::sink::To::Stdout(_)) => "stdout".to_owned(),
        None => "-".to_owned(),
    }
}

fn node(node: u64) -> String {
    if node == 0 { "-".to_owned() } else { node.to_string() }
}

fn to_json(to: &pb::sink::To) -> Value {
    match to {
        pb::sink::To::Kafka(topic) => json!({
            "kafka": {
                "brokers": topic.brokers,
                "topic": topic.topic,
                "transactions": topic.transactions,
                "tls": topic.tls,
                "ca_pem": topic.ca_pem,
                "sasl": topic.sasl.as_ref().map(|sasl| json!({
                    "mechanism": sasl.mechanism, "user": sasl.username, "password": "[redacted]",
                })),
            }
        }),
        pb::sink::To::File(file) => json!({ "file": { "rotate_mib": file.rotate_mib, "keep": file.keep } }),
        pb::sink::To::Stdout(_) => json!({ "stdout": {} }),
    }
}

fn status_json(status: &pb::SinkStatus) -> Value {
    let sink = status.sink.clone().unwrap_or_default();
    let shard = |one: &pb::SinkShard| {
        json!({
            "shard": one.shard,
            "told_revision": one.told_revision,
            "revision": one.revision,
            "lag": one.revision.saturating_sub(one.told_revision),
        })
    };
    let failure =
        status.failure.as_ref().map(|one| json!({ "at_ms": one.at_ms, "node": one.node, "message": one.message }));
    let mut object = super::object(json!({
        "name": sink.name,
        "keyspace": sink.keyspace,
        "to": sink.to.as_ref().map(to_json),
        "format": sink.format,
        "only_node": Some(sink.node).filter(|node| *node != 0),
        "state": status.state,
        "node": Some(status.running_on).filter(|node| *node != 0),
        "promise": status.promise,
        "told": status.told,
        "created_ms": status.created_ms,
        "failure": failure,
        "lag": lag(status),
        "shards": status.shards.iter().map(shard).collect::<Vec<_>>(),
    }));
    put_bytes(&mut object, "prefix", &sink.prefix);
    Value::Object(object)
}

impl Answer for Sinks {
    fn table(&self) -> String {
        let rows = self.0.iter().map(|status| {
            let sink = status.sink.clone().unwrap_or_default();
            [
                line(&sink.name),
                line(&sink.keyspace),
                destination(&sink),
                line(&status.state),
                node(status.running_on),
                status.told.to_string(),
                lag(status).to_string(),
                line(&status.promise),
            ]
        });
        let header = ["Sink", "Keyspace", "To", "State", "Node", "Told", "Lag", "Promise"];
        table(header, rows.collect(), "no sinks")
    }

    fn json(&self) -> Value {
        json!({ "sinks": self.0.iter().map(status_json).collect::<Vec<_>>() })
    }

    fn list(&self) -> Option<&'static str> {
        Some("sinks")
    }
}

impl Answer for pb::SinkStatus {
    fn table(&self) -> String {
        let sink = self.sink.clone().unwrap_or_default();
        let mut rows = vec![
            ["name".to_owned(), line(&sink.name)],
            ["keyspace".to_owned(), line(&sink.keyspace)],
            ["partitions that start with".to_owned(), shorten(&sink.prefix)],
            ["to".to_owned(), destination(&sink)],
            ["format".to_owned(), line(&sink.format)],
            ["promise".to_owned(), line(&self.promise)],
            ["state".to_owned(), line(&self.state)],
            ["runs on node".to_owned(), node(self.running_on)],
            ["only on node".to_owned(), node(sink.node)],
            ["made".to_owned(), time(self.created_ms)],
            ["changes told".to_owned(), self.told.to_string()],
        ];
        if let Some(pb::sink::To::Kafka(topic)) = &sink.to {
            let user = topic.sasl.as_ref().map(|sasl| format!("{} as {}", line(&sasl.mechanism), line(&sasl.username)));
            rows.push(["TLS".to_owned(), if topic.tls { "yes" } else { "no" }.to_owned()]);
            rows.push(["SASL".to_owned(), user.unwrap_or_else(|| "no".to_owned())]);
        }
        if let Some(failure) = &self.failure {
            let said = format!("{} on node {}: {}", time(failure.at_ms), failure.node, line(&failure.message));
            rows.push(["last failure".to_owned(), said]);
        }
        let shards = self.shards.iter().map(|shard| {
            let lag = shard.revision.saturating_sub(shard.told_revision);
            [shard.shard.to_string(), shard.told_revision.to_string(), shard.revision.to_string(), lag.to_string()]
        });
        let shards = table(["Shard", "Told up to", "Revision", "Lag"], shards.collect(), "no shards");
        format!("{}\n{shards}", table(["Sink", ""], rows, ""))
    }

    fn json(&self) -> Value {
        status_json(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> pb::SinkStatus {
        let sasl = pb::KafkaSasl { mechanism: "PLAIN".into(), username: "keevo".into(), password: "hush".into() };
        let topic = pb::KafkaTopic {
            brokers: "a:1".into(),
            topic: "orders".into(),
            transactions: true,
            tls: true,
            ca_pem: String::new(),
            sasl: Some(sasl),
        };
        let sink = pb::Sink {
            name: "orders".into(),
            keyspace: "orders".into(),
            prefix: "eu-".into(),
            to: Some(pb::sink::To::Kafka(topic)),
            format: "json".into(),
            node: 0,
        };
        pb::SinkStatus {
            sink: Some(sink),
            state: "waiting".into(),
            promise: "exactly once (transactions)".into(),
            told: 7,
            failure: Some(pb::SinkFailure { at_ms: 0, node: 2, message: "down\u{1b}[2J".into() }),
            shards: vec![
                pb::SinkShard { shard: 1, told_revision: 5, revision: 9 },
                pb::SinkShard { shard: 2, told_revision: 9, revision: 9 },
            ],
            ..Default::default()
        }
    }

    #[test]
    fn a_sink_says_what_it_promises_and_no_password() {
        for shown in [status().table(), status().json().to_string(), Sinks(vec![status()]).table()] {
            assert!(shown.contains("exactly once (transactions)"), "{shown}");
            assert!(!shown.contains("hush") && !shown.contains('\u{1b}'), "{shown}");
        }
        let json = status().json();
        assert_eq!((&json["lag"], &json["shards"][0]["lag"], &json["node"]), (&json!(4), &json!(4), &json!(null)));
        assert_eq!((&json["prefix"], &json["to"]["kafka"]["sasl"]["user"]), (&json!("eu-"), &json!("keevo")));
        assert_eq!(Sinks(Vec::new()).table(), "no sinks");
    }
}
