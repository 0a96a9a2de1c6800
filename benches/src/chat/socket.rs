//! A client's socket, with what is needed to resume.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use keevo_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::api::{KEY, user_token};

/// How long a socket may take until it is welcome.
const WELCOME_WITHIN: Duration = Duration::from_mins(1);
/// Memory of a socket for what is read and written: there may be ten thousand.
const BUFFER_BYTES: usize = 4 << 10;

/// A socket that is welcome.
pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
}

/// What a frame says, as far as a client that counts is concerned.
#[derive(Debug, Deserialize)]
pub(super) struct Said<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: &'a str,
    pub(super) version: Option<u64>,
    pub(super) index: Option<u32>,
    pub(super) resume: Option<&'a str>,
    pub(super) message: Option<Numbered>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Numbered {
    pub(super) sequence: Option<u64>,
}

impl Socket {
    /// Connects and says hello; with the welcome. `resume`: a token and what was seen of channels.
    pub(super) async fn open(node: SocketAddr, user: &str, resume: Option<(&str, Value)>) -> Result<(Self, Utf8Bytes)> {
        let opening = async {
            let failed = |what: &str| Error::new(ErrorKind::Unavailable, format!("{node}: {what}"));
            let tcp = TcpStream::connect(node).await.map_err(|error| failed("no connection").with_source(error))?;
            tcp.set_nodelay(true).map_err(|error| failed("no connection").with_source(error))?;
            let url = format!("ws://{node}/chat/v1/connect");
            let settings = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
            let upgraded = tokio_tungstenite::client_async_with_config(url, tcp, Some(settings)).await;
            let (stream, _) = upgraded.map_err(|error| failed("no socket").with_source(error))?;
            let mut socket = Self { stream };
            let mut hello = json!({ "type": "hello", "id": 1, "api_key": KEY, "token": user_token(user)? });
            if let (Some((token, seen)), Some(hello)) = (resume, hello.as_object_mut()) {
                hello.insert("resume".to_owned(), json!(token));
                hello.insert("seen".to_owned(), seen);
            }
            socket.say(&hello).await?;
            let welcome = socket.next().await?;
            if !welcome.contains(r#""type":"welcome""#) {
                return Err(failed(&format!("no welcome: {welcome}")));
            }
            Ok((socket, welcome))
        };
        tokio::time::timeout(WELCOME_WITHIN, opening).await.unwrap_or_else(|elapsed| {
            Err(Error::new(ErrorKind::DeadlineExceeded, format!("{node}: no welcome in time")).with_source(elapsed))
        })
    }

    /// Subscribes to a channel from now on; with the reply.
    pub(super) async fn subscribe(&mut self, cid: &str) -> Result<Utf8Bytes> {
        self.say(&json!({ "type": "subscribe", "id": 2, "channels": [{ "cid": cid }] })).await?;
        loop {
            let frame = self.next().await?;
            if frame.contains(r#""type":"subscribed""#) {
                if frame.contains(r#""status":"ok""#) {
                    return Ok(frame);
                }
                return Err(Error::invalid(format!("the subscription was refused: {frame}")));
            }
        }
    }

    /// Says a frame.
    pub(super) async fn say(&mut self, frame: &Value) -> Result<()> {
        let sent = self.stream.send(Message::text(frame.to_string())).await;
        sent.map_err(|error| Error::new(ErrorKind::Unavailable, "the socket is gone").with_source(error))
    }

    /// The next frame. `Unavailable` once the socket has ended.
    pub(super) async fn next(&mut self) -> Result<Utf8Bytes> {
        let ended = |what: String| Error::new(ErrorKind::Unavailable, format!("the socket ended: {what}"));
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Close(close))) => return Err(ended(format!("{close:?}"))),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(ended(error.to_string())),
                None => return Err(ended("without a word".to_owned())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_frame_says_is_read_whatever_else_it_holds() {
        let frame = r#"{"cid":"team:a","index":1,"message":{"id":"x","sequence":7,"text":"a"},"type":"message.new","version":9}"#;
        let said: Said<'_> = serde_json::from_str(frame).expect("read");
        assert_eq!((said.kind, said.version, said.index), ("message.new", Some(9), Some(1)));
        assert_eq!(said.message.and_then(|message| message.sequence), Some(7));
        let said: Said<'_> = serde_json::from_str(r#"{"type":"resume","resume":"abc"}"#).expect("read");
        assert_eq!((said.kind, said.resume), ("resume", Some("abc")));
    }
}
