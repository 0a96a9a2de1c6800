//! Keys parse back, and sort as events and scans need it.

use keevo_core::{KeyspaceId, KeyspaceKind};

use super::*;

fn keys() -> ChannelKeys {
    let keyspace = Keyspace { id: KeyspaceId(3), kind: KeyspaceKind::Hashed };
    ChannelKeys::new(keyspace, AppId(7), &ChannelId::new("messaging", "a").expect("a name"))
}

#[test]
fn rows_parse_back() {
    let keys = keys();
    let place = Place::Thread { parent: 4, reply: 2 };
    for (key, row) in [
        (keys.version(), Row::Version),
        (keys.own("u"), Row::Own("u")),
        (keys.member("u"), Row::Member("u")),
        (keys.message(place), Row::Message(place)),
        (keys.stat(place, Stat::Reactions("like")), Row::Stat(place, Stat::Reactions("like"))),
        (keys.reaction(place, "like", "u"), Row::Reaction { place, kind: "like", user: "u" }),
        (keys.adjustment(9), Row::Adjustment(9)),
        (keys.thread_adjustment(4, 9), Row::ThreadAdjustment(4, 9)),
        (keys.thread_read(4, "u"), Row::ThreadRead(4, "u")),
        (keys.participant(4, "u"), Row::Participant(4, "u")),
        (keys.followed("u", 4), Row::Followed("u", 4)),
        (keys.pin(place), Row::Pin(place)),
        (keys.stat(place, Stat::Scores("like")), Row::Stat(place, Stat::Scores("like"))),
        (keys.deletion(), Row::Deletion),
        (keys.epoch(), Row::Other),
    ] {
        assert_eq!(Row::parse(&key.sort).expect("parses"), row);
    }
    assert!(Row::parse(&[MESSAGE, 1, 0]).is_err());
    assert!(Row::parse(&[MEMBER, 0xff]).is_err());
}

#[test]
fn the_version_sorts_before_every_row_that_makes_an_event() {
    let keys = keys();
    let place = Place::Channel(0);
    for later in [keys.channel(), keys.member(""), keys.read(""), keys.message(place), keys.reaction(place, "", "")] {
        assert!(keys.version().sort < later.sort);
    }
}

#[test]
fn partitions_of_an_app_begin_alike() {
    let channel = keys().partition;
    let (app, _) = parse_channel(&channel).expect("a channel's");
    assert!(channel.starts_with(&partitions_of(app)) && user_partition(app, "u").starts_with(&partitions_of(app)));
    assert!(!channel.starts_with(&partitions_of(AppId(app.0 + 1))));
}

#[test]
fn an_erased_channel_keeps_its_counters_and_its_outbox() {
    let keys = keys();
    let ranges = keys.all_but_counters();
    let within = |key: &Key| ranges.iter().any(|(start, end)| start.sort <= key.sort && key.sort < *end);
    for kept in [keys.version(), keys.sequence(), keys.channel(), keys.deletion(), keys.job(1), keys.epoch()] {
        assert!(!within(&kept), "{kept:?}");
    }
    let message = keys.message(Place::Channel(1));
    for gone in [keys.own("u"), keys.member("u"), keys.ban("u"), message, keys.index("m"), keys.location("m")] {
        assert!(within(&gone), "{gone:?}");
    }
}

#[test]
fn the_prefix_of_a_thread_covers_its_replies_only() {
    let keys = keys();
    let prefix = prefix::replies(4);
    assert!(keys.message(Place::Thread { parent: 4, reply: u64::MAX }).sort.starts_with(&prefix));
    assert!(!keys.message(Place::Thread { parent: 5, reply: 1 }).sort.starts_with(&prefix));
    assert!(!keys.message(Place::Channel(4)).sort.starts_with(&prefix));
}
