//! The gate: who is let in, who waits, who is refused.

use keevo_core::{Disk, ManualDisk};

use super::*;

const MIB: u64 = 1 << 20;

fn care(disk: &Arc<ManualDisk>) -> StorageCare {
    let limits = StorageLimits {
        low_water_bytes: 8 * MIB,
        ballast_bytes: MIB,
        flush_bytes: MIB,
        unflushed_bytes_max: 4 * MIB,
        unapplied_bytes_max: 2 * MIB,
    };
    StorageCare { disk: Arc::clone(disk) as Arc<dyn Disk>, limits }
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("must be refused").kind()
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_appends_until_there_is_space() {
    let disk = Arc::new(ManualDisk::new(100 * MIB));
    let gate = Gate::new(&care(&disk));
    drop(gate.admit_write(100).await.expect("there is space"));
    gate.admit_append(100).expect("there is space");
    disk.set_free_bytes(5 * MIB);
    assert!(gate.observe(StoreLoad::default()));
    assert_eq!(kind(gate.admit_write(100).await), ErrorKind::ResourceExhausted);
    assert_eq!(kind(gate.admit_append(100)), ErrorKind::ResourceExhausted);
    assert_eq!(kind(gate.admit_files()), ErrorKind::ResourceExhausted);
    let status = gate.status();
    assert!(status.disk_full && status.refusal.contains("nearly full"), "{status:?}");
    assert_eq!((status.refused_for_space, status.refused_for_load), (3, 0));
    disk.set_free_bytes(100 * MIB);
    assert!(!gate.observe(StoreLoad::default()));
    drop(gate.admit_write(100).await.expect("there is space again"));
    assert_eq!(gate.status().refusal, "");
}

#[tokio::test]
async fn writers_wait_the_longer_the_further_the_store_is_behind_and_are_refused_at_last() {
    let disk = Arc::new(ManualDisk::new(100 * MIB));
    let gate = Gate::new(&care(&disk));
    let mut waited = Vec::new();
    for unflushed_bytes in [MIB, 2 * MIB, 3 * MIB, 4 * MIB - 1] {
        gate.observe(StoreLoad { unflushed_bytes, ..StoreLoad::default() });
        let before = gate.status().delayed_micros;
        let begun = tokio::time::Instant::now();
        drop(gate.admit_write(1).await.expect("slowed down, not refused"));
        let delayed = Duration::from_micros(gate.status().delayed_micros - before);
        assert!(begun.elapsed() >= delayed, "it waited for as long as it says");
        waited.push(delayed);
    }
    assert!(waited[0].is_zero() && waited[1].is_zero(), "{waited:?}");
    assert!(waited[2] > Duration::from_millis(5) && waited[3] > waited[2], "{waited:?}");
    assert!(waited[3] <= DELAY_MAX, "{waited:?}");
    gate.observe(StoreLoad { unflushed_bytes: 4 * MIB, ..StoreLoad::default() });
    assert_eq!(kind(gate.admit_write(1).await), ErrorKind::ResourceExhausted);
    assert_eq!(kind(gate.admit_append(1)), ErrorKind::ResourceExhausted);
    assert!(gate.status().refusal.contains("not flushed"), "{:?}", gate.status());
    gate.observe(StoreLoad::default());
    gate.admit_append(1).expect("the flush is done");
}

/// Fan-outs were held back as single puts are, and so filled the store until everybody was refused.
#[test]
fn a_large_write_is_held_back_as_long_as_the_small_ones_that_it_stands_for() {
    assert_eq!(delay(1_000, 1), DELAY_MAX);
    assert_eq!(delay(1_000, 3 * DELAY_BYTES), 4 * DELAY_MAX);
    assert_eq!(delay(1_000, u64::MAX), 10 * DELAY_MAX, "no longer than that");
    assert_eq!(delay(0, u64::MAX), Duration::ZERO);
}

#[tokio::test]
async fn a_large_apply_waits_for_the_others_and_leaves_half_of_the_processors() {
    let gate = Gate::new(&StorageCare::default());
    let mut turns = Vec::new();
    for _ in 0..large_applies_max() {
        turns.push(gate.large_apply().await.expect("never closed"));
    }
    let waits = tokio::time::timeout(Duration::from_millis(20), gate.large_apply()).await;
    assert!(waits.is_err(), "all turns are taken");
    turns.pop();
    drop(gate.large_apply().await.expect("one is free again"));
}

#[tokio::test]
async fn a_failed_flush_refuses_writes_until_one_succeeds() {
    let gate = Gate::new(&care(&Arc::new(ManualDisk::default())));
    gate.observe(StoreLoad { failing: true, ..StoreLoad::default() });
    assert_eq!(kind(gate.admit_write(1).await), ErrorKind::ResourceExhausted);
    gate.observe(StoreLoad::default());
    drop(gate.admit_write(1).await.expect("made good"));
}

#[tokio::test]
async fn bytes_under_way_and_bytes_not_applied_are_bounded() {
    let gate = Gate::new(&care(&Arc::new(ManualDisk::default())));
    let first = gate.admit_write(MIB).await.expect("half of the bound");
    assert_eq!(kind(gate.admit_write(3 * MIB / 2).await), ErrorKind::ResourceExhausted);
    assert!(gate.status().unapplied_bytes >= MIB);
    drop(first);
    let whole = gate.admit_write(100 * MIB).await.expect("one that is larger than the bound gets all of it");
    assert_eq!(kind(gate.admit_write(1).await), ErrorKind::ResourceExhausted);
    drop(whole);
    gate.backlog_sum().store(2 * MIB + 1, Ordering::SeqCst);
    assert_eq!(kind(gate.admit_append(1)), ErrorKind::ResourceExhausted);
    assert_eq!(kind(gate.admit_write(1).await), ErrorKind::ResourceExhausted);
    assert_eq!(gate.status().refused_for_load, 4);
    gate.backlog_sum().store(0, Ordering::SeqCst);
    gate.admit_append(1).expect("applied");
}

#[tokio::test]
async fn without_limits_nothing_is_held() {
    let gate = Gate::new(&StorageCare::default());
    assert!(!gate.is_on());
    gate.observe(StoreLoad { unflushed_bytes: 1 << 50, ..StoreLoad::default() });
    drop(gate.admit_write(1 << 30).await.expect("taken"));
    gate.admit_append(u64::MAX).expect("taken");
    assert_eq!(gate.status().delayed_micros, 0);
}
