//! How fast a model classifies, and how far from the scores of PyTorch in 64 bits: one line of JSON a case.
//!
//! usage: `speed MODEL CASES DEVICE PRECISION SECONDS [CASE…]`, where CASES is a file of `bench/cases.py`, DEVICE is
//! `cpu` or `gpu`, PRECISION is `auto`, `f32` or `int8`, and each case runs for about that many seconds.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use keevo_core::{Clock, Error, Result, SystemClock};
use keevo_moderation::{Classify, Device, Load, Precision, Tokens, load};
use safetensors::SafeTensors;

/// The fewest and the most runs of a case.
const RUNS: std::ops::RangeInclusive<usize> = 5..=2_000;

struct Case {
    texts: Vec<Tokens>,
    expected: Vec<f64>,
}

fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, cases, device, precision, seconds, only @ ..] = arguments.as_slice() else {
        return Err(Error::invalid("usage: speed MODEL CASES cpu|gpu auto|f32|int8 SECONDS [CASE…]"));
    };
    let how = Load {
        device: if device == "gpu" { Device::Gpu } else { Device::Cpu },
        precision: match precision.as_str() {
            "f32" => Precision::F32,
            "int8" => Precision::Int8,
            _ => Precision::Auto,
        },
        threads: 0,
    };
    let budget = seconds.parse::<f64>().ok().filter(|seconds| (0.0..=600.0).contains(seconds));
    let budget = budget.ok_or_else(|| Error::invalid("SECONDS is a number from 0 to 600"))?;
    let clock = SystemClock::new();
    let began = clock.monotonic();
    let model = load(Some(Path::new(model)), &how)?;
    let loaded_ms = since(&clock, began);
    let bytes = std::fs::read(cases).map_err(|error| Error::invalid(format!("cannot read {cases}: {error}")))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| Error::invalid(format!("{cases}: {error}")))?;
    let mut names: Vec<&str> = file.names().into_iter().filter_map(|name| name.strip_suffix(".ids")).collect();
    names.sort_unstable();
    for name in names.into_iter().filter(|name| only.is_empty() || only.iter().any(|one| one == name)) {
        let case = Case::read(&file, name).ok_or_else(|| Error::invalid(format!("case {name} is not whole")))?;
        let figures = run(model.as_ref(), &case, &clock, budget)?;
        let info = model.info();
        let line = serde_json::json!({
            "case": name, "device": info.device, "dtype": info.dtype, "load_ms": loaded_ms, "figures": figures,
        });
        writeln!(std::io::stdout(), "{line}").map_err(|error| Error::invalid(format!("cannot print: {error}")))?;
    }
    Ok(())
}

impl Case {
    fn read(file: &SafeTensors<'_>, name: &str) -> Option<Self> {
        let whole = |part: &str| -> Option<Vec<i64>> {
            let data = file.tensor(&format!("{name}.{part}")).ok()?.data();
            Some(data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
        };
        let (ids, lengths) = (whole("ids")?, whole("lens")?);
        let width = ids.len() / lengths.len().max(1);
        let text = |(row, length): (&[i64], &i64)| {
            let row = row.get(..usize::try_from(*length).ok()?)?;
            let ids: Option<Vec<u32>> = row.iter().map(|id| u32::try_from(*id).ok()).collect();
            Some(Tokens { types: vec![0; row.len()], ids: ids? })
        };
        let texts: Option<Vec<Tokens>> = ids.chunks(width.max(1)).zip(&lengths).map(text).collect();
        let expected = file.tensor(&format!("{name}.ref")).ok()?.data();
        let expected = expected.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        Some(Self { texts: texts?, expected })
    }
}

/// Runs a case until the budget is spent; the first runs warm up and do not count.
fn run(model: &dyn Classify, case: &Case, clock: &SystemClock, budget: f64) -> Result<serde_json::Value> {
    let began = clock.monotonic();
    let mut scores = model.classify(&case.texts)?;
    let first_ms = since(clock, began);
    for _ in 0..3 {
        scores = model.classify(&case.texts)?;
    }
    let (began, mut times) = (clock.monotonic(), Vec::new());
    while times.len() < *RUNS.end() && (times.len() < *RUNS.start() || since(clock, began) < budget * 1e3) {
        let start = clock.monotonic();
        scores = model.classify(&case.texts)?;
        times.push(since(clock, start));
    }
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len() - 1)).copied().unwrap_or_default();
    let tokens: usize = case.texts.iter().map(|text| text.ids.len()).sum();
    Ok(serde_json::json!({
        "median_ms": at(50), "min_ms": at(0), "p99_ms": at(99), "first_ms": first_ms, "runs": times.len(),
        "texts": case.texts.len(), "tokens": tokens, "error": error(&scores, &case.expected),
    }))
}

/// ‖found − expected‖ / ‖expected‖.
fn error(scores: &[Vec<f32>], expected: &[f64]) -> f64 {
    let pairs = || scores.iter().flatten().map(|x| f64::from(*x)).zip(expected);
    let distance: f64 = pairs().map(|(x, y)| (x - y).powi(2)).sum();
    (distance / pairs().map(|(_, y)| y * y).sum::<f64>()).sqrt()
}

/// Milliseconds since `start`.
fn since(clock: &SystemClock, start: Duration) -> f64 {
    clock.monotonic().saturating_sub(start).as_secs_f64() * 1e3
}
