//! One `ClassifyStream`: requests in, answers out as they are done.
//!
//! Invariant: every request that was read is answered once, also when the sidecar stops. At most [`UNDER_WAY_MAX`] are
//! under way: beyond it nothing is read, so HTTP/2 holds the client back. Once the client is gone nothing is judged for
//! it any more.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use keevo_core::Error;
use keevo_proto::moderation::v1 as pb;
use pb::classify_stream_response::Outcome;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{ask, convert, retry_after_s, status};
use crate::serve::batcher::stopping;
use crate::serve::http::Front;

/// The most requests of a stream that are under way.
const UNDER_WAY_MAX: usize = 64;

type Answers = mpsc::Sender<Result<pb::ClassifyStreamResponse, Status>>;

/// Answers the requests of a stream, until it ends or `stop`.
pub(super) fn start(
    front: Arc<Front>,
    requests: Streaming<pb::ClassifyStreamRequest>,
    stop: CancellationToken,
) -> mpsc::Receiver<Result<pb::ClassifyStreamResponse, Status>> {
    let (answers, answered) = mpsc::channel(1);
    tokio::spawn(async move {
        if let Some(last) = drive(&front, requests, &answers, &stop).await {
            // A client that is gone does not miss it.
            drop(answers.send(Err(last)).await);
        }
    });
    answered
}

/// Answers what is read; what the stream ends with, where that is an error.
async fn drive(
    front: &Front,
    mut requests: Streaming<pb::ClassifyStreamRequest>,
    answers: &Answers,
    stop: &CancellationToken,
) -> Option<Status> {
    let mut under_way = FuturesUnordered::new();
    let (mut reading, mut last) = (true, None);
    while reading || !under_way.is_empty() {
        tokio::select! {
            biased;
            () = answers.closed() => return None,
            Some(answer) = under_way.next(), if !under_way.is_empty() => {
                if answers.send(Ok(answer)).await.is_err() {
                    return None;
                }
            }
            () = stop.cancelled(), if reading => {
                reading = false;
                last = Some(status(front, &stopping()));
            }
            read = requests.message(), if reading && under_way.len() < UNDER_WAY_MAX => match read {
                Ok(Some(request)) => under_way.push(answer(front, request)),
                Ok(None) => reading = false,
                Err(broken) => {
                    reading = false;
                    last = Some(broken);
                }
            },
        }
    }
    last
}

async fn answer(front: &Front, request: pb::ClassifyStreamRequest) -> pb::ClassifyStreamResponse {
    let asked = match request.request {
        Some(asked) => ask(front, asked).await,
        None => Err(Error::invalid("`request` is missing: it says what to judge")),
    };
    let outcome = match asked {
        Ok(response) => Outcome::Response(response),
        Err(error) => Outcome::Failure(convert::failure(&error, retry_after_s(front, &error))),
    };
    pb::ClassifyStreamResponse { id: request.id, outcome: Some(outcome) }
}
