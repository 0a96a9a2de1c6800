//! NATS JetStream as a peer: the part of its text protocol that publishing to consumers takes.
//!
//! ```text
//! client  CONNECT {…}   SUB subject sid   PUB subject reply bytes ⏎ payload
//! server  INFO {…}   MSG subject sid [reply] bytes ⏎ payload   PING   +OK   -ERR 'why'
//! ```

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use keevo_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::publish::{Broker, Watching};

const STREAM: &str = "bench";
const SUBJECT: &str = "bench.messages";
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The longest payload that is taken.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// The longest line.
const LINE_BYTES_MAX: usize = 64 << 10;

/// A server with a stream of its own, and connections to publish over.
pub(crate) struct Nats {
    address: String,
    /// Connections over which nothing is published now.
    free: Mutex<Vec<Connection>>,
}

impl Nats {
    /// Makes the stream, in files, and `publishers` connections.
    pub(crate) async fn open(address: &str, publishers: usize) -> Result<Self> {
        let mut first = Connection::open(address).await?;
        let config = json!({
            "name": STREAM, "subjects": [SUBJECT], "retention": "limits", "storage": "file", "num_replicas": 1,
            "discard": "old", "max_msgs": -1, "max_bytes": -1, "max_age": 0,
        });
        first.call(&format!("$JS.API.STREAM.CREATE.{STREAM}"), &config).await?;
        let mut free = vec![first];
        while free.len() < publishers {
            free.push(Connection::open(address).await?);
        }
        Ok(Self { address: address.to_owned(), free: Mutex::new(free) })
    }
}

impl Broker for Nats {
    type Watcher = Connection;

    async fn watcher(&self, number: usize) -> Result<Connection> {
        let mut connection = Connection::open(&self.address).await?;
        let inbox = format!("deliver.{number}");
        connection.write(format!("SUB {inbox} 2\r\n").as_bytes()).await?;
        let config = json!({
            "stream_name": STREAM,
            "config": { "deliver_subject": inbox, "deliver_policy": "new", "ack_policy": "none", "replay_policy": "instant" },
        });
        connection.call(&format!("$JS.API.CONSUMER.CREATE.{STREAM}"), &config).await?;
        Ok(connection)
    }

    async fn send(&self, _number: u64, text: &str) -> Result<()> {
        let free = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = free().pop();
        let mut connection = match taken {
            Some(connection) => connection,
            None => Connection::open(&self.address).await?,
        };
        connection.ask(SUBJECT, text.as_bytes()).await?;
        free().push(connection);
        Ok(())
    }
}

impl Watching for Connection {
    async fn next(&mut self) -> Result<Bytes> {
        self.message().await
    }
}

/// A connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
    inbox: String,
}

impl Connection {
    async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.map_err(|error| gone().with_source(error))?;
        stream.set_nodelay(true).map_err(|error| gone().with_source(error))?;
        let local = stream.local_addr().map_err(|error| gone().with_source(error))?;
        let mut connection = Self { stream, buffer: BytesMut::new(), inbox: format!("_INBOX.{}", local.port()) };
        let hello = json!({ "verbose": false, "pedantic": false, "lang": "rust", "version": "0", "protocol": 1 });
        let inbox = connection.inbox.clone();
        connection.write(format!("CONNECT {hello}\r\nSUB {inbox} 1\r\n").as_bytes()).await?;
        Ok(connection)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await.map_err(|error| gone().with_source(error))
    }

    /// Publishes with a reply subject; the reply.
    async fn ask(&mut self, subject: &str, payload: &[u8]) -> Result<Value> {
        let mut frame = format!("PUB {subject} {} {}\r\n", self.inbox, payload.len()).into_bytes();
        frame.extend_from_slice(payload);
        frame.extend_from_slice(b"\r\n");
        self.write(&frame).await?;
        let answered = tokio::time::timeout(ANSWER_WITHIN, self.message()).await;
        let reply = answered.map_err(|elapsed| {
            Error::new(ErrorKind::DeadlineExceeded, "NATS does not answer").with_source(elapsed)
        })??;
        let reply: Value = serde_json::from_slice(&reply)
            .map_err(|error| Error::new(ErrorKind::Unavailable, "NATS answers no JSON").with_source(error))?;
        if reply.get("error").is_some() {
            return Err(Error::new(ErrorKind::Unavailable, format!("NATS refuses: {reply}")));
        }
        Ok(reply)
    }

    async fn call(&mut self, subject: &str, request: &Value) -> Result<Value> {
        self.ask(subject, request.to_string().as_bytes()).await
    }

    /// The payload of the next message. Answers pings meanwhile.
    async fn message(&mut self) -> Result<Bytes> {
        loop {
            let line = self.line().await?;
            if let Some(rest) = line.strip_prefix("MSG ") {
                let bytes = rest.rsplit(' ').next().and_then(|bytes| bytes.trim().parse::<usize>().ok());
                let bytes = bytes.filter(|bytes| *bytes <= PAYLOAD_BYTES_MAX);
                let bytes = bytes.ok_or_else(|| Error::new(ErrorKind::Unavailable, format!("NATS said {line}")))?;
                while self.buffer.len() < bytes + 2 {
                    self.fill().await?;
                }
                let payload = self.buffer.split_to(bytes).freeze();
                self.buffer.advance(2);
                return Ok(payload);
            }
            if line.starts_with("PING") {
                self.write(b"PONG\r\n").await?;
            } else if line.starts_with("-ERR") {
                return Err(Error::new(ErrorKind::Unavailable, format!("NATS said {line}")));
            }
        }
    }

    async fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.split_to(end);
                self.buffer.advance(2);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Error::new(ErrorKind::Unavailable, "NATS sends a line without an end"));
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(gone()),
            Ok(_) => Ok(()),
            Err(error) => Err(gone().with_source(error)),
        }
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Unavailable, "the connection to NATS is gone")
}
