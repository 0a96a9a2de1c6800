//! Values computed by hand, errors with their places, and pages in order.

use keevo_core::{ErrorKind, ManualClock, MemoryEngine, SeededRandom};
use serde_json::json;

use super::*;
use crate::activity::NewActivity;
use crate::feeds::FeedsOptions;
use crate::ids::{AppId, Identity};
use crate::time::ActivityTime;

/// 2026-05-01T12:00:00Z.
const NOW_S: f64 = 1_777_636_800.0;

fn activity(age_s: i64, custom: Value) -> Activity {
    let time = ActivityTime::from_micros((1_777_636_800 - age_s) * 1_000_000).expect("a time");
    let new = NewActivity::new("SU:a", "post", "x");
    Activity {
        id: crate::ids::ActivityId::compute(AppId(1), time, Identity::ForeignId("x")),
        actor: new.actor,
        verb: new.verb,
        object: new.object,
        target: String::new(),
        foreign_id: String::new(),
        time,
        origin: None,
        to: Vec::new(),
        custom: json_object(custom, "custom").expect("an object"),
    }
}

fn ranking(value: impl std::borrow::Borrow<Value>) -> Result<Ranking> {
    Ranking::from_json(value.borrow())
}

fn score_of(value: Value, activity: &Activity, vars: Value) -> Result<f64> {
    let vars = json_object(vars, "vars").expect("an object");
    ranking(value)?.score(activity, &vars, NOW_S, &SeededRandom::new(7), None)
}

fn plain(text: &str) -> Result<f64> {
    let fields = json!({"likes": 16, "flag": true, "at": "2026-05-01T12:00:01", "deep": {"n": 2.5}, "text": "x"});
    score_of(json!({"score": text}), &activity(86_400, fields), json!({"x": 3}))
}

#[test]
fn arithmetic_and_functions() {
    for (text, expected) in [
        ("1 + 2 * 3", 7.0),
        ("(1 + 2) * 3", 9.0),
        ("8 / 4 / 2", 1.0),
        ("10 - 4 - 3", 3.0),
        ("2 ^ 3 ^ 2", 512.0),
        ("-2 ^ 2", -4.0),
        ("2 ^ -1", 0.5),
        ("- - 3 + +1", 4.0),
        ("1.5e2 + .5", 150.5),
        ("likes ^ 0.5 + deep.n + flag", 7.5),
        ("external.x * 2", 6.0),
        ("ln(1) + log(1000)", 3.0),
        ("sin(0) + cos(0) + tan(0)", 1.0),
        ("abs(-3) + trunc(2.9) + round(2.5) + trunc(-2.9)", 6.0),
        ("min(3, 1, 2) + max(3, 1, 2)", 4.0),
        ("to_unix_timestamp(at) - 1777636800", 1.0),
        ("to_unix_timestamp(\"2026-05-01T12:00:00Z\") - to_unix_timestamp(time)", 86_400.0),
        ("time - 1777550400", 0.0),
        // One day of the five after which it is half: 1 - 0.5 * 1/5, 0.5 ^ (1/5), 0.5 ^ (1/25).
        ("decay_linear(time)", 0.9),
        ("decay_exp(time)", 0.870_550_563_296_124_1),
        ("decay_gauss(time)", 0.972_654_947_412_286_1),
        // A degree of a great circle on a ball of 6371.0088 km: 6371.0088 * pi / 180.
        ("dist(0, 0, 0, 1)", 111.195_080_233_532_9),
        ("dist(0, 0, 1, 0, \"m\")", 111_195.080_233_532_9),
        ("dist(0, 0, 0, 1, 'mi')", 69.093_419_575_636_35),
        ("dist(90, 0, -90, 55)", 20_015.114_442_035_923),
        ("1 / 0", f64::MAX),
        ("ln(0)", f64::MIN),
        ("0 / 0", f64::MIN),
    ] {
        let score = plain(text).expect(text);
        let close = (score - expected).abs() <= expected.abs().max(1.0) * 1e-12;
        assert!(close, "{text}: {score}, not {expected}");
    }
}

#[test]
fn decays_with_parameters() {
    let decays = json!({
        "gauss": {"base": "decay_gauss", "scale": "5d", "offset": "1d", "decay": "0.3"},
        "exp": {"base": "decay_exp", "scale": 100, "offset": 5, "decay": 0.5},
        "linear": {"base": "decay_linear", "scale": "2h", "decay": 0.25},
        "left": {"base": "decay_linear", "scale": 10, "origin": 100, "direction": "left"},
        "right": {"base": "decay_linear", "scale": 10, "origin": 100, "direction": "right"},
    });
    for (text, age_s, expected) in [
        ("gauss(time)", 0, 1.0),
        ("gauss(time)", 86_400, 1.0),
        ("gauss(time)", 6 * 86_400, 0.3),
        // Three days beyond the offset, of five: 0.3 ^ 0.36.
        ("gauss(time)", 4 * 86_400, 0.648_281_534_892_157_9),
        ("gauss(time)", -4 * 86_400, 0.648_281_534_892_157_9),
        ("exp(5)", 0, 1.0),
        ("exp(105)", 0, 0.5),
        ("exp(205)", 0, 0.25),
        ("exp(-105)", 0, 0.5),
        ("linear(time)", 3_600, 0.625),
        ("linear(time)", 7_200, 0.25),
        ("linear(time)", 9_600, 0.0),
        ("left(90) + right(90)", 0, 1.5),
        ("left(110) + right(120)", 0, 1.0),
    ] {
        let value = json!({"score": text, "functions": decays.clone()});
        let score = score_of(value, &activity(age_s, json!({})), json!({})).expect(text);
        assert!((score - expected).abs() < 1e-9, "{text} at {age_s}: {score}, not {expected}");
    }
}

#[test]
fn defaults_stand_in() {
    let value = json!({"score": "a + b.c + external.d + e", "defaults": {"a": 1, "b": {"c": 10}, "external": {"d": 100}, "e": 1000}});
    let of = |custom, vars| score_of(value.clone(), &activity(0, custom), vars).expect("a score");
    assert!((of(json!({}), json!({})) - 1_111.0).abs() < 1e-9);
    let some = of(json!({"a": 2, "b": {"c": null}, "e": 0}), json!({"d": 0.5}));
    assert!((some - 12.5).abs() < 1e-9);
}

#[test]
fn errors_name_their_place() {
    for (text, expected) in [
        ("", "the score ends where a value should stand (at 1)"),
        ("1 +", "the score ends where a value should stand (at 4)"),
        ("1 2", "the score should end here, or go on with an operator (at 2)"),
        ("(1", "the bracket is not closed (at 0)"),
        ("1)", "the score should end here, or go on with an operator (at 1)"),
        ("a $ b", "'$' means nothing in a score (at 2)"),
        ("a..b", "a name ends with a dot, or has two in a row (at 0)"),
        ("2 * 'x", "a text does not end (at 4)"),
        ("2 * nope(1)", "there is no function nope (at 4)"),
        ("ln(1, 2)", "ln takes one argument, not 2 (at 0)"),
        ("rand(1)", "rand takes no arguments, or two, not 1 (at 0)"),
        ("1 + * 2", "a value should stand here, not '*' (at 4)"),
        ("missing + 1", "there is no missing, and the ranking has no default for it (at 0)"),
        ("1 + external.y", "there is no external.y, and the ranking has no default for it (at 4)"),
        ("2 * text", "the text \"x\" stands where a number is needed (at 4)"),
        ("1 + deep", "deep is neither a number nor a text (at 4)"),
        ("to_unix_timestamp(text)", "\"x\" is no time (at 18)"),
        ("dist(0,0,0,1,'yd')", "a unit of distance is \"km\", \"mi\" or \"m\" (at 13)"),
    ] {
        let error = plain(text).expect_err(text);
        assert_eq!((error.kind(), error.message()), (ErrorKind::Invalid, expected), "{text}");
        assert_eq!(RankingFault::of(&error), Some(RankingFault::Invalid));
    }
    for bad in [
        json!([]),
        json!({}),
        json!({"score": 1}),
        json!({"score": "1", "other": 1}),
        json!({"score": "1", "defaults": 1}),
        json!({"score": "1", "functions": {"f": 1}}),
        json!({"score": "1", "functions": {"f": {"base": "decay"}}}),
        json!({"score": "1", "functions": {"f": {"base": "decay_exp", "scale": "5y"}}}),
        json!({"score": "1", "functions": {"f": {"base": "decay_exp", "scale": 0}}}),
        json!({"score": "1", "functions": {"f": {"base": "decay_exp", "decay": 1}}}),
        json!({"score": "1", "functions": {"f": {"base": "decay_exp", "speed": 1}}}),
        json!({"score": "1", "functions": {"f": {"base": "decay_exp", "direction": "up"}}}),
        json!({"score": "1+".repeat(600) + "1"}),
        json!({"score": "(".repeat(200) + "1" + &")".repeat(200)}),
        json!({"score": "-".repeat(200) + "1"}),
        json!({"score": "2^".repeat(200) + "1"}),
        json!({"score": "1+".repeat(300) + "1"}),
    ] {
        assert_eq!(RankingFault::of(&ranking(&bad).expect_err("bad")), Some(RankingFault::Invalid), "{bad}");
    }
    let missing = ranking_missing("popular");
    assert_eq!(RankingFault::of(&missing), Some(RankingFault::Missing));
    assert_eq!(RankingFault::of(&Error::invalid("other")), None);
}

#[test]
fn random_functions_keep_to_their_bounds() {
    let one = activity(0, json!({}));
    for seed in 0..200 {
        let random = SeededRandom::new(seed);
        let of = |text: &str| {
            let ranking = ranking(json!({"score": text})).expect("a ranking");
            ranking.score(&one, &Map::new(), NOW_S, &random, None).expect("a score")
        };
        assert!((0.0..1.0).contains(&of("rand()")));
        assert!((3.0..5.0).contains(&of("rand(3, 5)")));
        assert!((-1.0..=1.0).contains(&of("rand_normal(-1, 1, 2, 0)")));
        assert!((of("rand_normal(7, 8, 0.1, 0)") - 7.0).abs() < 1e-9, "far from the mean: the nearest bound");
    }
    let random = SeededRandom::new(1);
    let ranking = ranking(json!({"score": "rand_normal()"})).expect("a ranking");
    let draws: Vec<f64> =
        (0..10_000).map(|_| ranking.score(&one, &Map::new(), NOW_S, &random, None).expect("a score")).collect();
    let mean = draws.iter().sum::<f64>() / 10_000.0;
    let deviation = (draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 10_000.0).sqrt();
    assert!(mean.abs() < 0.05 && (deviation - 1.0).abs() < 0.05, "{mean} {deviation}");
}

#[tokio::test]
async fn a_ranked_page_is_in_order() {
    let clock = ManualClock::new(1_777_636_800_000);
    let options = FeedsOptions { clock: std::sync::Arc::new(clock), ..FeedsOptions::default() };
    let feeds = Feeds::open(MemoryEngine::new(), AppId(1), options).await.expect("feeds");
    let feed: FeedId = "user:1".parse().expect("a feed");
    for n in 0..20_i64 {
        let time = ActivityTime::from_micros((1_777_636_800 - n * 60) * 1_000_000).expect("a time");
        let mut new = NewActivity::new("a", "post", "x").identified(format!("p{n}"), time);
        new.custom.insert("n".into(), json!(n % 5));
        feeds.add_activity(&feed, new).await.expect("an add");
    }
    let by_n = ranking(json!({"score": "n * external.sign"})).expect("a ranking");
    let vars = json_object(json!({"sign": -1}), "vars").expect("an object");
    let request = RankedRequest { limit: 6, offset: 2, vars, with_score_vars: true, ..RankedRequest::default() };
    let page = feeds.ranked_page(&feed, &by_n, &request).await.expect("a page");
    let shown: Vec<String> =
        page.activities.iter().map(|one| format!("{} {}", one.activity.foreign_id, one.score)).collect();
    assert_eq!(shown, ["p10 -0", "p15 -0", "p1 -1", "p6 -1", "p11 -1", "p16 -1"], "alike ones newest first");
    let used = page.activities.last().and_then(|one| one.score_vars.clone()).expect("what was used");
    assert_eq!(Value::Object(used), json!({"n": 1.0, "external.sign": -1.0}));
    assert!(page.more);
    let last = RankedRequest { offset: 18, ..request.clone() };
    let last = feeds.ranked_page(&feed, &by_n, &last).await.expect("a page");
    assert!(last.activities.len() == 2 && !last.more);

    let chance = ranking(json!({"score": "rand()"})).expect("a ranking");
    let of = async |seed, offset| {
        let request = RankedRequest { limit: 10, offset, seed: Some(seed), ..RankedRequest::default() };
        let page = feeds.ranked_page(&feed, &chance, &request).await.expect("a page");
        page.activities.into_iter().map(|one| one.activity.foreign_id).collect::<Vec<_>>()
    };
    let (first, second) = (of(5, 0).await, of(5, 10).await);
    assert_eq!(first, of(5, 0).await, "a seed replays");
    assert_ne!(first, of(6, 0).await);
    let all: std::collections::BTreeSet<String> = first.into_iter().chain(second).collect();
    assert_eq!(all.len(), 20, "pages of one seed fit together");

    let error = feeds.ranked_page(&feed, &by_n, &RankedRequest::default()).await.expect_err("no variable");
    assert_eq!(RankingFault::of(&error), Some(RankingFault::Invalid));
    let zero = RankedRequest { limit: 0, ..request };
    assert_eq!(RankingFault::of(&feeds.ranked_page(&feed, &by_n, &zero).await.expect_err("no limit")), None);
}
