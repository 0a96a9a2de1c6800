//! The bundled extract goes through feeds and chat and comes back as it went in; a difference is found.

use keevo_core::{Batch, Engine, KeyspaceKind, MemoryEngine, Scan};
use keevo_demo::{Bars, Dataset, Loader, Mismatches, Plan, bundled, verify};
use keevo_feeds::NewActivity;

fn small() -> Dataset {
    let mut dataset = bundled().expect("the extract");
    dataset.mails.truncate(120);
    dataset.changes.truncate(60);
    dataset
}

#[tokio::test]
async fn what_is_loaded_is_verified_and_loading_again_changes_nothing() {
    let dataset = small();
    let plan = Plan::new(&dataset);
    let loader = Loader::open(MemoryEngine::new(), Bars::hidden()).await.expect("open");
    let loaded = loader.load(&plan).await.expect("loaded");
    assert_eq!(usize::try_from(loaded.timeline_entries).expect("a count"), plan.timeline_entries());
    assert!(loaded.timeline_entries > 1_000 && loaded.messages == 120);
    for _ in 0..2 {
        loader.read_notifications(&plan).await.expect("read");
        let mismatches = Mismatches::default();
        let verified = verify(&loader, &plan, &Bars::hidden(), &mismatches).await.expect("read");
        assert_eq!(mismatches.shown(), Vec::<String>::new());
        assert_eq!((verified.timeline_entries, verified.messages), (plan.timeline_entries(), 120));
        assert_eq!((verified.follows, verified.activities), (plan.follows(), dataset.changes.len()));
        assert_eq!((loaded.follows, loaded.activities), (plan.follows(), dataset.changes.len()));
        assert!(verified.groups > 100 && verified.ranked > 100, "{verified:?}");
        loader.load(&plan).await.expect("loaded again");
    }
}

#[tokio::test]
async fn a_lost_row_and_a_foreign_follow_are_mismatches() {
    let dataset = small();
    let plan = Plan::new(&dataset);
    let engine = MemoryEngine::new();
    let loader = Loader::open(engine.clone(), Bars::hidden()).await.expect("open");
    loader.load(&plan).await.expect("loaded");
    loader.read_notifications(&plan).await.expect("read");
    let package = plan.longest_timeline().expect("a package");
    let stranger = "timeline:stranger".parse().expect("a feed");
    let most = format!("user:{}", keevo_demo::feed_name(plan.dataset().most_followed(1)[0].0)).parse().expect("a feed");
    loader.feeds.follow(&stranger, &most, None).await.expect("followed");
    // The last timeline row goes.
    let keyspace = engine.keyspace(keevo_feeds::KEYSPACE, KeyspaceKind::Hashed).await.expect("the keyspace");
    let name = format!("timeline:{}", keevo_demo::feed_name(&package.name));
    // The feed's partition: its tag, the app as a varint, its name.
    let partition = [b"f\x01", name.as_bytes()].concat();
    let rows = engine.scan(Scan::prefix(keyspace, partition, "t", 10)).await.expect("rows");
    let (row, _) = rows.records.last().expect("a timeline row; the layout of feeds is as documented");
    engine.write(Batch::new().delete(row.clone())).await.expect("deleted");
    let mismatches = Mismatches::default();
    verify(&loader, &plan, &Bars::hidden(), &mismatches).await.expect("read");
    let shown = mismatches.shown().join("\n");
    assert!(shown.contains(&format!("{name} has ")) && shown.contains("followers"), "{shown}");
}

#[tokio::test]
async fn an_activity_of_a_packages_own_feed_and_one_follow_are_missed() {
    let dataset = small();
    let plan = Plan::new(&dataset);
    let engine = MemoryEngine::new();
    let loader = Loader::open(engine.clone(), Bars::hidden()).await.expect("open");
    loader.load(&plan).await.expect("loaded");
    loader.read_notifications(&plan).await.expect("read");
    let feed = |kind: &str, package: &str| -> keevo_feeds::FeedId {
        format!("{kind}:{}", keevo_demo::feed_name(package)).parse().expect("a feed")
    };
    let last = dataset.packages.iter().rev().find(|package| !package.depends.is_empty()).expect("one that follows");
    let (follower, target) = (feed("timeline", &last.name), feed("user", &last.depends[0]));
    loader.feeds.unfollow(&follower, &target, true).await.expect("unfollowed");
    let own = feed("user", plan.changed().last().expect("a change"));
    let keyspace = engine.keyspace(keevo_feeds::KEYSPACE, KeyspaceKind::Hashed).await.expect("the keyspace");
    let partition = [b"f\x01", own.as_str().as_bytes()].concat();
    let rows = engine.scan(Scan::prefix(keyspace, partition, "t", 10)).await.expect("rows");
    let (row, _) = rows.records.first().expect("its own row");
    engine.write(Batch::new().delete(row.clone())).await.expect("deleted");
    let mismatches = Mismatches::default();
    verify(&loader, &plan, &Bars::hidden(), &mismatches).await.expect("read");
    let shown = mismatches.shown().join("\n");
    assert!(shown.contains(&format!("{follower} does not follow {target}")), "{shown}");
    assert!(shown.contains(&format!("{own} has ")), "{shown}");
}

#[tokio::test]
async fn an_unread_day_a_lost_gathered_row_and_a_stranger_in_a_ranked_timeline_are_mismatches() {
    let dataset = small();
    let plan = Plan::new(&dataset);
    let engine = MemoryEngine::new();
    let loader = Loader::open(engine.clone(), Bars::hidden()).await.expect("open");
    loader.load(&plan).await.expect("loaded");
    loader.read_notifications(&plan).await.expect("read");
    let name = keevo_demo::feed_name(&plan.readers()[0].name);
    let keyspace = engine.keyspace(keevo_feeds::KEYSPACE, KeyspaceKind::Hashed).await.expect("the keyspace");
    // A gathered row, and the marks.
    for (slug, rows) in [("aggregated", "t"), ("notification", "s")] {
        let partition = [b"f\x01".as_slice(), format!("{slug}:{name}").as_bytes()].concat();
        let found = engine.scan(Scan::prefix(keyspace, partition, rows, 10)).await.expect("rows");
        let (row, _) = found.records.first().expect("a row; the layout of feeds is as documented");
        engine.write(Batch::new().delete(row.clone())).await.expect("deleted");
    }
    let timeline = format!("timeline:{name}").parse().expect("a feed");
    loader.feeds.add_activity(&timeline, NewActivity::new("nobody", "release", "nothing")).await.expect("added");
    let mismatches = Mismatches::default();
    verify(&loader, &plan, &Bars::hidden(), &mismatches).await.expect("read");
    let shown = mismatches.shown().join("\n");
    for told in
        [format!("aggregated:{name} has "), format!("notification:{name} has "), format!("timeline:{name} ranks ")]
    {
        assert!(shown.contains(&told), "{told} is not in: {shown}");
    }
}
