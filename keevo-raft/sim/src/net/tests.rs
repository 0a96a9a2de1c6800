//! The network keeps to the transport's rules whatever it does to messages.

use std::sync::{Arc, Mutex};

use super::{Fate, Wires};
use crate::world::{World, lock};

type Fates = Arc<Mutex<Vec<(u64, Fate)>>>;

fn wires(seed: u64) -> Wires {
    let wires = Wires::new(World::new(seed, false));
    wires.with_links(|links| links.delay = (1, 30));
    wires
}

/// Sends numbered messages from 1 to 2, one a step, with `before` called before each, and gives what became of them.
fn send(wires: &Wires, ordered: bool, before: impl Fn(u64)) -> Vec<(u64, Fate)> {
    let fates = Fates::default();
    for number in 0..200 {
        before(number);
        let fates = Arc::clone(&fates);
        wires.transmit(1, 2, ordered, 10, move |fate| lock(&fates).push((number, fate)));
        wires.world.step();
    }
    for _ in 0..100 {
        wires.world.step();
    }
    lock(&fates).clone()
}

fn arrived(fates: &[(u64, Fate)]) -> Vec<u64> {
    fates.iter().filter(|(_, fate)| *fate == Fate::Arrived).map(|(number, _)| *number).collect()
}

#[test]
fn a_connection_keeps_its_order_and_other_messages_do_not() {
    for seed in 0..5 {
        assert_eq!(arrived(&send(&wires(seed), true, |_| {})), (0..200).collect::<Vec<_>>());
        let loose = arrived(&send(&wires(seed), false, |_| {}));
        assert_eq!(loose.len(), 200);
        assert!(!loose.is_sorted(), "seed {seed}: nothing overtook anything");
    }
}

#[test]
fn every_message_has_one_fate_and_what_arrives_over_broken_connections_stays_in_order() {
    for seed in 0..5 {
        let wires = wires(seed);
        wires.with_links(|links| links.loss_per_mille = 100);
        let mut fates = send(&wires, true, |_| {});
        assert!(arrived(&fates).is_sorted(), "seed {seed}");
        assert!(fates.iter().any(|(_, fate)| *fate == Fate::Lost), "seed {seed}: nothing was lost");
        assert!(fates.iter().any(|(_, fate)| *fate == Fate::Late), "seed {seed}: nothing came late");
        fates.sort_by_key(|(number, _)| *number);
        assert!(fates.iter().map(|(number, _)| *number).eq(0..200), "seed {seed}");
    }
}

#[test]
fn a_cut_link_carries_nothing_and_a_held_one_everything_later() {
    let cut = wires(1);
    let fates = send(&cut, true, |number| match number {
        50 => cut.with_links(|links| links.cut(1, 2, false)),
        150 => cut.with_links(|links| links.mend(1, 2)),
        _ => {}
    });
    let arrived_at_all = arrived(&fates);
    assert!(arrived_at_all.iter().all(|number| *number < 50 || *number > 130), "{arrived_at_all:?}");
    assert!(arrived_at_all.contains(&199));

    let held = wires(2);
    let fates = send(&held, true, |number| match number {
        50 => held.with_links(|links| links.hold(1, 2)),
        150 => held.release(),
        _ => {}
    });
    assert_eq!(arrived(&fates), (0..200).collect::<Vec<_>>());
}

#[test]
fn a_dead_host_gets_nothing_that_was_on_its_way() {
    let wires = wires(3);
    let fates = send(&wires, true, |number| {
        if number == 100 {
            wires.disconnect(2);
        }
    });
    let lost: Vec<u64> = fates.iter().filter(|(_, fate)| *fate == Fate::Lost).map(|(number, _)| *number).collect();
    assert!(!lost.is_empty() && lost.iter().all(|number| *number < 100), "{lost:?}");
    assert!(fates.iter().all(|(_, fate)| *fate != Fate::Late), "a dead host reads nothing late");
}
