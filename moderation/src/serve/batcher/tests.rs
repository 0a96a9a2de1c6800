//! The batcher against a model that does as it is told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use keevo_core::SystemClock;

use super::*;

const LIMITS: Limits =
    Limits { queue_pieces_max: 32, queue_tokens_max: 1_000, batch_pieces_max: 8, batch_tokens_max: 100 };

fn options() -> BatchOptions {
    BatchOptions { limits: LIMITS, wait: Duration::from_millis(2), threads: 1 }
}

fn start(run: impl Fn(&[u32]) -> Result<Vec<Vec<f32>>> + Send + Sync + 'static) -> Batcher<u32> {
    let run: Run<u32> = Arc::new(run);
    Batcher::start(&run, options(), Arc::new(SystemClock::new()), Arc::new(Metrics::new(100))).expect("threads")
}

#[allow(clippy::cast_precision_loss, clippy::unnecessary_wraps, reason = "small numbers; a runner may fail")]
fn echo(inputs: &[u32]) -> Result<Vec<Vec<f32>>> {
    Ok(inputs.iter().map(|&input| vec![input as f32]).collect())
}

const LATER: Duration = Duration::from_hours(1);

fn submit(batcher: &Batcher<u32>, inputs: &[u32]) -> Result<Vec<Answer>> {
    batcher.submit(Priority::Realtime, inputs.iter().map(|&input| (input, 1)).collect(), LATER)
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_texts() {
    let batcher = start(echo);
    let answers = submit(&batcher, &[3, 1, 2]).unwrap();
    for (answer, wanted) in answers.into_iter().zip([3.0, 1.0, 2.0]) {
        assert_eq!(answer.await.unwrap().unwrap(), [wanted]);
    }
}

#[tokio::test]
async fn what_waits_meanwhile_is_one_batch() {
    let (gate_tx, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let largest = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&largest);
    let batcher = start(move |inputs| {
        seen.fetch_max(inputs.len(), Ordering::SeqCst);
        assert!(gate.lock().unwrap().recv().is_err(), "it opens by the sender's end");
        echo(inputs)
    });
    let first = submit(&batcher, &[0]).unwrap();
    let rest: Vec<_> = (1..8).map(|input| submit(&batcher, &[input]).unwrap()).collect();
    drop(gate_tx);
    for answer in first.into_iter().chain(rest.into_iter().flatten()) {
        answer.await.unwrap().unwrap();
    }
    assert!(largest.load(Ordering::SeqCst) >= 7, "{largest:?}");
}

#[tokio::test]
async fn a_full_queue_refuses_and_recovers() {
    let (gate_tx, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let batcher = start(move |inputs| {
        assert!(gate.lock().unwrap().recv().is_err(), "it opens by the sender's end");
        echo(inputs)
    });
    let mut taken_in = Vec::new();
    let refused = loop {
        match submit(&batcher, &[1, 2, 3, 4]) {
            Ok(answers) => taken_in.extend(answers),
            Err(error) => break error,
        }
        assert!(taken_in.len() <= 40, "the queue has a bound");
    };
    assert_eq!(refused.kind(), ErrorKind::ResourceExhausted);
    assert!(batcher.waiting_tokens() <= 32);
    drop(gate_tx);
    for answer in taken_in {
        answer.await.unwrap().unwrap();
    }
    submit(&batcher, &[1]).unwrap().pop().unwrap().await.unwrap().unwrap();
}

#[tokio::test]
async fn scores_that_are_no_numbers_are_errors_of_their_text_alone() {
    let batcher = start(|inputs| {
        Ok(inputs
            .iter()
            .map(|&input| match input {
                0 => vec![f32::NAN],
                1 => vec![f32::INFINITY],
                2 => vec![],
                _ => vec![1.0],
            })
            .collect())
    });
    let mut kinds = Vec::new();
    for answer in submit(&batcher, &[0, 1, 2, 3]).unwrap() {
        kinds.push(answer.await.unwrap().map_err(|error| error.kind()));
    }
    let corrupt = || Err(ErrorKind::Corrupt);
    assert_eq!(kinds, [corrupt(), corrupt(), corrupt(), Ok(vec![1.0])]);
}

#[tokio::test]
async fn a_model_that_panics_or_errs_or_miscounts_answers_and_goes_on() {
    let batcher = start(|inputs| match inputs {
        [7] => panic!("on purpose"),
        [8] => Err(Error::new(ErrorKind::ResourceExhausted, "the device has no memory left")),
        [9] => Ok(vec![]),
        _ => echo(inputs),
    });
    let mut kinds = Vec::new();
    for input in [7, 8, 9, 1] {
        let answer = submit(&batcher, &[input]).unwrap().pop().unwrap();
        kinds.push(answer.await.unwrap().map(drop).map_err(|error| error.kind()));
    }
    let failed = [Err(ErrorKind::Io), Err(ErrorKind::ResourceExhausted), Err(ErrorKind::Corrupt), Ok(())];
    assert_eq!(kinds, failed);
}

#[tokio::test]
async fn late_and_abandoned_texts_never_reach_the_model() {
    let (gate_tx, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let ran = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ran);
    let batcher = start(move |inputs| {
        assert!(gate.lock().unwrap().recv().is_err(), "it opens by the sender's end");
        count.fetch_add(inputs.len(), Ordering::SeqCst);
        echo(inputs)
    });
    let first = submit(&batcher, &[1]).unwrap();
    while batcher.waiting_tokens() > 0 {
        tokio::task::yield_now().await;
    }
    let late = batcher.submit(Priority::Realtime, vec![(2, 1)], Duration::ZERO).unwrap();
    drop(submit(&batcher, &[3]).unwrap());
    drop(gate_tx);
    for answer in first {
        answer.await.unwrap().unwrap();
    }
    for answer in late {
        assert_eq!(answer.await.unwrap().unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    }
    batcher.close();
    batcher.join();
    assert_eq!(ran.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_closed_batcher_serves_what_it_took_in() {
    let batcher = start(echo);
    let answers = submit(&batcher, &[1, 2, 3, 4, 5]).unwrap();
    batcher.close();
    assert_eq!(submit(&batcher, &[6]).unwrap_err().kind(), ErrorKind::Unavailable);
    batcher.join();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
}
