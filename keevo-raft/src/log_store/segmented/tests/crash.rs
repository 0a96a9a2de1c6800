//! Power cuts, kills and failing disks at any moment: what was confirmed is there afterwards, and what is there is a
//! prefix of the calls.

use super::*;

/// What a history's first `count` steps leave.
async fn model_after(steps: &[Step], count: usize) -> Arc<dyn LogStore> {
    let model: Arc<dyn LogStore> = MemoryDisk::new().open();
    for (term, step) in (1..).zip(&steps[..count]) {
        // What the model refuses, the store refused.
        drop(take(&model, step, term).await);
    }
    model
}

async fn is_same(one: &Arc<dyn LogStore>, other: &Arc<dyn LogStore>) -> bool {
    for group in 0..GROUPS {
        let same = one.log_state(group).unwrap() == other.log_state(group).unwrap()
            && one.vote(group).unwrap() == other.vote(group).unwrap()
            && one.committed(group).unwrap() == other.committed(group).unwrap();
        let entries = one.read(group, 0..u64::MAX, usize::MAX).await.unwrap();
        if !same || entries != other.read(group, 0..u64::MAX, usize::MAX).await.unwrap() {
            return false;
        }
    }
    true
}

/// An append of several entries may reach the disk in part: a history with one entry each is a finer one.
fn in_single_entries(steps: Vec<Step>) -> Vec<Step> {
    let single = |step| match step {
        Step::Append { group, count, bytes } => (0..count).map(|_| Step::Append { group, count: 1, bytes }).collect(),
        other => vec![other],
    };
    steps.into_iter().flat_map(single).collect()
}

fn is_buffered(step: &Step) -> bool {
    matches!(
        step,
        Step::Truncate { .. } | Step::Purge { .. } | Step::Committed { .. } | Step::Read { .. } | Step::Reopen
    )
}

/// How many of the steps must have survived: those up to the last one that was durable on return.
fn durable_steps(steps: &[Step]) -> usize {
    steps.iter().rposition(|step| !is_buffered(step)).map_or(0, |last| last + 1)
}

async fn expect_prefix(store: &Arc<dyn LogStore>, steps: &[Step], least: usize, most: usize) {
    for count in least..=most {
        if is_same(store, &model_after(steps, count).await).await {
            return;
        }
    }
    let state: Vec<_> = (0..GROUPS).map(|group| store.log_state(group).unwrap()).collect();
    panic!("what is left is no prefix of {least} to {most} steps: {state:?} after {steps:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]
    /// Power cuts in the middle of a history, each after the store was opened on what the one before left.
    #[test]
    fn a_power_cut_leaves_a_prefix_with_all_that_was_durable(
        steps in proptest::collection::vec(any_step(), 1..60).prop_map(in_single_entries),
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let folder = Arc::new(MemoryFolder::default());
            let store = open_memory(&folder);
            for (term, step) in (1..).zip(&steps) {
                drop(take(&store, step, term).await);
            }
            let mut left = Arc::new(folder.crash_by(seed));
            drop(store);
            for again in 0..3 {
                let store = open_memory(&left);
                expect_prefix(&store, &steps, durable_steps(&steps), steps.len()).await;
                // A store that was opened holds what it said, whatever comes: its opening was durable.
                left = Arc::new(left.crash_by(seed.wrapping_add(again)));
                let after = open_memory(&left);
                assert!(is_same(&after, &store).await, "a crash right after opening lost something");
            }
        });
    }

    /// A process that is killed leaves what it wrote in the system's memory. What the next one finds there counts, and a
    /// power cut must not take it back: a replica has told its leader of it.
    #[test]
    fn what_was_found_after_a_kill_survives_a_power_cut(
        steps in proptest::collection::vec(any_step(), 1..60).prop_map(in_single_entries),
        (calls, seed) in (0..200_u64, any::<u64>()),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let folder = Arc::new(MemoryFolder::default());
            let store = open_memory(&folder);
            // Mostly it stops between two calls of the disk, such as a write and its sync.
            folder.faults().fail_after(calls);
            for (term, step) in (1..).zip(&steps) {
                drop(take(&store, step, term).await);
            }
            let killed = Arc::new(folder.kill());
            drop(store);
            let found = open_memory(&killed);
            let after = open_memory(&Arc::new(killed.crash_by(seed)));
            assert!(is_same(&after, &found).await, "what was found and told is gone");
        });
    }

    /// A call of the disk fails at a random place: from then on every call of the store does, and what was confirmed is
    /// there when the store is opened again.
    #[test]
    fn a_failing_disk_loses_nothing_that_was_confirmed(
        steps in proptest::collection::vec(any_step(), 20..120).prop_map(in_single_entries),
        (calls, seed) in (0..400_u64, any::<u64>()),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let folder = Arc::new(MemoryFolder::default());
            let store = open_memory(&folder);
            folder.faults().fail_after(calls);
            let mut confirmed = 0;
            let mut failed = None;
            for (number, step) in steps.iter().enumerate().filter(|(_, step)| !matches!(step, Step::Reopen)) {
                match take(&store, step, number as u64 + 1).await {
                    Err(error) if error.kind() == keevo_core::ErrorKind::Io => {
                        failed.get_or_insert(number);
                    }
                    _ if failed.is_some() => panic!("{step:?} succeeded on a store that had failed"),
                    _ if !is_buffered(step) => confirmed = number + 1,
                    _ => {}
                }
            }
            let left = Arc::new(folder.crash_by(seed));
            drop(store);
            let upto = failed.map_or(steps.len(), |number| number + 1);
            expect_prefix(&open_memory(&left), &steps, confirmed, upto).await;
        });
    }
}

/// A process that is killed while calls go on, on the file system: what was confirmed before the copy is in it.
#[tokio::test]
async fn a_killed_process_keeps_every_confirmed_append() {
    let root = TempDir::new().unwrap();
    let (live, left) = (root.path().join("live"), root.path().join("left"));
    let store = open_segmented_log_store(&live, &SegmentedLogOptions { segment_bytes: 1 << 20, ..small() }).unwrap();
    expect_confirmed_after_kill(&store, || {
        copy(&live, &left);
        open_segmented_log_store(&left, &small()).unwrap()
    })
    .await;
}
