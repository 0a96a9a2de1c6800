//! One line of the result: a case and a number of clients, both sides, and what they say together.

use keevo_core::Result;
use serde::Serialize;

use super::plan::Side;
use crate::figures::{Figures, Total, per_second, rounded};
use crate::load::Measured;
use crate::machine::Machine;

/// The peer, as it is printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PeerName {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// A line, as it is printed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Line {
    pub(crate) case: &'static str,
    pub(crate) clients: u32,
    pub(crate) value_bytes: usize,
    /// Requests a second that were due, all clients together; absent where the loop was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offered_per_s: Option<u32>,
    pub(crate) keevo: Figures,
    pub(crate) peer: PeerFigures,
    /// `keevo.ops_per_s / peer.ops_per_s`; absent when the peer answered nothing.
    pub(crate) ratio: Option<f64>,
    /// The operations a second of each round: Keevo, peer.
    pub(crate) runs: Vec<[f64; 2]>,
    /// Keevo through unary calls, for information.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keevo_unary: Option<Figures>,
    pub(crate) machine: Machine,
}

/// The peer's figures beside its name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PeerFigures {
    #[serde(flatten)]
    pub(crate) name: PeerName,
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

impl Line {
    /// The line as one JSON object.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The runs of one line so far.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    keevo: Option<Total>,
    peer: Option<Total>,
    keevo_unary: Option<Total>,
    keevo_each: Vec<f64>,
    peer_each: Vec<f64>,
}

impl Runs {
    /// Adds a run of a side; returns its operations a second.
    pub(crate) fn add(&mut self, side: Side, run: Measured) -> Result<f64> {
        let ops_per_s = per_second(run.tally.ops, run.elapsed);
        let total = match side {
            Side::Keevo => {
                self.keevo_each.push(ops_per_s);
                &mut self.keevo
            }
            Side::Peer => {
                self.peer_each.push(ops_per_s);
                &mut self.peer
            }
            Side::KeevoUnary => &mut self.keevo_unary,
        };
        match total {
            Some(total) => total.add(&run)?,
            None => *total = Some(run.into()),
        }
        Ok(ops_per_s)
    }

    /// What failed, a sentence a side.
    pub(crate) fn failures(&self, peer: &str) -> Vec<String> {
        let sides = [("keevo", &self.keevo), (peer, &self.peer), ("keevo, unary", &self.keevo_unary)];
        let mut failures = Vec::new();
        for (name, total) in sides {
            if let Some(total) = total
                && let Some(first) = total.first_failure()
            {
                failures.push(format!("{name}: {} requests failed, the first with {first}", total.figures().failed));
            }
        }
        failures
    }

    /// The line, once both sides have run.
    pub(crate) fn line(
        self,
        (case, clients): (&'static str, u32),
        value_bytes: usize,
        peer: &PeerName,
        machine: &Machine,
    ) -> Option<Line> {
        let (keevo, peer_figures) = (self.keevo?.figures(), self.peer?.figures());
        let measured = peer_figures.ops_per_s > 0.0;
        Some(Line {
            case,
            clients,
            value_bytes,
            offered_per_s: None,
            ratio: measured.then(|| rounded(keevo.ops_per_s / peer_figures.ops_per_s, 1_000.0)),
            keevo,
            peer: PeerFigures { name: peer.clone(), figures: peer_figures },
            runs: self.keevo_each.into_iter().zip(self.peer_each).map(|(one, two)| [one, two]).collect(),
            keevo_unary: self.keevo_unary.map(|total| total.figures()),
            machine: machine.clone(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::figures::tests::run;

    pub(crate) fn line(unary: bool) -> Line {
        let machine = Machine {
            cores: 2,
            processor: None,
            kernel: "6.1".to_owned(),
            filesystem: "ext4".to_owned(),
            fdatasync_us: 320,
            build: "release",
        };
        let peer = PeerName { name: "etcd".to_owned(), version: "3.4.23".to_owned() };
        let mut runs = Runs::default();
        runs.add(Side::Keevo, run(3_000, 100, 1, 0)).expect("adds");
        runs.add(Side::Peer, run(500, 900, 1, 0)).expect("adds");
        if unary {
            runs.add(Side::KeevoUnary, run(1_000, 300, 1, 0)).expect("adds");
        }
        runs.add(Side::Keevo, run(1_000, 100, 1, 0)).expect("adds");
        runs.add(Side::Peer, run(600, 900, 1, 3)).expect("adds");
        let failures = ["etcd: 3 requests failed, the first with UNAVAILABLE: the node is gone. Retry with back-off; \
                         the request was not applied."];
        assert_eq!(runs.failures("etcd"), failures);
        runs.line(("put", 64), 256, &peer, &machine).expect("both sides ran")
    }

    #[test]
    fn a_line_is_one_json_object_of_the_agreed_shape() {
        expect_test::expect![[
            r#"{"case":"put","clients":64,"value_bytes":256,"keevo":{"ops_per_s":2000.0,"p50_us":100,"p99_us":100,"p999_us":100,"cpu_s":4.0,"rss_bytes_max":3000000,"bytes_written_per_op":512.0,"failed":0},"peer":{"name":"etcd","version":"3.4.23","ops_per_s":550.0,"p50_us":900,"p99_us":900,"p999_us":900,"cpu_s":1.1,"rss_bytes_max":600000,"bytes_written_per_op":512.0,"failed":3},"ratio":3.636,"runs":[[3000.0,500.0],[1000.0,600.0]],"machine":{"cores":2,"processor":null,"kernel":"6.1","filesystem":"ext4","fdatasync_us":320,"build":"release"}}"#
        ]]
        .assert_eq(&line(false).json());
        let json = line(true).json();
        assert!(json.contains(r#","keevo_unary":{"ops_per_s":1000.0,"p50_us":300,"#), "{json}");
    }

    #[test]
    fn the_ratio_is_that_of_the_sums_and_never_one_that_was_not_measured() {
        // The mean of 6 and 1.67 would be 3.83.
        assert_eq!(line(false).ratio, Some(3.636));
        let line = line(false);
        let peer = line.peer.name;
        let mut runs = Runs::default();
        runs.add(Side::Keevo, run(10, 1, 1, 0)).expect("adds");
        runs.add(Side::Peer, run(0, 1, 1, 9)).expect("adds");
        let silent = runs.line(("get", 1), 256, &peer, &line.machine).expect("both sides ran");
        assert_eq!(silent.ratio, None);
        assert!(silent.json().contains(r#""ratio":null"#));
        let mut alone = Runs::default();
        alone.add(Side::Keevo, run(10, 1, 1, 0)).expect("adds");
        assert_eq!(alone.line(("get", 1), 256, &peer, &line.machine), None);
    }
}
