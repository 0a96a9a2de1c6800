//! One session with PostgreSQL: it migrates the tables, holds the lock of the only writer, and writes.
//!
//! Invariant: who writes holds the lock in the very session that writes, so a writer that was taken for dead writes
//! nothing more. A piece of work is one transaction. Nothing waits longer than [`WITHIN`].

use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use tokio_postgres::{Client, Config, Statement, Transaction};

use super::refill::HeldText;
use super::rows::{TextRow, VersionRow, Work, shown, shown_json, shown_ms};
use super::tls::Tls;
use crate::verdict::Verdict;
use crate::verdicts::Decided;

/// The longest that PostgreSQL may take for anything.
const WITHIN: Duration = Duration::from_secs(15);
/// The lock of the only writer of a database.
const WRITER: i64 = 0x6b65_6576_6f6d_6f64;
/// The lock of who migrates.
const MIGRATOR: i64 = 0x6b65_6576_6f6d_6967;

/// The migrations, in order; the first is number 1. None is ever changed: a later one mends it.
const MIGRATIONS: [(&str, &str); 2] = [
    ("verdicts", include_str!("../../migrations/0001_verdicts.sql")),
    ("reviews", include_str!("../../migrations/0002_reviews.sql")),
];

const SESSION: &str = "SET statement_timeout = '10s'; SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '30s'; \
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";
const TABLE_OF_VERSIONS: &str = "CREATE TABLE keevo_migrations (version integer PRIMARY KEY, name text NOT NULL, \
    applied_at timestamptz NOT NULL DEFAULT now())";
const UPSERT_VERDICTS: &str = "INSERT INTO keevo_verdicts (app, kind, channel, id, hash, scope, author, text, cut_bytes, \
    written_at, action, reasons, scores, model, masked, judged_at) \
    SELECT app, kind, channel, id, hash, scope, author, text, cut_bytes, to_timestamp(written_ms / 1000.0), action, \
    reasons::jsonb, scores::jsonb, model, masked, to_timestamp(judged_ms / 1000.0) \
    FROM unnest($1::int8[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], \
    $9::int8[], $10::int8[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::int8[]) \
    AS new_row (app, kind, channel, id, hash, scope, author, text, cut_bytes, written_ms, action, reasons, scores, model, \
    masked, judged_ms) \
    ON CONFLICT (app, kind, channel, id, hash) DO UPDATE SET scope = excluded.scope, author = excluded.author, \
    text = excluded.text, cut_bytes = excluded.cut_bytes, written_at = excluded.written_at, action = excluded.action, \
    reasons = excluded.reasons, scores = excluded.scores, model = excluded.model, masked = excluded.masked, \
    judged_at = excluded.judged_at";
const TEXTS_AFTER: &str = "SELECT DISTINCT app, kind, channel, id FROM keevo_verdicts \
    WHERE (app, kind, channel, id) > ($1, $2, $3, $4) ORDER BY app, kind, channel, id LIMIT $5";
const APPEND_REVIEWS: &str = "INSERT INTO keevo_reviews (app, kind, channel, id, hash, ruling, reviewer, labels, note, \
    decided_at) \
    SELECT app, kind, channel, id, hash, ruling, reviewer, \
    ARRAY(SELECT jsonb_array_elements_text(labels::jsonb)), note, to_timestamp(decided_ms / 1000.0) \
    FROM unnest($1::int8[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], \
    $9::text[], $10::int8[]) AS new_row (app, kind, channel, id, hash, ruling, reviewer, labels, note, decided_ms) \
    ON CONFLICT (app, kind, channel, id, hash) DO NOTHING";

/// Why a session could not do what it was to.
#[derive(Debug)]
pub(super) enum Failed {
    /// PostgreSQL cannot hold what it was given.
    Data(Error),
    /// It is down, slow, or refuses for another reason: it is tried again.
    Store(Error),
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        let said = error.as_db_error().map(|said| (said.code().code().to_owned(), said.message().to_owned()));
        // Class 22: data that cannot be; 54: too large for it.
        let is_data = said.as_ref().is_some_and(|(code, _)| code.starts_with("22") || code.starts_with("54"));
        let message = match said {
            Some((code, message)) => format!("PostgreSQL refuses a statement ({code}): {message}"),
            None => "PostgreSQL does not answer".to_owned(),
        };
        let error = Error::new(ErrorKind::Unavailable, message).with_source(error);
        if is_data { Self::Data(error) } else { Self::Store(error) }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// A session that may write.
pub(super) struct Session {
    client: Client,
    connection: tokio::task::JoinHandle<()>,
    statements: Statements,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

struct Statements {
    upsert_verdicts: Statement,
    append_reviews: Statement,
    drop_verdicts: Statement,
    drop_reviews: Statement,
    drop_text_verdicts: Statement,
    drop_text_reviews: Statement,
}

/// Waits for PostgreSQL, but not for ever.
async fn within<T, E: Into<Failed>>(work: impl Future<Output = Result<T, E>>) -> Result<T, Failed> {
    match tokio::time::timeout(WITHIN, work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_elapsed) => {
            let message = format!("PostgreSQL did not answer within {} s", WITHIN.as_secs());
            Err(Failed::Store(Error::new(ErrorKind::DeadlineExceeded, message)))
        }
    }
}

impl Session {
    /// Connects, migrates, and takes the lock of the only writer.
    pub(super) async fn open(config: &Config, tls: &Tls) -> Result<Self, Failed> {
        let (mut client, connection) = within(config.connect(tls.clone())).await?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to PostgreSQL has ended");
            }
        });
        let opened = within(async {
            client.batch_execute(SESSION).await?;
            migrate(&mut client).await?;
            lock(&client).await?;
            Statements::prepare(&client).await
        })
        .await;
        match opened {
            Ok(statements) => Ok(Self { client, connection, statements }),
            Err(failed) => {
                connection.abort();
                Err(failed)
            }
        }
    }

    /// Up to `limit` texts that there are verdicts on, after one of them, or the first.
    pub(super) async fn texts_after(
        &mut self,
        after: Option<&HeldText>,
        limit: usize,
    ) -> Result<Vec<HeldText>, Failed> {
        let first = HeldText::default();
        let (app, kind, channel, id) = after.unwrap_or(&first);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = within(self.client.query(TEXTS_AFTER, &[app, kind, channel, id, &limit])).await?;
        let text = |row: &tokio_postgres::Row| -> Result<HeldText, tokio_postgres::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
        };
        Ok(rows.iter().map(text).collect::<Result<Vec<HeldText>, _>>()?)
    }

    /// Does all of it, or nothing.
    pub(super) async fn apply(&mut self, work: &Work) -> Result<(), Failed> {
        let Self { client, statements, .. } = self;
        within(async {
            let transaction = client.transaction().await?;
            for text in &work.anew {
                let key: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                    [&text.app, &text.kind, &text.channel, &text.id];
                transaction.execute(&statements.drop_text_verdicts, &key).await?;
                transaction.execute(&statements.drop_text_reviews, &key).await?;
            }
            statements.verdicts(&transaction, work).await?;
            statements.reviews(&transaction, work).await?;
            transaction.commit().await?;
            Ok::<_, Failed>(())
        })
        .await
    }
}

/// Brings the tables to the newest version, one transaction a step.
async fn migrate(client: &mut Client) -> Result<(), Failed> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATOR]).await?;
    let there = transaction.query_one("SELECT to_regclass('keevo_migrations') IS NOT NULL", &[]).await?;
    if !there.try_get::<_, bool>(0)? {
        transaction.batch_execute(TABLE_OF_VERSIONS).await?;
    }
    let row = transaction.query_one("SELECT coalesce(max(version), 0) FROM keevo_migrations", &[]).await?;
    let done = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or_default();
    if done > MIGRATIONS.len() {
        let message = format!("the tables are of version {done}, and this node knows {}: update it", MIGRATIONS.len());
        return Err(Failed::Store(Error::new(ErrorKind::NewerFormat, message)));
    }
    for (version, (name, sql)) in (1_i32..).zip(MIGRATIONS).skip(done) {
        tracing::info!(version, name, "the tables in PostgreSQL are migrated");
        transaction.batch_execute(sql).await?;
        let said = "INSERT INTO keevo_migrations (version, name) VALUES ($1, $2)";
        transaction.execute(said, &[&version, &name]).await?;
    }
    Ok(transaction.commit().await?)
}

async fn lock(client: &Client) -> Result<(), Failed> {
    let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&WRITER]).await?;
    if row.try_get(0)? {
        return Ok(());
    }
    let message = "another session writes verdicts to this database; it is tried again until that one ends";
    Err(Failed::Store(Error::new(ErrorKind::Unavailable, message)))
}

/// Columns of the keys of versions.
#[derive(Default)]
struct Keys<'a> {
    app: Vec<i64>,
    kind: Vec<&'a str>,
    channel: Vec<&'a str>,
    id: Vec<&'a str>,
    hash: Vec<&'a str>,
}

impl<'a> Keys<'a> {
    fn push(&mut self, version: &'a VersionRow) {
        let TextRow { app, kind, channel, id } = &version.text;
        self.app.push(*app);
        self.kind.push(kind);
        self.channel.push(channel);
        self.id.push(id);
        self.hash.push(&version.hash);
    }

    fn of(versions: impl Iterator<Item = &'a VersionRow>) -> Self {
        let mut keys = Self::default();
        versions.for_each(|version| keys.push(version));
        keys
    }

    async fn drop_by(&self, transaction: &Transaction<'_>, statement: &Statement) -> Result<(), Failed> {
        if !self.app.is_empty() {
            let Self { app, kind, channel, id, hash } = self;
            transaction.execute(statement, &[app, kind, channel, id, hash]).await?;
        }
        Ok(())
    }
}

impl Statements {
    async fn prepare(client: &Client) -> Result<Self, Failed> {
        let drop_rows = |table: &str| {
            format!(
                "DELETE FROM {table} USING unnest($1::int8[], $2::text[], $3::text[], $4::text[], $5::text[]) AS gone \
                 (app, kind, channel, id, hash) WHERE {table}.app = gone.app AND {table}.kind = gone.kind AND \
                 {table}.channel = gone.channel AND {table}.id = gone.id AND {table}.hash = gone.hash"
            )
        };
        let drop_text =
            |table: &str| format!("DELETE FROM {table} WHERE app = $1 AND kind = $2 AND channel = $3 AND id = $4");
        Ok(Self {
            upsert_verdicts: client.prepare(UPSERT_VERDICTS).await?,
            append_reviews: client.prepare(APPEND_REVIEWS).await?,
            drop_verdicts: client.prepare(&drop_rows("keevo_verdicts")).await?,
            drop_reviews: client.prepare(&drop_rows("keevo_reviews")).await?,
            drop_text_verdicts: client.prepare(&drop_text("keevo_verdicts")).await?,
            drop_text_reviews: client.prepare(&drop_text("keevo_reviews")).await?,
        })
    }

    async fn verdicts(&self, transaction: &Transaction<'_>, work: &Work) -> Result<(), Failed> {
        let gone = work.verdicts.iter().filter(|(_, verdict)| verdict.is_none()).map(|(version, _)| version);
        Keys::of(gone).drop_by(transaction, &self.drop_verdicts).await?;
        let kept: Vec<(&VersionRow, &Verdict)> =
            work.verdicts.iter().filter_map(|(version, verdict)| Some((version, verdict.as_deref()?))).collect();
        if kept.is_empty() {
            return Ok(());
        }
        let Keys { app, kind, channel, id, hash } = Keys::of(kept.iter().map(|(version, _)| *version));
        let column = |of: &dyn Fn(&Verdict) -> String| kept.iter().map(|(_, verdict)| of(verdict)).collect::<Vec<_>>();
        let json =
            |value: Result<serde_json::Value, serde_json::Error>| shown_json(value.unwrap_or_default()).to_string();
        let scope = column(&|verdict| shown(&verdict.version.scope));
        let author = column(&|verdict| shown(&verdict.version.author));
        let text = column(&|verdict| shown(&verdict.version.text));
        let action = column(&|verdict| verdict.action.name().to_owned());
        let reasons = column(&|verdict| json(serde_json::to_value(&verdict.reasons)));
        let scores = column(&|verdict| json(serde_json::to_value(&verdict.scores)));
        let model = column(&|verdict| shown(&verdict.model));
        let masked: Vec<Option<String>> =
            kept.iter().map(|(_, verdict)| verdict.masked.as_deref().map(shown)).collect();
        let number = |of: &dyn Fn(&Verdict) -> i64| kept.iter().map(|(_, verdict)| of(verdict)).collect::<Vec<_>>();
        let cut_bytes = number(&|verdict| i64::try_from(verdict.version.cut_bytes).unwrap_or(i64::MAX));
        let written = number(&|verdict| shown_ms(verdict.version.at_ms));
        let judged = number(&|verdict| shown_ms(verdict.judged_ms));
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 16] = [
            &app, &kind, &channel, &id, &hash, &scope, &author, &text, &cut_bytes, &written, &action, &reasons,
            &scores, &model, &masked, &judged,
        ];
        transaction.execute(&self.upsert_verdicts, &values).await?;
        Ok(())
    }

    async fn reviews(&self, transaction: &Transaction<'_>, work: &Work) -> Result<(), Failed> {
        let gone = work.reviews.iter().filter(|(_, decided)| decided.is_none()).map(|(version, _)| version);
        Keys::of(gone).drop_by(transaction, &self.drop_reviews).await?;
        let kept: Vec<(&VersionRow, &Decided)> =
            work.reviews.iter().filter_map(|(version, decided)| Some((version, decided.as_deref()?))).collect();
        if kept.is_empty() {
            return Ok(());
        }
        let Keys { app, kind, channel, id, hash } = Keys::of(kept.iter().map(|(version, _)| *version));
        let ruling: Vec<&str> = kept.iter().map(|(_, one)| one.decision.ruling.name()).collect();
        let column = |of: &dyn Fn(&Decided) -> String| kept.iter().map(|(_, one)| of(one)).collect::<Vec<_>>();
        let reviewer = column(&|one| shown(&one.decision.reviewer));
        let labels = column(&|one| shown_json(one.decision.labels.clone().into()).to_string());
        let note = column(&|one| shown(&one.decision.note));
        let decided: Vec<i64> = kept.iter().map(|(_, one)| shown_ms(one.decided_ms)).collect();
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 10] =
            [&app, &kind, &channel, &id, &hash, &ruling, &reviewer, &labels, &note, &decided];
        transaction.execute(&self.append_reviews, &values).await?;
        Ok(())
    }
}
