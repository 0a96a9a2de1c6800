//! Scenarios: updates of activities, of some of their fields, of their targets, and adds to many feeds.

use keevo_core::{Engine, ErrorKind};
use serde_json::{Map, Value, json};

use super::{Scene, at, feed, post};
use crate::activity::NewActivity;
use crate::audit::{AuditQuery, EntityType};
use crate::feed_id::FeedId;
use crate::read::PageRequest;
use crate::targets::Targets;
use crate::update::PartialUpdate;

pub(crate) async fn run<E: Engine>(engine: &E) {
    an_update_is_seen_everywhere(engine).await;
    an_update_makes_what_is_not_there(engine).await;
    some_fields_are_updated(engine).await;
    targets_come_and_go(engine).await;
    many_feeds_get_it_and_their_followers_do_not(engine).await;
    what_cannot_be_updated(engine).await;
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

async fn an_update_is_seen_everywhere<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (user, fan, board) = (feed("user:1"), feed("timeline:1"), feed("board:b"));
    scene.feeds.follow(&fan, &user, None).await.expect("a follow");
    let added = scene.feeds.add_activity(&user, post("p", 1).to([board.clone()])).await.expect("an add");
    let mut changed = post("p", 1);
    changed.verb = "edit".into();
    changed.custom = fields(json!({ "popularity": 100 }));
    for to in [vec![], vec![board.clone()]] {
        let new = NewActivity { to, ..changed.clone() };
        let updated = scene.feeds.update_activities(vec![new]).await.expect("an update");
        assert_eq!(updated.first().map(|one| (one.id, one.to.clone())), Some((added.id, vec![board.clone()])));
    }
    for reader in [&user, &fan, &board] {
        let page = scene.feeds.page(reader, PageRequest::default()).await.expect("a page");
        let shown = page.activities.first().expect("one");
        assert_eq!((shown.verb.as_str(), &shown.custom), ("edit", &changed.custom), "{reader}");
    }
    let moved = NewActivity { to: vec![feed("board:c")], ..changed };
    let refused = scene.feeds.update_activities(vec![moved]).await.expect_err("another `to`");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let query = AuditQuery {
        entity_type: EntityType::Activity,
        entity_id: added.id.to_string(),
        user_id: None,
        limit: 10,
        after: None,
    };
    let log = scene.feeds.audit_logs(&query).await.expect("a log");
    let actions: Vec<&str> = log.entries.iter().map(|entry| entry.action.name()).collect();
    assert_eq!(actions, ["update", "update", "create"]);
}

async fn an_update_makes_what_is_not_there<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let user = feed("user:1");
    let made = scene.feeds.update_activities(vec![post("p", 1)]).await.expect("an update").remove(0);
    let found = scene.feeds.activities(&[made.id]).await.expect("a look-up");
    assert_eq!(found, std::slice::from_ref(&made), "it is read by its id, and lies in no feed");
    assert!(scene.ids(&user).await.is_empty());
    let added = scene.feeds.add_activity(&user, post("p", 1)).await.expect("an add");
    assert_eq!((added.id, scene.ids(&user).await), (made.id, vec![made.id]));
    assert!(scene.feeds.remove_activity(&user, made.id).await.expect("a removal"));
    assert_eq!(scene.feeds.activities(&[made.id]).await.expect("a look-up").len(), 1, "it was there before the feed");
    assert!(scene.ids(&user).await.is_empty());
    let gone = scene.feeds.add_activity(&user, post("q", 2)).await.expect("an add").id;
    scene.feeds.remove_activity(&user, gone).await.expect("a removal");
    scene.feeds.update_activities(vec![post("q", 2)]).await.expect("an update makes it again");
    assert!(scene.ids(&user).await.is_empty(), "but brings it back to no feed");
    scene.drain().await;
    let report = scene.feeds.verify([user]).await.expect("a verification");
    assert!(report.is_clean(), "{report:?}");
}

async fn some_fields_are_updated<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let user = feed("user:1");
    let mut new = post("p", 1);
    new.custom = fields(json!({ "product": { "name": "shoes", "price": 9.99, "color": "blue" }, "kept": true }));
    let id = scene.feeds.add_activity(&user, new).await.expect("an add").id;
    let update = |set: Value, unset: &[&str]| PartialUpdate {
        id,
        set: fields(set),
        unset: unset.iter().map(|name| (*name).to_owned()).collect(),
    };
    let set = json!({ "product.name": "boots", "popularity": 1_000, "foo.bar.baz": "qux", "verb": "sell" });
    let updated = scene.feeds.update_partially(vec![update(set, &["product.color", "nothing"])]).await;
    let updated = updated.expect("an update").remove(0);
    let expected = json!({
        "product": { "name": "boots", "price": 9.99 }, "kept": true, "popularity": 1_000, "foo": { "bar": { "baz": "qux" } },
    });
    assert_eq!((Value::Object(updated.custom.clone()), updated.verb.as_str()), (expected, "sell"));
    let page = scene.feeds.page(&user, PageRequest::default()).await.expect("a page");
    assert_eq!(page.activities.first().map(|one| &one.custom), Some(&updated.custom));
    // Of one activity, in their order.
    let twice = vec![update(json!({ "n": 1, "m": 1 }), &[]), update(json!({ "n": 2 }), &["m"])];
    let last = scene.feeds.update_partially(twice).await.expect("updates").remove(1);
    assert_eq!((last.custom.get("n"), last.custom.get("m")), (Some(&json!(2)), None));
}

async fn targets_come_and_go<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (user, one, two, three, member) =
        (feed("user:1"), feed("board:1"), feed("board:2"), feed("board:3"), feed("timeline:m"));
    for board in [&one, &two, &three] {
        scene.feeds.follow(&member, board, None).await.expect("a follow");
    }
    let id = scene.feeds.add_activity(&user, post("p", 1).to([one.clone(), two.clone()])).await.expect("an add").id;
    let change = |targets: Targets| {
        let (feeds, user) = (scene.feeds.clone(), user.clone());
        async move { feeds.change_targets(&user, id, &targets).await.expect("a change") }
    };
    let replaced = change(Targets::Replace(vec![three.clone(), two.clone()])).await;
    assert_eq!((replaced.added, replaced.removed), (vec![three.clone()], vec![one.clone()]));
    assert_eq!(replaced.activity.to, [two.clone(), three.clone()]);
    for (board, count) in [(&one, 0), (&two, 1), (&three, 1), (&member, 1)] {
        assert_eq!(scene.ids(board).await.len(), count, "{board}");
    }
    let origin = scene.feeds.page(&member, PageRequest::default()).await.expect("a page").activities.remove(0).origin;
    assert!(origin == Some(two.clone()) || origin == Some(three.clone()));
    let changed =
        Targets::Change { added: vec![one.clone()], removed: vec![two.clone(), three.clone(), feed("board:9")] };
    let changed = change(changed).await;
    assert_eq!((changed.added, changed.removed.len(), changed.activity.to), (vec![one.clone()], 2, vec![one.clone()]));
    let again = change(Targets::Replace(vec![one.clone(), user.clone()])).await;
    assert!(again.added.is_empty() && again.removed.is_empty(), "nothing to do: {again:?}");
    let back = change(Targets::Replace(vec![two.clone()])).await;
    assert_eq!((back.activity.to, scene.ids(&two).await), (vec![two.clone()], vec![id]), "what had gone comes again");
    scene.drain().await;
    let all = [user.clone(), one, two, three, member];
    let report = scene.feeds.verify(all.clone()).await.expect("a verification");
    assert!(report.is_clean() && report.stale_rows == 0, "{report:?}");
    let too_many: Vec<FeedId> = (0..101).map(|n| feed(&format!("board:{n}"))).collect();
    for (of, targets, kind) in [
        (&user, Targets::Replace(too_many), ErrorKind::Invalid),
        (&feed("board:2"), Targets::Replace(vec![]), ErrorKind::NotFound),
        (&feed("user:2"), Targets::Replace(vec![]), ErrorKind::NotFound),
    ] {
        let refused = scene.feeds.change_targets(of, id, &targets).await.expect_err("refused");
        assert_eq!(refused.kind(), kind, "{of}");
    }
    scene.feeds.remove_activity(&user, id).await.expect("a removal");
    for reader in &all {
        assert!(scene.ids(reader).await.is_empty(), "{reader}");
    }
}

async fn many_feeds_get_it_and_their_followers_do_not<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (early, late) = (feed("timeline:early"), feed("timeline:late"));
    let many: Vec<FeedId> = (0..300).map(|n| feed(&format!("flat:{n}"))).collect();
    let first = feed("flat:0");
    scene.feeds.follow(&early, &first, None).await.expect("a follow");
    let added = scene.feeds.add_to_many(post("p", 1), many.clone()).await.expect("an add");
    for one in many.iter().step_by(37) {
        assert_eq!(scene.ids(one).await, [added.id], "{one}");
    }
    assert!(scene.ids(&early).await.is_empty());
    scene.clock.advance_ms(60_000);
    scene.feeds.follow(&late, &first, None).await.expect("a follow");
    assert_eq!(scene.ids(&late).await, [added.id], "a later follow copies what the feed holds");
    scene.drain().await;
    let report = scene.feeds.verify([early.clone(), late.clone(), first.clone()]).await.expect("a verification");
    assert!(report.is_clean(), "{report:?}");
    scene.feeds.remove_activity(&first, added.id).await.expect("a removal");
    assert!(scene.ids(&late).await.is_empty() && scene.ids(&first).await.is_empty());
    assert_eq!(scene.ids(&feed("flat:1")).await, [added.id], "each feed holds it by itself");
    for (new, feeds) in [
        (post("q", 1), vec![]),
        (post("q", 1), vec![first.clone(); 5_001]),
        (post("q", 1).to([first.clone()]), vec![first.clone()]),
    ] {
        let refused = scene.feeds.add_to_many(new, feeds).await.expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
}

async fn what_cannot_be_updated<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let user = feed("user:1");
    let named = scene.feeds.add_activity(&user, post("p", 1)).await.expect("an add").id;
    let by_content = NewActivity { time: Some(at(2)), ..NewActivity::new("a", "like", "x") };
    let unnamed = scene.feeds.add_activity(&user, by_content.clone()).await.expect("an add").id;
    for bad in
        [by_content, NewActivity { time: None, ..post("p", 1) }, NewActivity { verb: String::new(), ..post("p", 1) }]
    {
        let refused = scene.feeds.update_activities(vec![post("fine", 3), bad]).await.expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
    assert!(
        scene.feeds.activities(&[scene_id(&scene, "fine", 3)]).await.expect("a look-up").is_empty(),
        "all are checked first"
    );
    for (id, set, unset, kind) in [
        (named, json!({ "id": "x" }), vec![], ErrorKind::Invalid),
        (named, json!({ "time": "x" }), vec![], ErrorKind::Invalid),
        (named, json!({ "to": [] }), vec![], ErrorKind::Invalid),
        (named, json!({ "foreign_id.x": 1 }), vec![], ErrorKind::Invalid),
        (named, json!({}), vec!["verb"], ErrorKind::Invalid),
        (named, json!({ "actor": {} }), vec![], ErrorKind::Invalid),
        (named, json!({ "a..b": 1 }), vec![], ErrorKind::Invalid),
        (named, json!({ "big": "x".repeat(11_000) }), vec![], ErrorKind::BatchTooLarge),
        (unnamed, json!({ "verb": "hate" }), vec![], ErrorKind::Invalid),
        (scene.id(77), json!({ "a": 1 }), vec![], ErrorKind::NotFound),
    ] {
        let unset = unset.into_iter().map(str::to_owned).collect();
        let good = PartialUpdate { id: named, set: fields(json!({ "seen": 1 })), unset: vec![] };
        let bad = PartialUpdate { id, set: fields(set.clone()), unset };
        let refused = scene.feeds.update_partially(vec![good, bad]).await.expect_err("refused");
        assert_eq!(refused.kind(), kind, "{set}: {refused}");
    }
    let kept = scene.feeds.activities(&[named]).await.expect("a look-up").remove(0);
    assert!(kept.custom.is_empty(), "nothing of it was written");
}

fn scene_id<E: Engine>(scene: &Scene<E>, name: &str, seconds: i64) -> crate::ids::ActivityId {
    crate::ids::ActivityId::compute(scene.app, at(seconds), crate::ids::Identity::ForeignId(name))
}
