//! A tour of the embedded engine: open, write, read, scan, watch, expire, fan out, reopen.
//!
//! `cargo run -p keevo-core --example embedded [FOLDER]`; without a folder it uses a temporary one. With a
//! folder that it has made before it goes on there, and what it wrote is still there.
//!
//! It prints each step and fails if the engine does not answer as the text says.

use std::io::Write;
use std::time::Duration;

use futures::StreamExt;
use keevo_core::{
    Batch, Change, Check, Consistency, Engine, ErrorKind, FanOut, FanOutAction, Keyspace, KeyspaceKind, LocalEngine,
    LocalOptions, Scan, Target, WatchFrom, WatchRange,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let temporary = tempfile::tempdir()?;
    let folder = std::env::args_os().nth(1).map_or_else(|| temporary.path().join("tour"), Into::into);
    let mut out = std::io::stdout().lock();

    // Open. The folder is created if it is new; one process may have it open at a time.
    let engine = LocalEngine::open(&folder, LocalOptions::default())?;
    writeln!(out, "open        {} as {}", folder.display(), engine.cluster_id())?;
    let accounts = engine.keyspace("accounts", KeyspaceKind::Hashed).await?;

    let visits = count_visit(&engine, accounts).await?;
    writeln!(out, "visit       number {visits} to this folder")?;

    write_and_read(&engine, accounts, &mut out).await?;
    scan_both_ways(&engine, accounts, &mut out).await?;
    watch(&engine, accounts, &mut out).await?;
    expire(&engine, accounts, &mut out).await?;
    fan_out(&engine, &mut out).await?;

    // Close and open again: every answered write is there.
    writeln!(out, "stats       {}", engine.stats()?)?;
    engine.close().await?;
    let key = accounts.key("alice", "balance");
    let refused = engine.get(key.clone(), Consistency::Linearizable).await.map_err(|error| error.kind());
    ensure(refused == Err(ErrorKind::Closed), "calls after close are refused")?;
    drop(engine);

    let engine = LocalEngine::open(&folder, LocalOptions::default())?;
    let accounts = engine.find_keyspace("accounts").await?;
    let read = engine.get(key, Consistency::Linearizable).await?.ok_or("alice's balance is gone")?;
    ensure(read.value == "90", "the balance survived")?;
    let page = engine.scan(Scan::prefix(accounts, "alice", "entry/", 10)).await?;
    ensure(page.records.len() == 5, "the entries survived")?;
    let again = count_visit(&engine, accounts).await?;
    ensure(again == visits + 1, "the counter goes on")?;
    writeln!(out, "reopen      balance {}, {} entries", show(&read.value), page.records.len())?;
    engine.close().await?;
    writeln!(out, "done        every answer was as expected")?;
    Ok(())
}

/// A merge adds to an integer; the new value comes back with the write.
async fn count_visit(engine: &LocalEngine, accounts: Keyspace) -> Result<i64, Failure> {
    let written = engine.write(Batch::new().merge(accounts.key("tour", "visits"), 1)).await?;
    Ok(*written.assigned.first().ok_or("a merge returns its result")?)
}

/// A batch is atomic within a partition. A write with a precondition is a compare-and-set.
async fn write_and_read(engine: &LocalEngine, accounts: Keyspace, out: &mut impl Write) -> Result<(), Failure> {
    let balance = accounts.key("alice", "balance");
    let opening = Batch::new().put(balance.clone(), "100").put(accounts.key("alice", "currency"), "EUR");
    let written = engine.write(opening).await?;
    let read = engine.get(balance.clone(), Consistency::Linearizable).await?.ok_or("just written")?;
    ensure(read.value == "100" && read.revision == written.revision, "a read sees the write before it")?;
    writeln!(out, "write       alice/balance = {} at revision {}", show(&read.value), read.revision)?;

    let pay = Batch::new().put(balance.clone(), "90").require(balance, Check::RevisionIs(read.revision));
    let paid = engine.write(pay.clone()).await?;
    writeln!(out, "if unchanged: alice/balance = 90 at revision {}", paid.revision)?;
    let late = engine.write(pay).await.map_err(|error| error.kind());
    ensure(late == Err(ErrorKind::Conflict), "the second payment from the same balance is refused")?;
    writeln!(out, "if unchanged: refused, since it has changed")?;

    let torn = Batch::new().put(accounts.key("alice", "x"), "1").put(accounts.key("bob", "x"), "1");
    let refused = engine.write(torn).await.map_err(|error| error.kind());
    ensure(refused == Err(ErrorKind::CrossPartition), "a batch stays in one partition")?;
    Ok(())
}

/// Sort keys are ordered within their partition; a scan goes page by page, either way.
async fn scan_both_ways(engine: &LocalEngine, accounts: Keyspace, out: &mut impl Write) -> Result<(), Failure> {
    let mut entries = Batch::new();
    for number in 1..=5 {
        entries = entries.put(accounts.key("alice", format!("entry/{number}")), format!("{number} EUR"));
    }
    engine.write(entries).await?;
    for scan in [Scan::prefix(accounts, "alice", "entry/", 2), Scan::prefix(accounts, "alice", "entry/", 2).backward()]
    {
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let page = engine.scan(scan.clone().after(after)).await?;
            found.extend(page.records.iter().map(|(key, _)| show(&key.sort)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        ensure(found.len() == 5, "all entries are found")?;
        writeln!(out, "scan        {:?}: {}", scan.direction, found.join(", "))?;
    }
    Ok(())
}

/// A watch delivers committed changes in order, from a cursor on: here from what a scan has seen.
async fn watch(engine: &LocalEngine, accounts: Keyspace, out: &mut impl Write) -> Result<(), Failure> {
    let seen = engine.scan(Scan::partition(accounts, "bob", 10)).await?;
    let range = WatchRange::Partition { keyspace: accounts, partition: "bob".into(), prefix: "".into() };
    engine.write(Batch::new().put(accounts.key("bob", "balance"), "5")).await?;
    let mut events = engine.watch(range, WatchFrom::After(vec![seen.as_of])).await?;
    engine.write(Batch::new().delete(accounts.key("bob", "balance"))).await?;
    for expected in ["put", "delete"] {
        let event = tokio::time::timeout(Duration::from_secs(10), events.next()).await?.ok_or("the watch ended")??;
        let what = match &event.change {
            Change::Put { .. } => "put",
            Change::Delete => "delete",
            Change::DeleteRange { .. } => "delete range",
        };
        ensure(what == expected, "events come in order")?;
        writeln!(out, "watch       bob/{} {what} at revision {}", show(&event.key.sort), event.cursor.revision)?;
    }
    Ok(())
}

/// A record with a time to live expires by the shard's clock, which moves with writes.
async fn expire(engine: &LocalEngine, accounts: Keyspace, out: &mut impl Write) -> Result<(), Failure> {
    let code = accounts.key("alice", "login-code");
    engine.write(Batch::new().put_ttl(code.clone(), "123456", 50)).await?;
    ensure(engine.get(code.clone(), Consistency::Linearizable).await?.is_some(), "it is there for 50 ms")?;
    tokio::time::sleep(Duration::from_millis(80)).await;
    engine.write(Batch::new().put(accounts.key("alice", "seen"), "now")).await?;
    ensure(engine.get(code, Consistency::Linearizable).await?.is_none(), "it is gone after 50 ms")?;
    writeln!(out, "expire      alice/login-code is gone after 50 ms")?;
    Ok(())
}

/// A fan-out writes one payload to many partitions, and carries it once.
async fn fan_out(engine: &LocalEngine, out: &mut impl Write) -> Result<(), Failure> {
    let timelines = engine.keyspace("timelines", KeyspaceKind::Hashed).await?;
    let targets = (0..1_000).map(|number| Target { partition: format!("follower{number}").into(), guard: None });
    let done = engine
        .fan_out(FanOut {
            keyspace: timelines,
            sort: "post/1".into(),
            action: FanOutAction::Put { value: "hello, followers".into(), ttl_ms: None },
            guard_sort: None,
            targets: targets.collect(),
        })
        .await?;
    let keys = vec![timelines.key("follower0", "post/1"), timelines.key("follower999", "post/1")];
    let read = engine.multi_get(keys, Consistency::Linearizable).await?;
    ensure(done.applied == 1_000 && read.iter().all(Option::is_some), "every follower has the post")?;
    writeln!(out, "fan out     one post to {} timelines", done.applied)?;
    Ok(())
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ensure(holds: bool, what: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(format!("not as expected: {what}").into()) }
}
