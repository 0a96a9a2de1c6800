//! Redis as timelines are kept there: a sorted set a follower, and a string an activity and a user.
//!
//! A post is its activity and one ZADD a follower, pipelined a hundred at a time over one of a few connections; a page is
//! ZREVRANGE, MGET of the activities and MGET of their users.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use keevo_core::{Error, ErrorKind, Result};
use redis::aio::MultiplexedConnection;
use redis::{Client, FromRedisValue, Pipeline, RedisError};
use serde_json::{Value, json};

use super::{PAGE, Shape, Timelines, USERS, text_of, user_of, user_text};

/// How many commands are in flight on a connection that fans out.
const PIPELINE: usize = 100;
/// Connections for reading, dealt out in turn.
const READERS: usize = 12;

/// The timelines of one Redis.
#[derive(Debug, Clone)]
pub(crate) struct RedisTimelines {
    writers: Arc<[MultiplexedConnection]>,
    readers: Arc<[MultiplexedConnection]>,
    turn: Arc<AtomicUsize>,
    posted: Arc<AtomicU64>,
    shape: Shape,
}

impl RedisTimelines {
    /// Connects, `writers` times for fan-outs, and makes the users. `Unavailable`: it does not answer.
    pub(crate) async fn open(address: &str, writers: usize, shape: Shape) -> Result<Self> {
        let client = Client::open(format!("redis://{address}/")).map_err(|error| failed("is no address", error))?;
        let connect = async |count: usize| {
            let mut connections = Vec::with_capacity(count);
            for _ in 0..count {
                let connection = client.get_multiplexed_async_connection().await;
                connections.push(connection.map_err(|error| failed("cannot be reached", error))?);
            }
            Ok::<Arc<[_]>, Error>(connections.into())
        };
        let (writers, readers) = (connect(writers.max(1)).await?, connect(READERS).await?);
        let timelines = Self { writers, readers, turn: Arc::default(), posted: Arc::default(), shape };
        let mut users = redis::pipe();
        for number in 0..USERS {
            users.cmd("SET").arg(format!("u:{}", user_of(number))).arg(user_text(number)).ignore();
        }
        run::<()>(&users, &mut timelines.turn_of(&timelines.writers)?).await?;
        Ok(timelines)
    }

    fn turn_of(&self, connections: &[MultiplexedConnection]) -> Result<MultiplexedConnection> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let connection = connections.get(turn % connections.len().max(1)).cloned();
        connection.ok_or_else(|| Error::new(ErrorKind::Unavailable, "there is no connection to redis"))
    }
}

impl Timelines for RedisTimelines {
    async fn post(&self) -> Result<()> {
        let number = self.posted.fetch_add(1, Ordering::Relaxed);
        let mut connection = self.turn_of(&self.writers)?;
        let (id, score) = (format!("{number:016x}"), number.to_string());
        let activity = json!({ "actor": user_of(number), "verb": "post", "object": format!("post:{number}"),
            "text": text_of(number, self.shape.text_bytes) });
        let mut batch = redis::pipe();
        batch.cmd("SET").arg(format!("a:{id}")).arg(activity.to_string()).ignore();
        let mut waiting = 1;
        for follower in 0..self.shape.followers {
            batch.cmd("ZADD").arg(format!("t:{follower}")).arg(&score).arg(&id).ignore();
            waiting += 1;
            if waiting == PIPELINE {
                run::<()>(&batch, &mut connection).await?;
                batch.clear();
                waiting = 0;
            }
        }
        if waiting > 0 {
            run::<()>(&batch, &mut connection).await?;
        }
        Ok(())
    }

    async fn page(&self, follower: u32) -> Result<usize> {
        let mut connection = self.turn_of(&self.readers)?;
        let mut newest = redis::cmd("ZREVRANGE");
        newest.arg(format!("t:{follower}")).arg(0).arg(PAGE - 1);
        let ids: Vec<String> = newest.query_async(&mut connection).await.map_err(unanswered)?;
        let mut activities = redis::cmd("MGET");
        activities.arg(ids.iter().map(|id| format!("a:{id}")).collect::<Vec<_>>());
        let activities: Vec<Option<String>> = activities.query_async(&mut connection).await.map_err(unanswered)?;
        let parsed = activities.iter().flatten().filter_map(|text| serde_json::from_str::<Value>(text).ok());
        let actors: Vec<String> = parsed.filter_map(|one| Some(one.get("actor")?.as_str()?.to_owned())).collect();
        let mut asked = actors.clone();
        asked.sort_unstable();
        asked.dedup();
        let mut users = redis::cmd("MGET");
        users.arg(asked.iter().map(|actor| format!("u:{actor}")).collect::<Vec<_>>());
        let users: Vec<Option<String>> = users.query_async(&mut connection).await.map_err(unanswered)?;
        let known = |actor: &String| asked.iter().zip(&users).any(|(one, text)| one == actor && text.is_some());
        Ok(actors.iter().filter(|actor| known(actor)).count())
    }

    async fn entries(&self) -> Result<u64> {
        let expected = self.posted.load(Ordering::Relaxed);
        let mut connection = self.turn_of(&self.readers)?;
        for follower in [0, self.shape.followers.saturating_sub(1)] {
            let mut count = redis::cmd("ZCARD");
            let found: u64 =
                count.arg(format!("t:{follower}")).query_async(&mut connection).await.map_err(unanswered)?;
            if found != expected {
                return Err(Error::corrupt(format!("a timeline of redis has {found} entries, not {expected}")));
            }
        }
        Ok(expected * u64::from(self.shape.followers))
    }
}

async fn run<T: FromRedisValue>(batch: &Pipeline, connection: &mut MultiplexedConnection) -> Result<T> {
    batch.query_async(connection).await.map_err(unanswered)
}

fn unanswered(error: RedisError) -> Error {
    failed("does not answer", error)
}

fn failed(what: &str, error: RedisError) -> Error {
    Error::new(ErrorKind::Unavailable, format!("redis {what}")).with_source(error)
}
