//! A program of your own under test: tickets for a concert, sold by several sellers to whoever comes.
//!
//! ```text
//! make sim-example
//! ```
//!
//! [`Seller::Hasty`] has a bug that no test without faults finds: it takes a write whose outcome is not known for one
//! that failed, and makes the sale again. [`Seller::Careful`] looks first whether the buyer has a ticket by now. The
//! promise under test: tickets left and tickets sold are always as many as there were.

use std::io::Write;
use std::time::Duration;

use keevo_core::{Batch, Check, Consistency, Engine, Error, ErrorKind, Keyspace, KeyspaceKind, Result, Scan};
use keevo_sim::{Fault, Sim, Violation};

/// How many tickets there are.
const TICKETS: u64 = 40;
/// How many sellers sell them.
const SELLERS: u64 = 3;

/// How a seller deals with doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seller {
    /// Has the bug.
    Hasty,
    /// Has not.
    Careful,
}

impl Seller {
    /// Sells a ticket to a buyer. Gives whether there was one left.
    async fn sell<E: Engine>(self, engine: &E, concert: Keyspace, buyer: &str) -> Result<bool> {
        let left = concert.key("tickets", "left");
        let ticket = concert.key("tickets", format!("sold to {buyer}"));
        loop {
            if self == Self::Careful && engine.get(ticket.clone(), Consistency::Linearizable).await?.is_some() {
                return Ok(true);
            }
            let Some(record) = engine.get(left.clone(), Consistency::Linearizable).await? else { return Ok(false) };
            let count = number(&record.value)?;
            if count == 0 {
                return Ok(false);
            }
            let sale = Batch::new()
                .put(left.clone(), (count - 1).to_be_bytes().to_vec())
                .put(ticket.clone(), "sold")
                .require(left.clone(), Check::RevisionIs(record.revision));
            match engine.write(sale).await {
                Ok(_) => return Ok(true),
                // Somebody else was quicker, or nobody answered: the sale is made again.
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::OutcomeUnknown) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn number(value: &[u8]) -> Result<u64> {
    <[u8; 8]>::try_from(value)
        .map(u64::from_be_bytes)
        .map_err(|error| Error::corrupt("a count has another length").with_source(error))
}

/// Sells the tickets while faults strike, then counts.
async fn concert(sim: Sim, seller: Seller) -> std::result::Result<(), Violation> {
    let engine = sim.engine();
    let concert = again(&sim, || engine.keyspace("concert", KeyspaceKind::Hashed)).await;
    let left = concert.key("tickets", "left");
    let stock = Batch::new().put(left.clone(), TICKETS.to_be_bytes().to_vec());
    again(&sim, || engine.write(stock.clone())).await;
    let sellers = (0..SELLERS).map(|number| {
        let sim = sim.clone();
        tokio::spawn(async move {
            let engine = sim.engine();
            for buyer in 0..TICKETS {
                let buyer = format!("{number}-{buyer}");
                again(&sim, || seller.sell(&engine, concert, &buyer)).await;
                sim.count("sale");
                sim.sleep(Duration::from_millis(sim.dice().between(50, 500))).await;
            }
        })
    });
    for sold in sellers.collect::<Vec<_>>() {
        sold.await.map_err(|error| Violation::new(error.to_string()))?;
    }
    sim.calm().await;
    let page = engine.scan(Scan::partition(concert, "tickets", 1_000)).await?;
    let sold = u64::try_from(page.records.len()).unwrap_or(u64::MAX) - 1;
    let left = page.records.iter().find(|(key, _)| *key == left).map_or(Ok(0), |(_, record)| number(&record.value))?;
    sim.checked("all tickets are accounted for", 1);
    if left + sold == TICKETS {
        return Ok(());
    }
    Err(Violation::new(format!("{left} tickets are left and {sold} were sold, of {TICKETS}")))
}

/// Repeats what may be repeated until it succeeds.
async fn again<T, F: Future<Output = Result<T>>>(sim: &Sim, call: impl Fn() -> F) -> T {
    loop {
        match call().await {
            Ok(value) => return value,
            Err(error) => sim.note(format_args!("once more: {:?}", error.kind())),
        }
        sim.sleep(Duration::from_millis(100)).await;
    }
}

/// The first of `seeds` seeds with which the seller breaks the promise.
pub(crate) fn first_failure(seller: Seller, seeds: u64) -> Option<(u64, String)> {
    (1..=seeds).find_map(|seed| {
        let simulation = Sim::builder(seed).faults([Fault::Crash, Fault::Loss]).chaos(Duration::from_secs(15));
        simulation.run(move |sim| concert(sim, seller)).err().map(|failure| (seed, failure.what))
    })
}

#[allow(dead_code, reason = "the tests use this file as a module")]
fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout();
    for seller in [Seller::Hasty, Seller::Careful] {
        match first_failure(seller, 30) {
            Some((seed, what)) => writeln!(out, "{seller:?}: seed {seed}: {what}")?,
            None => writeln!(out, "{seller:?}: 30 seeds, nothing found")?,
        }
    }
    Ok(())
}
