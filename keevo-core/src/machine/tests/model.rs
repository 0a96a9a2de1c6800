//! How entries are cut into calls, and reopening in between, makes no difference to any row or outcome.

use proptest::prelude::*;
use proptest::sample::select;

use super::{Rig, SPACE, TestStore, key, open};
use crate::batch::{Batch, Check, Op, Precondition};
use crate::command::{Command, Entry, Hlc};
use crate::fan_out::{FanOut, FanOutAction, Target};
use crate::ids::{ClientId, RequestId, Revision};
use crate::machine::Retention;
use crate::store::Durability;

const RETENTION: Retention = Retention { entries_max: 32, bytes_max: 2_000 };
const SORTS: [&str; 6] = ["", "a", "b", "m", "n", "z"];

fn op() -> impl Strategy<Value = Op> {
    let place = || select(&SORTS[..]).prop_map(key);
    let value = || prop_oneof![Just("text".into()), any::<i8>().prop_map(|at| super::number(at.into()))];
    prop_oneof![
        4 => (place(), value(), proptest::option::of(1_u64..50)).prop_map(|(key, value, ttl_ms)| Op::Put { key, value, ttl_ms }),
        2 => place().prop_map(|key| Op::Delete { key }),
        2 => (place(), select(&SORTS[..])).prop_map(|(start, end)| Op::DeleteRange { start, end: end.into() }),
        2 => (place(), -2_i64..3).prop_map(|(key, delta)| Op::Merge { key, delta }),
        1 => (place(), select(&SORTS[..]), value(), proptest::option::of(select(&SORTS[..])))
            .prop_map(|(counter, prefix, value, index)| {
                Op::Append { counter, prefix: prefix.into(), value, index: index.map(Into::into) }
            }),
    ]
}

fn precondition() -> impl Strategy<Value = Precondition> {
    let check = prop_oneof![
        Just(Check::Absent),
        Just(Check::Exists),
        (1_u64..60).prop_map(|revision| Check::RevisionIs(Revision(revision))),
    ];
    (select(&SORTS[..]), check).prop_map(|(sort, check)| Precondition { key: key(sort), check })
}

fn request() -> impl Strategy<Value = RequestId> {
    (0_u8..3, 1_u64..12, 0_u64..4).prop_map(|(client, sequence, behind)| RequestId {
        client: ClientId(client.into()),
        sequence,
        acked_below: sequence.saturating_sub(behind + 1),
    })
}

fn batch() -> impl Strategy<Value = Batch> {
    let ops = proptest::collection::vec(op(), 1..5);
    (proptest::collection::vec(precondition(), 0..2), ops, proptest::option::of(request()))
        .prop_map(|(preconditions, ops, request)| Batch { preconditions, ops, request })
}

fn fan_out() -> impl Strategy<Value = FanOut> {
    let action = prop_oneof![
        3 => proptest::option::of(1_u64..50).prop_map(|ttl_ms| FanOutAction::Put { value: "fan".into(), ttl_ms }),
        1 => (1_u64..50).prop_map(|tombstone_ttl_ms| FanOutAction::Remove { tombstone_ttl_ms }),
    ];
    let target = (select(&["p", "q", "r"][..]), proptest::option::of(1_u64..40))
        .prop_map(|(partition, guard)| Target { partition: partition.into(), guard: guard.map(Revision) });
    (action, select(&SORTS[..]), proptest::collection::vec(target, 1..6)).prop_map(|(action, sort, targets)| FanOut {
        keyspace: SPACE,
        sort: sort.into(),
        action,
        guard_sort: Some("a".into()),
        targets,
    })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        8 => batch().prop_map(Command::Write),
        2 => fan_out().prop_map(Command::FanOut),
        2 => (0_u8..3).prop_map(|client| Command::OpenSession(ClientId(client.into()))),
        1 => Just(Command::Checksum),
    ]
}

/// A command, how far the clock moves before it, whether a call ends after it, and whether the machine is then reopened.
type Step = (Command, u64, bool, bool);

fn run(steps: &[Step], cut: impl Fn(usize, &Step) -> (bool, bool)) -> (TestStore, Vec<Vec<u8>>) {
    let Rig { store, mut machine, .. } = Rig::with_retention(RETENTION);
    let (mut outcomes, mut call, mut now_ms) = (Vec::new(), Vec::new(), super::START_MS);
    for (at, step) in steps.iter().enumerate() {
        now_ms += step.1;
        let entry = Entry { hlc: Hlc::from_ms(now_ms), command: step.0.clone() };
        let entry = Entry::decode(&entry.encode()).expect("what was encoded decodes");
        call.push((u64::try_from(at).expect("small") + 1, entry));
        let (ends, reopens) = cut(at, step);
        if ends || at + 1 == steps.len() {
            let applied = machine.apply(std::mem::take(&mut call), Vec::new(), Durability::Sync);
            outcomes.extend(applied.expect("applies").iter().map(|outcome| outcome.encode().to_vec()));
            if reopens {
                machine = open(&store, RETENTION);
            }
        }
    }
    (store, outcomes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cutting_entries_into_calls_makes_no_difference(
        steps in proptest::collection::vec((command(), 0_u64..20, any::<bool>(), any::<bool>()), 1..80),
    ) {
        let (whole, expected) = run(&steps, |_, _| (false, false));
        for (name, (store, outcomes)) in [
            ("one by one", run(&steps, |_, _| (true, false))),
            ("reopened after each", run(&steps, |_, _| (true, true))),
            ("at random", run(&steps, |_, step| (step.2, step.3))),
        ] {
            prop_assert_eq!(&outcomes, &expected, "outcomes, {}", name);
            prop_assert_eq!(store.dump(), whole.dump(), "rows, {}", name);
        }
    }
}
