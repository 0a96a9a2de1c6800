//! Every value comes back as it went in; bytes of the past stay readable; nonsense is refused.

use std::fmt::Write;

use expect_test::{Expect, expect};
use keevo_core::ErrorKind;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::types::log_id;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn peer(node_id: u64, address: &str) -> PeerNode {
    PeerNode { node_id, address: address.to_owned() }
}

fn joint() -> Membership {
    let nodes = BTreeMap::from([(11, peer(1, "a:7")), (12, peer(2, "b:7")), (13, peer(3, "c:7"))]);
    Membership::new(vec![BTreeSet::from([11]), BTreeSet::from([11, 12])], nodes).unwrap()
}

fn any_log_id() -> impl Strategy<Value = LogId> {
    any::<(u64, u64, u64)>().prop_map(|(term, replica, index)| log_id(term, replica, index))
}

fn any_membership() -> impl Strategy<Value = Membership> {
    let node = (any::<u64>(), "[a-z]{0,8}(:[0-9]{1,5})?").prop_map(|(node_id, address)| peer(node_id, &address));
    (btree_map(any::<u64>(), node, 1..6), vec(vec(any::<prop::sample::Index>(), 1..4), 1..3)).prop_map(
        |(nodes, picks)| {
            let ids: Vec<u64> = nodes.keys().copied().collect();
            let voters = |picks: Vec<prop::sample::Index>| picks.into_iter().map(|pick| *pick.get(&ids)).collect();
            Membership::new(picks.into_iter().map(voters).collect(), nodes).unwrap()
        },
    )
}

fn any_stored_membership() -> impl Strategy<Value = StoredMembership> {
    let membership = prop_oneof![1 => Just(Membership::default()), 4 => any_membership()];
    (proptest::option::of(any_log_id()), membership).prop_map(|(id, membership)| StoredMembership::new(id, membership))
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let payload = prop_oneof![
        Just(EntryPayload::Blank),
        vec(any::<u8>(), 0..200).prop_map(|data| EntryPayload::Normal(Payload(data.into()))),
        any_membership().prop_map(EntryPayload::Membership),
    ];
    (any_log_id(), payload).prop_map(|(log_id, payload)| Entry { log_id, payload })
}

proptest! {
    #[test]
    fn log_ids_and_votes_come_back(id in any_log_id(), committed: bool) {
        prop_assert_eq!(decode_log_id(&encode_log_id(&id)).unwrap(), id);
        let vote = Vote { leader_id: id.leader_id, committed };
        prop_assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
    }

    #[test]
    fn entries_come_back_and_are_no_larger_than_estimated(entry in any_entry()) {
        let bytes = encode_entry(&entry);
        prop_assert!(bytes.len() <= entry_bytes(&entry));
        prop_assert_eq!(decode_entry(&bytes).unwrap(), entry.clone());
        let mut buffer = vec![1];
        encode_entry_into(&entry, &mut buffer);
        prop_assert_eq!(&buffer[1..], &bytes[..]);
    }

    #[test]
    fn memberships_and_snapshot_heads_come_back(
        membership in any_stored_membership(),
        last_log_id in proptest::option::of(any_log_id()),
    ) {
        let bytes = encode_stored_membership(&membership);
        prop_assert_eq!(decode_stored_membership(&bytes).unwrap(), membership.clone());
        let meta = SnapshotMeta { last_log_id, last_membership: membership };
        prop_assert_eq!(decode_snapshot_meta(&encode_snapshot_meta(&meta)).unwrap(), meta);
    }

    #[test]
    fn no_bytes_panic_and_errors_are_corrupt(bytes in vec(any::<u8>(), 0..64)) {
        let bytes = Bytes::from(bytes);
        let errors = [
            decode_log_id(&bytes).err(),
            decode_vote(&bytes).err(),
            decode_entry(&bytes).err(),
            decode_stored_membership(&bytes).err(),
            decode_snapshot_meta(&bytes).err(),
        ];
        for error in errors.into_iter().flatten() {
            prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_damaged_entry_never_panics(entry in any_entry(), at: prop::sample::Index, bit in 0..8_u32) {
        let mut bytes = encode_entry(&entry).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Err(error) = decode_entry(&Bytes::from(bytes)) {
            prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }
}

#[test]
fn bytes_of_the_past_stay_readable() {
    let check = |bytes: Bytes, golden: Expect| golden.assert_eq(&hex(&bytes));
    check(encode_log_id(&log_id(2, 11, 300)), expect![["0802100b18ac02"]]);
    check(encode_log_id(&log_id(0, 0, 0)), expect![["080010001800"]]);
    check(encode_vote(&Vote::new_committed(2, 11)), expect![["0802100b1801"]]);
    let entry = |payload| Entry { log_id: log_id(2, 11, 300), payload };
    check(encode_entry(&entry(EntryPayload::Blank)), expect![["0a070802100b18ac021200"]]);
    let normal = EntryPayload::Normal(Payload(Bytes::from_static(b"\x01abc")));
    check(encode_entry(&entry(normal)), expect![["0a070802100b18ac021a0401616263"]]);
    check(
        encode_entry(&entry(EntryPayload::Membership(joint()))),
        expect![[
            "0a070802100b18ac02222c0a030a010b0a040a020b0c1209080b10011a03613a371209080c10021a03623a371209080d10031a03633a37"
        ]],
    );
    let stored = StoredMembership::new(Some(log_id(1, 11, 5)), joint());
    let meta = SnapshotMeta { last_log_id: Some(log_id(2, 11, 300)), last_membership: stored };
    check(
        encode_snapshot_meta(&meta),
        expect![[
            "0a070802100b18ac0212360a060801100b1805122c0a030a010b0a040a020b0c1209080b10011a03613a371209080c10021a03623a371209080d10031a03633a37"
        ]],
    );
}

#[test]
fn nonsense_is_refused() {
    let corrupt = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        error.message().to_owned()
    };
    let membership = |configs: &[&[u64]], members: &[u64]| {
        let wire = MembershipWire {
            configs: configs.iter().map(|voters| ConfigWire { voters: voters.to_vec() }).collect(),
            members: members
                .iter()
                .map(|id| MemberWire { replica: Some(*id), node_id: Some(1), address: Some(String::new()) })
                .collect(),
        };
        membership_of(wire)
    };
    assert!(membership(&[&[1, 2]], &[1, 2, 3]).is_ok());
    assert!(membership(&[], &[]).is_ok(), "a new group has no membership yet");
    for (configs, members, why) in [
        (&[&[2_u64, 1][..]][..], &[1_u64, 2][..], "out of order"),
        (&[&[1, 1]], &[1], "out of order"),
        (&[&[1, 2]], &[2, 1], "out of order"),
        (&[&[1, 2]], &[1], "contradicts"),
        (&[&[1], &[]], &[1], "contradicts"),
        (&[], &[1], "no voters"),
    ] {
        let message = corrupt(membership(configs, members).unwrap_err());
        assert!(message.contains(why), "{configs:?} {members:?}: {message}");
    }
    assert!(corrupt(decode_vote(&Bytes::new()).unwrap_err()).contains("lacks a field"));
    assert!(corrupt(decode_log_id(&Bytes::new()).unwrap_err()).contains("lacks a field"));
    let no_payload = EntryWire { log_id: Some(log_id_wire(&log_id(1, 1, 1))), payload: None };
    assert!(corrupt(decode_entry(&to_bytes(&no_payload)).unwrap_err()).contains("lacks a field"));
}
