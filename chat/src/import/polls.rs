//! Polls and votes of an import.
//!
//! Invariant: a poll that is there stays as it is, and so does a ballot; what a ballot counts is written with it.

use std::collections::BTreeSet;

use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Result};
use serde_json::Value;

use super::lines::{Fields, Read};
use crate::chat::{Chat, no_channel};
use crate::ids::{ChannelId, validate_name};
use crate::message::validate_custom;
use crate::poll::vote::recount;
use crate::poll::{POLL_OPTIONS_MAX, no_poll};
use crate::rows::{self, BallotRow, OptionRow, PollRow};

pub(super) struct PollLine {
    channel: String,
    id: String,
    row: PollRow,
}

pub(super) struct VoteLine {
    channel: String,
    poll: String,
    user: String,
    row: BallotRow,
}

pub(super) fn poll(mut fields: Fields) -> Read<PollLine> {
    let mut options = Vec::new();
    match fields.take("options") {
        None => {}
        Some(Value::Array(all)) => {
            for one in all {
                let Value::Object(left) = one else {
                    return Err("'options' of a poll is a list of objects".to_owned());
                };
                let mut option = Fields::new("option", left);
                options.push(OptionRow {
                    id: option.needed("id")?,
                    text: option.needed("text")?,
                    suggested_by: option.text("suggested_by")?.unwrap_or_default(),
                });
                option.end()?;
            }
        }
        Some(_) => return Err("'options' of a poll is a list of objects".to_owned()),
    }
    let votes_max = fields.number("votes_max")?.unwrap_or(0);
    let row = PollRow {
        name: fields.text("name")?.unwrap_or_default(),
        description: fields.text("description")?,
        options,
        created_by: fields.needed("created_by")?,
        created_at_ms: fields.number("created_at_ms")?.unwrap_or(0),
        updated_at_ms: fields.number("updated_at_ms")?,
        closes_at_ms: fields.number("closes_at_ms")?,
        closed_at_ms: fields.number("closed_at_ms")?,
        votes_max: u32::try_from(votes_max).map_err(|_large| "'votes_max' of a poll is too large".to_owned())?,
        anonymous: fields.flag("anonymous")?,
        suggestions: fields.flag("suggestions")?,
        answers: fields.flag("answers")?,
        custom: fields.object("custom")?,
        version: 1,
        deleted_at_ms: fields.number("deleted_at_ms")?,
        fingerprint: 0,
    };
    let line = PollLine { channel: fields.needed("channel")?, id: fields.needed("id")?, row };
    fields.end().map(|()| line)
}

pub(super) fn vote(mut fields: Fields) -> Read<VoteLine> {
    let options: BTreeSet<String> = fields.texts("options")?.into_iter().collect();
    let row = BallotRow {
        options: options.into_iter().collect(),
        answer: fields.text("answer")?,
        voted_at_ms: fields.number("voted_at_ms")?.unwrap_or(0),
        anonymous: false,
    };
    let line = VoteLine {
        channel: fields.needed("channel")?,
        poll: fields.needed("poll")?,
        user: fields.needed("user")?,
        row,
    };
    fields.end().map(|()| line)
}

impl<E: Engine> Chat<E> {
    pub(super) async fn import_poll(&self, line: PollLine) -> Result<()> {
        let PollLine { channel, id, mut row } = line;
        let channel: ChannelId = channel.parse()?;
        validate_name("a poll id", &id)?;
        validate_name("a user id", &row.created_by)?;
        validate_custom(row.custom.as_deref(), &self.options)?;
        if row.options.len() > POLL_OPTIONS_MAX {
            return Err(Error::invalid(format!("a poll has at most {POLL_OPTIONS_MAX} options")));
        }
        row.options.iter().try_for_each(|option| validate_name("an option id", &option.id))?;
        if row.created_at_ms == 0 {
            row.created_at_ms = self.now_ms();
        }
        let keys = self.keys(&channel).await?;
        let batch = Batch::new()
            .merge(keys.version(), 1)
            .put(keys.poll(&id), rows::encode(&row))
            .merge(keys.own(&row.created_by), 0)
            .require(keys.channel(), Check::Exists)
            .require(keys.poll(&id), Check::Absent);
        match self.engine.write(batch).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.get(keys.channel()).await?.map(drop).ok_or_else(|| no_channel(&channel))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn import_vote(&self, line: VoteLine) -> Result<()> {
        let VoteLine { channel, poll, user, mut row } = line;
        let channel: ChannelId = channel.parse()?;
        validate_name("a poll id", &poll)?;
        validate_name("a user id", &user)?;
        let keys = self.keys(&channel).await?;
        let stored = self.get(keys.poll(&poll)).await?.ok_or_else(|| no_poll(&poll))?;
        let of: PollRow = rows::decode(&stored.value, "a poll")?;
        let known = |option: &String| of.options.iter().any(|one| one.id == *option);
        let most = usize::try_from(of.votes_max).unwrap_or(usize::MAX);
        if of.deleted_at_ms.is_some() || !row.options.iter().all(known) || (most > 0 && row.options.len() > most) {
            return Err(Error::invalid(format!("poll '{poll}' does not let anybody vote so")));
        }
        if !row.votes() {
            return Err(Error::invalid("a vote is for an option, or an answer"));
        }
        row.anonymous = of.anonymous;
        let batch = Batch::new()
            .merge(keys.version(), 1)
            .put(keys.ballot(&poll, &user), rows::encode(&row))
            .merge(keys.own(&user), 0)
            .require(keys.ballot(&poll, &user), Check::Absent)
            .require(keys.poll(&poll), Check::Exists);
        match self.engine.write(recount(&keys, batch, &poll, &BallotRow::default(), &row)).await {
            Ok(_) => Ok(()),
            // It is there, maybe changed since.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            Err(error) => Err(error),
        }
    }
}
