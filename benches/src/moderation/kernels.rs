//! The cases beside onnxruntime: from token numbers in memory to scores in memory, by `moderation/bench/cpu.py`.
//!
//! Contenders take turns batch by batch, in processes of their own. Keevo computes a batch without padding, onnxruntime pads
//! it to its longest text.

use std::collections::BTreeMap;

use comfy_table::CellAlignment;
use keevo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::{ModerationArgs, ModerationCase, Parts, Versions, path_text, python};
use crate::compare::line::PeerName;
use crate::figures::rounded;
use crate::machine::Machine;
use crate::output::{Output, note, print};

const HEADER: [&str; 9] =
    ["case", "batch", "system", "min ms", "p50 ms", "p99 ms", "tokens/s", "of the ceiling", "ratio"];
/// The batches of one text.
const SINGLE: [&str; 2] = ["b1_s32", "b1_s128"];
const MIXED: &str = "mixed";

/// What cpu.py writes.
#[derive(Debug, Deserialize)]
struct Report {
    ceiling_gflops: f64,
    cases: BTreeMap<String, Batch>,
}

#[derive(Debug, Deserialize)]
struct Batch {
    /// What it needs without padding, in 10^9 multiplications and additions.
    gflop: f64,
    f32: Own,
    int8: Own,
    onnx_f32: Times,
    onnx_int8: Times,
}

#[derive(Debug, Deserialize)]
struct Own {
    tokens: u32,
    /// ‖found − expected‖ / ‖expected‖, against PyTorch in 64 bits.
    error: f64,
    #[serde(flatten)]
    times: Times,
}

/// In milliseconds.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Times {
    #[serde(rename = "min_ms")]
    min: f64,
    #[serde(rename = "median_ms")]
    median: f64,
    #[serde(rename = "p99_ms")]
    p99: f64,
}

/// A line, as it is printed.
#[derive(Debug, Serialize)]
struct Line<'a> {
    case: &'static str,
    batch: &'a str,
    tokens: u32,
    keevo: Figures,
    peer: PeerFigures,
    /// `peer.p50_ms / keevo.p50_ms`. More is better for Keevo.
    ratio: f64,
    /// Keevo's relative error against PyTorch in 64 bits.
    error: f64,
    /// What PyTorch's own product of large matrices in f32 reaches on this machine.
    ceiling_gflops: f64,
    machine: &'a Machine,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Figures {
    min_ms: f64,
    p50_ms: f64,
    p99_ms: f64,
    tokens_per_s: f64,
    /// What the batch needs, over its time, over the ceiling.
    ceiling_share: f64,
}

#[derive(Debug, Serialize)]
struct PeerFigures {
    #[serde(flatten)]
    name: PeerName,
    #[serde(flatten)]
    figures: Figures,
}

/// Measures the cases that are asked for; their table.
pub(super) async fn run(
    args: &ModerationArgs,
    parts: &Parts,
    versions: &Versions,
    machine: &Machine,
) -> Result<String> {
    let out = parts.folder.path().join("report.json");
    let wants = |case| args.case.contains(&case);
    let int8 = wants(ModerationCase::Int8Onnxruntime);
    let mut batches = Vec::new();
    if wants(ModerationCase::Batch1Onnxruntime) || int8 {
        batches.extend(SINGLE);
    }
    if wants(ModerationCase::MixedOnnxruntime) || int8 {
        batches.push(MIXED);
    }
    note(&format!("classifying {} by Keevo and by onnxruntime", batches.join(", ")));
    let (speed, folder) = (path_text(&parts.speed)?, path_text(parts.folder.path())?);
    python(args, &["cpu.py", speed, folder, path_text(&out)?, "--cases", &batches.join(",")]).await?;
    let unreadable = || Error::new(ErrorKind::Corrupt, "the report of cpu.py cannot be read");
    let report = std::fs::read(&out).map_err(|error| unreadable().with_source(error))?;
    let report: Report = serde_json::from_slice(&report).map_err(|error| unreadable().with_source(error))?;
    let peer = PeerName { name: "onnxruntime".to_owned(), version: versions.onnxruntime.clone() };
    let lines = lines(&report, &wants, &peer, machine);
    if args.output == Output::Json {
        lines.iter().try_for_each(|line| print(&serde_json::to_string(line).unwrap_or_default()))?;
    }
    Ok(format!(
        "{}\n\nonnxruntime {}. From token numbers to scores in memory; ratio: the peer's p50 over Keevo's. The ceiling is \
         PyTorch {}'s product of matrices of 2,048 by 2,048 in f32: {:.1} GFLOP/s.",
        table(&lines),
        versions.onnxruntime,
        versions.torch,
        report.ceiling_gflops
    ))
}

fn lines<'a>(
    report: &'a Report,
    wants: &impl Fn(ModerationCase) -> bool,
    peer: &PeerName,
    machine: &'a Machine,
) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    for (name, batch) in &report.cases {
        let f32_case = if name == MIXED {
            ("mixed_onnxruntime", ModerationCase::MixedOnnxruntime)
        } else {
            ("batch1_onnxruntime", ModerationCase::Batch1Onnxruntime)
        };
        let int8_case = ("int8_onnxruntime", ModerationCase::Int8Onnxruntime);
        for ((case, wanted), own, other) in
            [(f32_case, &batch.f32, batch.onnx_f32), (int8_case, &batch.int8, batch.onnx_int8)]
        {
            if !wants(wanted) {
                continue;
            }
            let figures = |times: Times| Figures {
                min_ms: rounded(times.min, 100.0),
                p50_ms: rounded(times.median, 100.0),
                p99_ms: rounded(times.p99, 100.0),
                tokens_per_s: rounded(f64::from(own.tokens) / times.median * 1e3, 1.0),
                ceiling_share: rounded(batch.gflop / times.median * 1e3 / report.ceiling_gflops, 1_000.0),
            };
            lines.push(Line {
                case,
                batch: name,
                tokens: own.tokens,
                keevo: figures(own.times),
                peer: PeerFigures { name: peer.clone(), figures: figures(other) },
                ratio: rounded(other.median / own.times.median, 1_000.0),
                error: own.error,
                ceiling_gflops: rounded(report.ceiling_gflops, 10.0),
                machine,
            });
        }
    }
    lines
}

fn table(lines: &[Line<'_>]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(HEADER);
    for line in lines {
        for (system, figures, ratio) in [
            ("keevo", &line.keevo, format!("{:.2}", line.ratio)),
            (line.peer.name.name.as_str(), &line.peer.figures, String::new()),
        ] {
            table.add_row([
                line.case.to_owned(),
                line.batch.to_owned(),
                system.to_owned(),
                format!("{:.1}", figures.min_ms),
                format!("{:.1}", figures.p50_ms),
                format!("{:.1}", figures.p99_ms),
                format!("{:.0}", figures.tokens_per_s),
                format!("{:.2}", figures.ceiling_share),
                ratio,
            ]);
        }
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_one_line_a_case_and_batch() {
        let times = r#""min_ms": 10.0, "median_ms": 20.0, "p99_ms": 40.0"#;
        let own = |tokens| format!(r#"{{{times}, "tokens": {tokens}, "error": 1e-6, "texts": 1, "runs": 5}}"#);
        let batch = |tokens| {
            format!(
                r#"{{"gflop": 1.0, "f32": {0}, "int8": {0}, "onnx_f32": {{"min_ms": 30, "median_ms": 30, "p99_ms": 30}},
                "onnx_int8": {{{times}}}, "jit_f32": {{{times}}}}}"#,
                own(tokens)
            )
        };
        let text = format!(
            r#"{{"threads": 2, "ceiling_gflops": 100.0, "cases": {{"b1_s32": {}, "mixed": {}}}}}"#,
            batch(32),
            batch(2_000)
        );
        let report: Report = serde_json::from_str(&text).expect("the shape that cpu.py writes");
        let machine = crate::compare::line::tests::line(false).machine;
        let peer = PeerName { name: "onnxruntime".to_owned(), version: "1.0".to_owned() };
        let all = lines(&report, &|_| true, &peer, &machine);
        let told: Vec<_> = all.iter().map(|line| (line.case, line.batch, line.ratio)).collect();
        assert_eq!(
            told,
            [
                ("batch1_onnxruntime", "b1_s32", 1.5),
                ("int8_onnxruntime", "b1_s32", 1.0),
                ("mixed_onnxruntime", "mixed", 1.5),
                ("int8_onnxruntime", "mixed", 1.0),
            ]
        );
        let first = all.first().expect("a line");
        assert!((first.keevo.tokens_per_s - 1_600.0).abs() < 1e-6, "{first:?}");
        assert!((first.keevo.ceiling_share - 0.5).abs() < 1e-6, "1 GFLOP in 20 ms of 100 GFLOP/s: {first:?}");
        let few = lines(&report, &|case| case == ModerationCase::MixedOnnxruntime, &peer, &machine);
        assert_eq!(few.len(), 1);
        assert_eq!(table(&all).lines().count(), 2 + 2 * all.len());
    }
}
