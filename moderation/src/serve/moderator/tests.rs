//! Texts of every kind through the moderator, with a model that knows words.

use keevo_core::SystemClock;

use super::*;
use crate::serve::testing::{Gate, WordModel};

fn moderator(change: impl FnOnce(&mut ServeOptions)) -> (Arc<Moderator>, Arc<Gate>) {
    let model = WordModel::new();
    let gate = Arc::clone(&model.gate);
    let mut options = ServeOptions { window_overlap: 4, text_windows_max: 4, ..ServeOptions::default() };
    change(&mut options);
    let metrics = Arc::new(Metrics::new(options.batch_tokens_max));
    let clock = Arc::new(SystemClock::new());
    let moderator = Moderator::start(Arc::new(model), Arc::new(options), clock, metrics).expect("good options");
    (Arc::new(moderator), gate)
}

fn inputs(texts: &[&str]) -> Vec<Input> {
    texts.iter().map(|text| Input::from((*text).to_owned())).collect()
}

const WINDOWS: Call = Call::realtime(LongText::Windows);

#[tokio::test]
async fn each_text_gets_its_own_scores() {
    let (moderator, _) = moderator(|_| ());
    let scored = moderator.score(inputs(&["hello you", "you idiot", "i kill it"]), WINDOWS).await.unwrap();
    let flags: Vec<Vec<bool>> =
        scored.iter().map(|one| one.probabilities.iter().map(|value| *value > 0.5).collect()).collect();
    assert_eq!(flags, [[false, false], [true, false], [false, true]]);
    assert!((scored[1].probabilities[0] - 0.982_013_8).abs() < 1e-6, "{scored:?}");
    assert!((scored[1].raw[0] - 4.0).abs() < 1e-6);
}

#[tokio::test]
async fn a_long_text_is_as_bad_as_its_worst_window() {
    let (moderator, _) = moderator(|_| ());
    let long = format!("{} idiot", "word ".repeat(30));
    let scored = moderator.score(inputs(&[&long]), WINDOWS).await.unwrap();
    assert!(scored[0].windows == 3 && scored[0].probabilities[0] > 0.9, "{scored:?}");
    let truncated = moderator.score(inputs(&[&long]), Call::realtime(LongText::Truncate)).await.unwrap();
    assert!(truncated[0].windows == 1 && truncated[0].probabilities[0] < 0.1, "{truncated:?}");
    let refused = moderator.score(inputs(&[&long]), Call::realtime(LongText::Refuse)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BatchTooLarge);
    assert!(refused.message().contains("Given: 33"), "{refused}");
    let huge = "word ".repeat(200);
    let refused = moderator.score(inputs(&[&huge]), WINDOWS).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BatchTooLarge, "{refused}");
}

#[tokio::test]
async fn pairs_are_one_text_and_are_never_cut_in_windows() {
    let (moderator, _) = moderator(|_| ());
    let pair = |one: &str, other: &str| vec![Input { text: one.into(), pair: Some(other.into()) }];
    let scored = moderator.score(pair("hello", "idiot"), WINDOWS).await.unwrap();
    assert!(scored[0].tokens == 5 && scored[0].probabilities[0] > 0.9, "{scored:?}");
    let long = "w ".repeat(20);
    assert_eq!(moderator.score(pair("a", &long), WINDOWS).await.unwrap_err().kind(), ErrorKind::BatchTooLarge);
    let cut = moderator.score(pair("a", &long), Call::realtime(LongText::Truncate)).await.unwrap();
    assert_eq!(cut[0].tokens, 16);
}

#[tokio::test]
async fn texts_of_every_script_are_judged_and_empty_ones_refused() {
    let (moderator, _) = moderator(|_| ());
    let strange = ["😀😀😀", "مرحبا بكم", "שלום", "\u{0}\u{1}\u{7f}", "\u{200b}", " ", "ｆｕｌｌ", "क्षि"];
    assert_eq!(moderator.score(inputs(&strange), WINDOWS).await.unwrap().len(), strange.len());
    for refused in [vec![], inputs(&["fine", ""])] {
        assert_eq!(moderator.score(refused, WINDOWS).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let many = vec!["a"; 257];
    assert_eq!(moderator.score(inputs(&many), WINDOWS).await.unwrap_err().kind(), ErrorKind::BatchTooLarge);
}

#[tokio::test]
async fn a_score_that_is_no_number_is_an_error() {
    let (moderator, _) = moderator(|_| ());
    assert_eq!(moderator.score(inputs(&["nan"]), WINDOWS).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(moderator.score(inputs(&["panic"]), WINDOWS).await.unwrap_err().kind(), ErrorKind::Io);
    moderator.score(inputs(&["fine"]), WINDOWS).await.unwrap();
}

#[tokio::test]
async fn a_timeout_answers_while_the_model_is_stuck() {
    let (moderator, gate) = moderator(|options| options.timeout = Duration::from_millis(40));
    gate.shut();
    let call = Call { timeout: Some(Duration::from_millis(5)), ..WINDOWS };
    assert_eq!(moderator.score(inputs(&["a"]), call).await.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    // The server's own limit holds for those who ask for more.
    let call = Call { timeout: Some(Duration::from_hours(1)), ..WINDOWS };
    assert_eq!(moderator.score(inputs(&["a"]), call).await.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    gate.open();
}

#[tokio::test]
async fn a_full_queue_refuses_and_memory_stays_bounded() {
    let (moderator, gate) = moderator(|options| {
        options.queue_texts_max = 8;
        options.batch_texts_max = 4;
    });
    gate.shut();
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let moderator = Arc::clone(&moderator);
        asked.spawn(async move { moderator.score(inputs(&["hello"]), WINDOWS).await.map_err(|error| error.kind()) });
    }
    let mut refused = 0;
    while refused < 80 {
        let ended = asked.join_next().await.expect("those that do not fit are answered at once").expect("no panic");
        assert_eq!(ended.unwrap_err(), ErrorKind::ResourceExhausted);
        refused += 1;
    }
    assert!((1..=30).contains(&moderator.retry_after_s()));
    gate.open();
    let mut judged = 0;
    while let Some(ended) = asked.join_next().await {
        match ended.expect("no panic") {
            Ok(_) => judged += 1,
            Err(kind) => assert_eq!(kind, ErrorKind::ResourceExhausted),
        }
    }
    assert!((8..=12).contains(&judged), "{judged}");
}

#[test]
fn one_of_several_labels_sums_to_one() {
    let chosen = normalized(&[1_000.0, 1_000.0, -1_000.0], false);
    assert!((chosen[0] - 0.5).abs() < 1e-6 && chosen[2] == 0.0, "{chosen:?}");
    assert!((normalized(&[0.0], true)[0] - 0.5).abs() < 1e-6);
}

#[test]
fn options_that_cannot_work_are_refused() {
    let labels = ["toxic".to_owned()];
    let check = |change: fn(&mut ServeOptions)| {
        let mut options = ServeOptions::default();
        change(&mut options);
        options.check(&labels).map_err(|error| error.message().to_owned())
    };
    assert_eq!(check(|_| ()), Ok(()));
    assert!(check(|options| options.batch_tokens_max = 0).is_err());
    assert!(check(|options| options.timeout = Duration::ZERO).is_err());
    assert!(check(|options| options.threshold = 1.5).is_err());
    let unknown = check(|options| options.thresholds.extend([("rude".to_owned(), 0.5)])).unwrap_err();
    assert!(unknown.contains("rude") && unknown.contains("toxic"), "{unknown}");
}
