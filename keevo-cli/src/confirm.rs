//! Before something is destroyed: what that would be, and whether it is meant.
//!
//! ```text
//! --dry-run ─▶ the plan is the answer, and nothing happens
//! --yes ─────▶ it happens
//! a terminal ─▶ the plan is told and asked about          elsewhere ─▶ refused
//! ```
//!
//! Invariant: a plan is made by reading alone.

use std::future::Future;
use std::io::{BufRead, IsTerminal, Read, Write};

use keevo_core::Error;
use serde_json::{Map, Value};

use crate::args::Sure;
use crate::connect::Context;
use crate::failure::Failure;
use crate::output::{Answer, complain, show};

/// The variable that stands for --yes where it is 1.
const YES_VARIABLE: &str = "KEEVO_YES";
/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64;

/// What a command would do.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Behind "would": `remove node 4, with 3 replicas`.
    pub(crate) what: String,
    /// The same for programs: an object with counts.
    pub(crate) json: Value,
}

impl Answer for Plan {
    fn table(&self) -> String {
        format!("would {}", self.what)
    }

    fn json(&self) -> Value {
        let mut object: Map<String, Value> = super::render::object(self.json.clone());
        object.insert("dry_run".to_owned(), true.into());
        object.into()
    }
}

/// Whether to go on. `plan` is awaited only where somebody gets to see it.
pub(crate) async fn confirmed(
    context: &Context,
    sure: Sure,
    plan: impl Future<Output = Result<Plan, Failure>>,
) -> Result<bool, Failure> {
    if sure.dry_run {
        show(context.output, &plan.await?)?;
        return Ok(false);
    }
    if sure.yes || std::env::var_os(YES_VARIABLE).is_some_and(|value| value == "1") {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let error = Error::invalid("this destroys something, and there is no terminal to ask at");
        return Err(Failure::with_advice(error, "See what it would do with --dry-run, then do it with --yes."));
    }
    let plan = plan.await?;
    let yes = asked(&plan.what, &mut std::io::stdin().lock())?;
    if !yes {
        complain("nothing was done");
    }
    Ok(yes)
}

fn asked(what: &str, input: &mut dyn BufRead) -> Result<bool, Failure> {
    let mut error = std::io::stderr().lock();
    let told = write!(error, "This would {what}. Do it? [y/N] ").and_then(|()| error.flush());
    told.map_err(|error| Failure::io("the question cannot be asked", error))?;
    let mut answer = String::new();
    let read = input.take(ANSWER_BYTES_MAX).read_line(&mut answer);
    read.map_err(|error| Failure::io("the answer cannot be read", error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_yes_is_yes() {
        let asked = |answer: &str| asked("do nothing", &mut answer.as_bytes()).expect("read");
        assert!(asked("y\n") && asked("yes\n") && asked(" Y "));
        assert!(!asked("\n") && !asked("") && !asked("n\n") && !asked("yess\n"));
    }

    #[test]
    fn a_plan_says_that_it_is_one() {
        let plan = Plan { what: "remove node 4".into(), json: json!({ "node": 4 }) };
        assert_eq!(
            (plan.table().as_str(), plan.json()),
            ("would remove node 4", json!({ "node": 4, "dry_run": true }))
        );
    }
}
