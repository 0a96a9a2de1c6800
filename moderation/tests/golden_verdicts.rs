//! What the bundled model says of fifty texts, as it was when they were written down: `testdata/golden_verdicts.tsv`.
//!
//! A change of the model, of the tokeniser or of the arithmetic shows here. Not all of them are right: the file keeps
//! what the model says, not what it should say.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use keevo_moderation::{Device, Load, Precision, load};

/// The label that the file has the scores of.
const LABEL: &str = "toxic";
/// How far a score may be from what the file says: its last digit.
const NEAR: f32 = 0.0011;

#[test]
fn fifty_texts_have_the_verdicts_that_they_had() {
    let how = Load { device: Device::Cpu, precision: Precision::F32, threads: 2 };
    let model = load(None, &how).unwrap();
    let label = model.info().labels.iter().position(|name| name == LABEL).unwrap();
    let mut lines = include_str!("testdata/golden_verdicts.tsv").lines();
    assert_eq!(lines.next(), Some("text\ttoxic\tflagged"));
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let (text, expected, flagged) = (fields[0], fields[1].parse::<f32>().unwrap(), fields[2] == "yes");
        let scores = model.classify(&[model.encode(text, None).unwrap()]).unwrap();
        let probabilities: Vec<f32> = scores[0].iter().map(|score| 1.0 / (1.0 + (-score).exp())).collect();
        let (found, over) = (probabilities[label], probabilities.iter().any(|one| *one >= 0.5));
        if (found - expected).abs() > NEAR || over != flagged {
            wrong.push(format!("{text}: {found:.4}, flagged {over}; the file says {expected}, {flagged}"));
        }
        count += 1;
    }
    assert_eq!(count, 50);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
