//! `keevo-cli kv`, through the engine of the whole cluster.

use futures::StreamExt;
use keevo_client::RemoteEngine;
use keevo_core::limits::SCAN_LIMIT_MAX;
use keevo_core::{
    Batch, Check, Consistency, Engine, Error, ErrorKind, Key, Keyspace, KeyspaceKind, Revision, ScanRange, WatchFrom,
    WatchRange, prefix_end,
};
use keevo_proto::admin::v1 as pb;

use super::cluster::admin;
use super::{standard_input, until_interrupted};
use crate::args::kv::{At, DeleteRange, Kv, Put, Scan, Watch};
use crate::confirm::{Plan, confirmed};
use crate::connect::{Context, Effect, QUICK};
use crate::duration::millis;
use crate::failure::Failure;
use crate::output::{complain, raw, show, show_line};
use crate::render::Done;
use crate::render::kv::{Found, Keyspaces, One, key_json};
use crate::text::{count, line, show_key};

/// How many keyspaces are asked for at once.
const PAGE: u32 = 500;

/// Carries out a command on keys.
pub(crate) async fn run(context: &Context, kv: Kv) -> Result<(), Failure> {
    match kv {
        Kv::Get { at, raw } => get(context, at, raw).await,
        Kv::Put(args) => put(context, args).await,
        Kv::Delete { at, if_revision } => delete(context, at, if_revision).await,
        Kv::DeleteRange(args) => delete_range(context, args).await,
        Kv::Scan(args) => scan(context, args).await,
        Kv::Keyspaces => show(context.output, &Keyspaces(keyspaces(context).await?)),
        Kv::Watch(args) => watch(context, args).await,
    }
}

async fn get(context: &Context, at: At, whole: bool) -> Result<(), Failure> {
    let engine = context.engine().await?;
    let name = context.keyspace(at.keyspace.name.as_deref());
    let key = find(&engine, name).await?.key(at.key.0, at.key.1);
    let Some(record) = engine.get(key.clone(), Consistency::Linearizable).await? else {
        let message = format!("keyspace {name} has no record under {}", shown(&key));
        return Err(Error::new(ErrorKind::NotFound, message).into());
    };
    if whole { raw(&record.value) } else { show(context.output, &One { key, record }) }
}

async fn put(context: &Context, args: Put) -> Result<(), Failure> {
    let value = if args.value == "-" { standard_input()? } else { args.value.into_encoded_bytes().into() };
    let engine = context.engine().await?;
    let name = context.keyspace(args.at.keyspace.name.as_deref());
    let keyspace = match engine.find_keyspace(name).await {
        Err(error) if error.kind() == ErrorKind::UnknownKeyspace => engine.keyspace(name, KeyspaceKind::Hashed).await?,
        found => found?,
    };
    let key = keyspace.key(args.at.key.0, args.at.key.1);
    let mut batch = match args.ttl {
        Some(ttl) => Batch::new().put_ttl(key.clone(), value, millis(ttl)),
        None => Batch::new().put(key.clone(), value),
    };
    if args.if_absent {
        batch = batch.require(key.clone(), Check::Absent);
    }
    write(context, &engine, batch, &key, args.if_revision, "stored").await
}

async fn delete(context: &Context, at: At, if_revision: Option<u64>) -> Result<(), Failure> {
    let engine = context.engine().await?;
    let name = context.keyspace(at.keyspace.name.as_deref());
    let key = find(&engine, name).await?.key(at.key.0, at.key.1);
    write(context, &engine, Batch::new().delete(key.clone()), &key, if_revision, "deleted").await
}

async fn delete_range(context: &Context, args: DeleteRange) -> Result<(), Failure> {
    let engine = context.engine().await?;
    let name = context.keyspace(args.keyspace.name.as_deref());
    let keyspace = find(&engine, name).await?;
    let start = keyspace.key(args.partition.clone(), args.prefix.clone());
    let plan = async {
        let (mut keys, mut bytes) = (0_usize, 0_usize);
        let mut scan = keevo_core::Scan::prefix(keyspace, args.partition.clone(), args.prefix.clone(), SCAN_LIMIT_MAX);
        loop {
            let page = engine.scan(scan.clone()).await?;
            keys = keys.saturating_add(page.records.len());
            bytes = page.records.iter().fold(bytes, |sum, (_, record)| sum.saturating_add(record.value.len()));
            if page.next.is_none() {
                break;
            }
            scan = scan.after(page.next);
        }
        let what = format!(
            "remove {} with {} of values under {}… from the keyspace {}",
            count(keys, "key"),
            count(bytes, "byte"),
            shown(&start),
            line(name),
        );
        let mut json = key_json(&start);
        json.insert("keys".to_owned(), keys.into());
        json.insert("value_bytes".to_owned(), bytes.into());
        Ok(Plan { what, json: json.into() })
    };
    if !confirmed(context, args.sure, plan).await? {
        return Ok(());
    }
    let batch = Batch::new().delete_range(start.clone(), prefix_end(&args.prefix));
    write(context, &engine, batch, &start, None, "deleted what begins with").await
}

async fn write(
    context: &Context,
    engine: &RemoteEngine,
    mut batch: Batch,
    key: &Key,
    if_revision: Option<u64>,
    done: &str,
) -> Result<(), Failure> {
    if let Some(revision) = if_revision {
        batch = batch.require(key.clone(), Check::RevisionIs(Revision(revision)));
    }
    let written = engine.write(batch).await?;
    let mut json = key_json(key);
    json.insert("revision".to_owned(), written.revision.0.into());
    let sentence = format!("{done} {} at revision {}", shown(key), written.revision);
    show(context.output, &Done { sentence, json: json.into() })
}

async fn scan(context: &Context, args: Scan) -> Result<(), Failure> {
    let engine = context.engine().await?;
    let name = context.keyspace(args.keyspace.name.as_deref());
    let keyspace = find(&engine, name).await?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut scan = match args.partition {
        Some(partition) => keevo_core::Scan::prefix(keyspace, partition, args.prefix, 1),
        None if keyspace.kind == KeyspaceKind::Hashed => {
            let error = Error::invalid(format!("keyspace {name} is not ordered"));
            return Err(Failure::with_advice(error, "Name the partition to scan: keevo-cli kv scan PARTITION."));
        }
        None => {
            let range = ScanRange::Ordered { keyspace, end: prefix_end(&args.prefix), start: args.prefix };
            keevo_core::Scan { range, ..keevo_core::Scan::partition(keyspace, "", 1) }
        }
    };
    if args.reverse {
        scan = scan.backward();
    }
    if args.consistent {
        scan = scan.consistent();
    }
    let mut records = Vec::new();
    let more = loop {
        // One record beyond the limit tells whether there are more.
        scan.limit = (limit + 1 - records.len()).min(SCAN_LIMIT_MAX);
        let page = engine.scan(scan.clone()).await?;
        records.extend(page.records);
        if records.len() > limit {
            records.truncate(limit);
            break true;
        }
        if page.next.is_none() {
            break false;
        }
        scan = scan.after(page.next);
    };
    show(context.output, &Found { records, more })
}

async fn watch(context: &Context, args: Watch) -> Result<(), Failure> {
    let engine = context.engine().await?;
    let name = context.keyspace(args.keyspace.name.as_deref());
    let keyspace = find(&engine, name).await?;
    let range = match args.partition {
        Some(partition) => WatchRange::Partition { keyspace, partition, prefix: args.prefix },
        None => WatchRange::Keyspace(keyspace),
    };
    until_interrupted(async {
        let mut changes = engine.watch(range, WatchFrom::Now).await?;
        complain("watching; Ctrl-C ends it");
        while let Some(change) = changes.next().await {
            show_line(context.output, &change?)?;
        }
        Ok(())
    })
    .await
}

/// All keyspaces, page by page.
pub(crate) async fn keyspaces(context: &Context) -> Result<Vec<pb::KeyspaceInfo>, Failure> {
    let mut admin = admin(context.channel().await?);
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let call = admin.list_keyspaces(pb::ListKeyspacesRequest { after, limit: PAGE });
        let page = context.ask(Effect::Reads, QUICK, call).await?;
        found.extend(page.keyspaces);
        match found.last() {
            Some(last) if page.more && last.id > after => after = last.id,
            _ => return Ok(found),
        }
    }
}

async fn find(engine: &RemoteEngine, name: &str) -> Result<Keyspace, Failure> {
    engine.find_keyspace(name).await.map_err(|error| match error.kind() {
        ErrorKind::UnknownKeyspace => {
            Failure::with_advice(error, "Check its name, or put a key into it: that creates it.")
        }
        _ => error.into(),
    })
}

fn shown(key: &Key) -> String {
    show_key(&key.partition, &key.sort)
}
