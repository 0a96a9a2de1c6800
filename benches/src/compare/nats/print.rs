//! The lines of a comparison with NATS: each a JSON object, or rows of a table with a figure each.

use keevo_core::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::compare::line::PeerName;
use crate::machine::{self, Machine};
use crate::output::{Output, print};

/// What was measured in a case.
#[derive(Debug, Clone)]
pub(super) struct Line {
    case: &'static str,
    clients: u32,
    value_bytes: u32,
    keevo: Value,
    peer: Option<Value>,
    ratio: Option<f64>,
    /// What the ratio is made of, each round: Keevo, peer.
    runs: Vec<[f64; 2]>,
}

impl Line {
    /// A line of Keevo alone.
    pub(super) fn of(case: &'static str, clients: u32, value_bytes: u32, keevo: &impl Serialize) -> Result<Self> {
        Ok(Self { case, clients, value_bytes, keevo: value(keevo)?, peer: None, ratio: None, runs: Vec::new() })
    }

    /// The same beside the peer.
    pub(super) fn beside(self, peer: &impl Serialize, ratio: Option<f64>, runs: Vec<[f64; 2]>) -> Result<Self> {
        Ok(Self { peer: Some(value(peer)?), ratio, runs, ..self })
    }
}

fn value(figures: &impl Serialize) -> Result<Value> {
    serde_json::to_value(figures).map_err(|error| Error::invalid("figures make no JSON").with_source(error))
}

/// What is printed: lines at once as JSON, or a table in the end.
pub(super) struct Printed {
    output: Output,
    peer: PeerName,
    machine: Machine,
    rows: Vec<[String; 4]>,
}

impl Printed {
    pub(super) fn new(output: Output, peer: PeerName, machine: Machine) -> Self {
        Self { output, peer, machine, rows: Vec::new() }
    }

    pub(super) fn add(&mut self, line: &Line) -> Result<()> {
        if self.output == Output::Json {
            return print(&self.json(line).to_string());
        }
        let (mut own, mut others) = (Vec::new(), Vec::new());
        figures("", &line.keevo, &mut own);
        figures("", line.peer.as_ref().unwrap_or(&Value::Null), &mut others);
        for (name, value) in own {
            let other = others.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone());
            self.rows.push([line.case.to_owned(), name, value, other.unwrap_or_default()]);
        }
        if let Some(ratio) = line.ratio {
            self.rows.push([line.case.to_owned(), "ratio".to_owned(), ratio.to_string(), String::new()]);
        }
        Ok(())
    }

    fn json(&self, line: &Line) -> Value {
        let mut object = Map::new();
        object.insert("case".to_owned(), json!(line.case));
        object.insert("clients".to_owned(), json!(line.clients));
        object.insert("value_bytes".to_owned(), json!(line.value_bytes));
        object.insert("keevo".to_owned(), line.keevo.clone());
        if let Some(Value::Object(peer)) = &line.peer {
            let mut peer = peer.clone();
            peer.insert("name".to_owned(), json!(self.peer.name));
            peer.insert("version".to_owned(), json!(self.peer.version));
            object.insert("peer".to_owned(), Value::Object(peer));
            object.insert("ratio".to_owned(), json!(line.ratio));
            object.insert("runs".to_owned(), json!(line.runs));
        }
        object.insert("machine".to_owned(), json!(self.machine));
        Value::Object(object)
    }

    /// Prints the table, with what has to be known to read it.
    pub(super) fn finish(&self, notes: &str) -> Result<()> {
        if self.output == Output::Json {
            return Ok(());
        }
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["case", "figure", "keevo", self.peer.name.as_str()]);
        table.add_rows(&self.rows);
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
        print(&format!(
            "Keevo {} and {} {}\n{}; load average {} after\n\n{table}\n\n{notes}",
            env!("CARGO_PKG_VERSION"),
            self.peer.name,
            self.peer.version,
            self.machine.line(),
            machine::load_average(),
        ))
    }
}

/// The numbers of an object, with the names of the objects that they stand in.
fn figures(within: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let name = if within.is_empty() { name.clone() } else { format!("{within}.{name}") };
                figures(&name, value, into);
            }
        }
        Value::Null => {}
        value => into.push((within.to_owned(), value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_json_object_and_a_row_a_figure() {
        let machine = crate::compare::line::tests::line(false).machine;
        let peer = PeerName { name: "nats".to_owned(), version: "2.15.1".to_owned() };
        let line =
            Line::of("publish", 10, 200, &json!({ "p99_us": 5, "send": { "ops_per_s": 1.5 } })).expect("figures");
        let line = line.beside(&json!({ "p99_us": 7 }), Some(1.4), vec![[5.0, 7.0]]).expect("figures");
        let mut printed = Printed::new(Output::Table, peer, machine);
        printed.add(&line).expect("added");
        let expected = [["p99_us", "5", "7"], ["send.ops_per_s", "1.5", ""], ["ratio", "1.4", ""]];
        let rows: Vec<[&str; 3]> =
            printed.rows.iter().map(|[_, name, own, other]| [&**name, &**own, &**other]).collect();
        assert_eq!(rows, expected);
        let json = printed.json(&line);
        assert_eq!((&json["peer"]["version"], &json["ratio"]), (&json!("2.15.1"), &json!(1.4)));
    }
}
