//! Scores against those that PyTorch computes in 64 bits (`train/golden.py`), and what happens to broken models.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

use keevo_core::ErrorKind;
use keevo_moderation::{Device, Load, Precision, Tokens, load};
use safetensors::SafeTensors;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata").join(name)
}

fn on_cpu(precision: Precision) -> Load {
    Load { device: Device::Cpu, precision, threads: 2 }
}

/// The texts of `golden.safetensors` and their scores.
fn golden(dir: &Path) -> (Vec<Tokens>, Vec<Vec<f64>>) {
    let bytes = fs::read(dir.join("golden.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let whole = |name: &str| -> Option<Vec<i64>> {
        let data = file.tensor(name).ok()?.data();
        Some(data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
    };
    let (ids, lengths) = (whole("gold.ids").unwrap(), whole("gold.lens").unwrap());
    let types = whole("gold.types").unwrap_or_else(|| vec![0; ids.len()]);
    let width = ids.len() / lengths.len();
    let cut = |numbers: &[i64], row: usize| -> Vec<u32> {
        let length = usize::try_from(lengths[row]).unwrap();
        numbers[row * width..][..length].iter().map(|id| u32::try_from(*id).unwrap()).collect()
    };
    let tokens = |row| Tokens { ids: cut(&ids, row), types: cut(&types, row) };
    let scores = file.tensor("gold.ref").unwrap();
    let labels = scores.shape()[1];
    let scores: Vec<f64> = scores.data().as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    ((0..lengths.len()).map(tokens).collect(), scores.chunks(labels).map(<[f64]>::to_vec).collect())
}

/// ‖found − expected‖ / ‖expected‖ over all scores.
fn error(found: &[Vec<f32>], expected: &[Vec<f64>]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let pairs = || found.iter().flatten().map(|x| f64::from(*x)).zip(expected.iter().flatten());
    let distance: f64 = pairs().map(|(x, y)| (x - y).powi(2)).sum();
    let size: f64 = pairs().map(|(_, y)| y * y).sum();
    (distance / size).sqrt()
}

fn error_of(dir: &Path, how: &Load) -> f64 {
    let model = load(Some(dir), how).unwrap();
    let (texts, expected) = golden(dir);
    error(&model.classify(&texts).unwrap(), &expected)
}

#[test]
fn small_models_of_every_type_give_the_scores_of_pytorch() {
    for (name, most) in [("f32", 1e-5), ("f16", 5e-3), ("bf16", 3e-2), ("gpu", 5e-3)] {
        let found = error_of(&testdata(name), &on_cpu(Precision::Auto));
        assert!(found < most, "{name}: relative error {found:.1e}");
    }
}

#[test]
fn eight_bits_lose_as_much_as_the_readme_says() {
    let found = error_of(&testdata("f32"), &on_cpu(Precision::Int8));
    assert!(found > 1e-4 && found < 3e-2, "relative error {found:.1e}");
}

#[test]
fn the_bundled_model_gives_the_scores_of_pytorch() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("model");
    let found = error_of(&dir, &on_cpu(Precision::F32));
    assert!(found < 1e-5, "relative error {found:.1e}");
    let found = error_of(&dir, &on_cpu(Precision::Int8));
    assert!(found < 3e-2, "relative error in 8 bits {found:.1e}");
}

#[test]
fn a_text_scores_the_same_whatever_stands_beside_it_and_on_any_number_of_threads() {
    for precision in [Precision::F32, Precision::Int8] {
        let model = load(Some(&testdata("f32")), &on_cpu(precision)).unwrap();
        let (texts, _) = golden(&testdata("f32"));
        let together = model.classify(&texts).unwrap();
        let alone: Vec<Vec<f32>> =
            texts.iter().flat_map(|text| model.classify(std::slice::from_ref(text)).unwrap()).collect();
        assert_eq!(together, alone, "{precision:?}");
        let many = load(Some(&testdata("f32")), &Load { threads: 5, ..on_cpu(precision) }).unwrap();
        assert_eq!(together, many.classify(&vec![texts.clone(); 20].concat()).unwrap()[..texts.len()], "{precision:?}");
    }
}

#[test]
fn the_bundled_model_tells_insults_from_small_talk() {
    let model = load(None, &on_cpu(Precision::Auto)).unwrap();
    assert_eq!(model.info().labels[0], "toxic");
    let text = |text| model.encode(text, None).unwrap();
    let scores = model.classify(&[text("have a nice day, see you tomorrow"), text("you are a stupid idiot")]).unwrap();
    assert!(scores[0][0] < 0.0 && scores[1][0] > 0.0, "{scores:?}");
}

#[test]
fn texts_of_every_kind_become_tokens() {
    let model = load(Some(&testdata("f32")), &on_cpu(Precision::Auto)).unwrap();
    let kinds = ["", " ", "\u{0}\u{1}", "🙂👩‍👩‍👧", "שלום עולם", "日本語のテキスト", "é\u{301}", &"word ".repeat(4_000)];
    for text in kinds {
        let tokens = model.encode(text, None).unwrap();
        assert_eq!((tokens.ids.first(), tokens.ids.last()), (Some(&2), Some(&3)), "{text:.20}");
        assert_eq!(tokens.ids.len(), tokens.types.len());
        let head =
            Tokens { ids: tokens.ids[..tokens.ids.len().min(160)].to_vec(), types: vec![0; tokens.ids.len().min(160)] };
        assert!(model.classify(&[head]).unwrap()[0].iter().all(|score| score.is_finite()));
    }
    // The file's own limit of four tokens does not count.
    assert_eq!(model.encode(&"good ".repeat(300), None).unwrap().ids.len(), 302);
    let pair = model.encode("good day", Some("bad cat")).unwrap();
    assert_eq!(pair.types, [0, 0, 0, 0, 1, 1, 1]);
    let huge = model.encode(&"x".repeat((1 << 20) + 1), None).unwrap_err();
    assert_eq!(huge.kind(), ErrorKind::Invalid);
}

#[test]
fn batches_beyond_the_limits_are_refused() {
    let model = load(Some(&testdata("f32")), &on_cpu(Precision::Auto)).unwrap();
    let refused = |ids: Vec<u32>, types: Vec<u32>| model.classify(&[Tokens { ids, types }]).unwrap_err().to_string();
    assert!(refused(vec![], vec![]).contains("0 tokens"));
    assert!(refused(vec![2; 161], vec![0; 161]).contains("161 tokens"));
    assert!(refused(vec![2, 40, 3], vec![0; 3]).contains("a token is 40"));
    assert!(refused(vec![2, 5, 3], vec![0, 2, 0]).contains("give no pair"));
    assert!(refused(vec![2, 5, 3], vec![0]).contains("3 tokens"));
    assert!(model.classify(&[]).unwrap().is_empty());
}

/// A copy of the small model with something done to it, and what loading it says.
fn broken(what: impl FnOnce(&Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(testdata("f32").join(file), dir.path().join(file)).unwrap();
    }
    what(dir.path());
    let error = load(Some(dir.path()), &on_cpu(Precision::Auto)).err().expect("a broken model is refused");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.to_string()
}

/// Changes one text of a file for another of the same length or not.
fn replace(path: &Path, from: &str, to: &str) {
    let bytes = fs::read(path).unwrap();
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
    fs::write(path, [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()).unwrap();
}

#[test]
fn broken_models_are_refused_with_the_reason() {
    for (file, words) in
        [("config.json", "config.json"), ("tokenizer.json", "tokenizer"), ("model.safetensors", "cannot read")]
    {
        let message = broken(|dir| fs::remove_file(dir.join(file)).unwrap());
        assert!(message.contains(words), "{message}");
        let message = broken(|dir| fs::write(dir.join(file), "{").unwrap());
        assert!(message.contains(file), "{message}");
    }
    let message =
        broken(|dir| replace(&dir.join("model.safetensors"), "bert.pooler.dense.bias", "bert.pooler.dense.bies"));
    assert!(message.contains("bert.pooler.dense.bias is missing"), "{message}");
    let message =
        broken(|dir| replace(&dir.join("config.json"), "\"intermediate_size\": 90", "\"intermediate_size\": 91"));
    assert!(message.contains("[90, 52]") && message.contains("[91, 52]"), "{message}");
    let message = broken(|dir| replace(&dir.join("config.json"), "\"vocab_size\": 40", "\"vocab_size\": 20"));
    assert!(message.contains("do not belong together"), "{message}");
    let message = broken(|dir| replace(&dir.join("config.json"), "\"2\": \"other\"", "\"3\": \"other\""));
    assert!(message.contains("id2label"), "{message}");
    let message = broken(|dir| {
        let path = dir.join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 4;
        bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(&path, bytes).unwrap();
    });
    assert!(message.contains("holds NaN"), "{message}");
    let message = broken(|dir| {
        let path = dir.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(message.contains("does not decode"), "{message}");
}

#[test]
fn weights_that_overflow_are_an_error_not_a_score() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(testdata("f32").join(file), dir.path().join(file)).unwrap();
    }
    let mut bytes = fs::read(testdata("f32").join("model.safetensors")).unwrap();
    let (range, start) = {
        let (size, header) = SafeTensors::read_metadata(&bytes).unwrap();
        (header.info("classifier.weight").unwrap().data_offsets, size + 8)
    };
    for number in bytes[start + range.0..start + range.1].as_chunks_mut().0 {
        *number = f32::MAX.to_le_bytes();
    }
    fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    let model = load(Some(dir.path()), &on_cpu(Precision::Auto)).unwrap();
    let error = model.classify(&[Tokens { ids: vec![2, 5, 3], types: vec![0; 3] }]).unwrap_err();
    assert!(error.message().contains("broken"), "{error}");
}

#[test]
fn a_gpu_is_used_where_there_is_one_and_missed_with_a_reason() {
    let how = |device| Load { device, precision: Precision::Auto, threads: 1 };
    let (texts, expected) = golden(&testdata("gpu"));
    match load(Some(&testdata("gpu")), &how(Device::Gpu)) {
        Ok(model) => assert!(error(&model.classify(&texts).unwrap(), &expected) < 5e-3),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(error.message().contains("GPU"), "{error}");
        }
    }
    let model = load(Some(&testdata("gpu")), &how(Device::Auto)).unwrap();
    assert!(error(&model.classify(&texts).unwrap(), &expected) < 5e-3, "on {}", model.info().device);
    // Its heads are no shape for the kernels: the processor does it.
    let model = load(Some(&testdata("f16")), &how(Device::Auto)).unwrap();
    assert_eq!(model.info().device, "cpu");
}
