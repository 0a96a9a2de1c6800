//! Plots of a comparison: throughput and latency by number of clients, one SVG file each.
//!
//! A plot is text: axes, a line a series, a legend. Numbers of clients are set apart evenly, since they grow by factors.

mod svg;

use std::fs;
use std::path::Path;

use keevo_core::{Error, ErrorKind, Result};

use crate::compare::line::Line;
use crate::figures::Figures;
use svg::{Plot, Series};

/// The figures of one side of a line.
type Side = fn(&Line) -> &Figures;

/// Writes `CASE-throughput.svg` and `CASE-latency.svg` for each case into `folder`, which is made if it is new.
pub(crate) fn draw(folder: &Path, lines: &[Line]) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Io, format!("the plots cannot be written to {}", folder.display())).with_source(error)
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let mut cases: Vec<&str> = lines.iter().map(|line| line.case).collect();
    cases.dedup();
    for case in cases {
        let lines: Vec<&Line> = lines.iter().filter(|line| line.case == case).collect();
        fs::write(folder.join(format!("{case}-throughput.svg")), throughput(case, &lines).svg()).map_err(failed)?;
        fs::write(folder.join(format!("{case}-latency.svg")), latency(case, &lines).svg()).map_err(failed)?;
    }
    Ok(())
}

/// Writes `NAME.svg` into `folder`, which is made if it is new: one series over `marks`.
pub(crate) fn draw_curve(
    folder: &Path,
    (name, title): (&str, &str),
    axis: &'static str,
    points: Vec<(String, f64)>,
) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Io, format!("the plot cannot be written to {}", folder.display())).with_source(error)
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let (marks, values) = points.into_iter().map(|(mark, value)| (mark, Some(value))).unzip();
    let series = vec![Series { name: "keevo".to_owned(), dashed: false, values }];
    let plot = Plot { title: title.to_owned(), axis, marks, series };
    fs::write(folder.join(format!("{name}.svg")), plot.svg()).map_err(failed)
}

fn peer_of(lines: &[&Line]) -> String {
    lines.first().map_or_else(String::new, |line| line.peer.name.name.clone())
}

fn throughput(case: &str, lines: &[&Line]) -> Plot {
    let series = |name: String, of: fn(&Line) -> f64| Series {
        name,
        dashed: false,
        values: lines.iter().map(|line| Some(of(line))).collect(),
    };
    let peer = peer_of(lines);
    Plot {
        title: format!("{case}: operations a second"),
        axis: "clients",
        marks: marks(lines),
        series: vec![
            series("keevo".to_owned(), |line| line.keevo.ops_per_s),
            series(peer, |line| line.peer.figures.ops_per_s),
        ],
    }
}

#[allow(clippy::cast_precision_loss, reason = "latencies in microseconds are far below 2^53")]
fn latency(case: &str, lines: &[&Line]) -> Plot {
    let series = |name: String, dashed, of: Side, at: fn(&Figures) -> Option<u64>| Series {
        name,
        dashed,
        values: lines.iter().map(|line| at(of(line)).map(|us| us as f64)).collect(),
    };
    let keevo: Side = |line| &line.keevo;
    let other: Side = |line| &line.peer.figures;
    let peer = peer_of(lines);
    Plot {
        title: format!("{case}: latency in microseconds (p50, dashed p99)"),
        axis: "clients",
        marks: marks(lines),
        series: vec![
            series("keevo".to_owned(), false, keevo, |figures| figures.p50_us),
            series(peer.clone(), false, other, |figures| figures.p50_us),
            series("keevo p99".to_owned(), true, keevo, |figures| figures.p99_us),
            series(format!("{peer} p99"), true, other, |figures| figures.p99_us),
        ],
    }
}

fn marks(lines: &[&Line]) -> Vec<String> {
    lines.iter().map(|line| line.clients.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::line::tests::line;

    #[test]
    fn each_case_gets_a_plot_of_throughput_and_one_of_latency() {
        let folder = tempfile::tempdir().expect("a folder");
        let into = folder.path().join("plots");
        let mut get = line(false);
        get.case = "get";
        draw(&into, &[line(false), line(false), get]).expect("drawn");
        let mut names: Vec<_> =
            fs::read_dir(&into).expect("made").map(|entry| entry.expect("read").file_name()).collect();
        names.sort();
        assert_eq!(names, ["get-latency.svg", "get-throughput.svg", "put-latency.svg", "put-throughput.svg"]);
        let text = fs::read_to_string(into.join("put-latency.svg")).expect("written");
        assert!(text.contains(">etcd p99<") && text.matches("<polyline").count() == 4, "{text}");
        let points = vec![("1,000".to_owned(), 10.0), ("10,000".to_owned(), 20.0)];
        draw_curve(&into, ("curve", "entries a second"), "followers", points).expect("drawn");
        let text = fs::read_to_string(into.join("curve.svg")).expect("written");
        assert!(text.contains(">followers<") && text.contains(">10,000<") && text.contains(">entries a second<"));
    }
}
