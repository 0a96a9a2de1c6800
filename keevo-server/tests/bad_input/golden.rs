//! The transcript: cases in sections, with what differs from run to run replaced.

use std::fmt::{Debug, Write as _};
use std::time::Duration;

use keevo_core::{Error, ErrorKind};
use keevo_proto::{KIND_METADATA, error_from_status};
use tonic::{Code, Response, Status};

/// How long a call may take to be answered, refused or not.
const PATIENCE: Duration = Duration::from_secs(30);

/// The cases of some sections, or of one.
#[derive(Debug, Default)]
pub(crate) struct Golden {
    cases: String,
    /// The kinds of all refusals.
    pub(crate) kinds: Vec<ErrorKind>,
    done: Vec<(&'static str, Golden)>,
    hidden: Vec<(String, &'static str)>,
}

impl Golden {
    /// What follows belongs to the section of this name.
    pub(crate) fn section(&mut self, name: &'static str) {
        self.done.push((name, Self::default()));
    }

    /// Shows `placeholder` in the place of `text` from now on; what was hidden first is looked for first.
    pub(crate) fn hide(&mut self, text: impl Into<String>, placeholder: &'static str) {
        self.hidden.push((text.into(), placeholder));
    }

    /// The sections, in the order in which they were begun.
    pub(crate) fn sections(self) -> Vec<(&'static str, Golden)> {
        assert!(self.cases.is_empty(), "every case belongs to a section");
        self.done
    }

    /// Adds the cases of another run of the same section.
    pub(crate) fn append(&mut self, other: Self) {
        self.cases.push_str(&other.cases);
        self.kinds.extend(other.kinds);
    }

    /// The section as it stands in the file.
    pub(crate) fn text(&self, name: &str) -> String {
        format!("\n== {name}\n{}", self.cases)
    }

    /// A call whose answer shows whether it was refused.
    pub(crate) async fn call<T: Debug>(&mut self, case: &str, call: impl Future<Output = Result<Response<T>, Status>>) {
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(_)) => self.fine(case),
            Ok(Err(status)) => self.refused(case, &status),
            Err(elapsed) => panic!("{case}: no answer within {} s: {elapsed}", PATIENCE.as_secs()),
        }
    }

    /// A call that must be answered.
    pub(crate) fn fine(&mut self, case: &str) {
        self.add(case, "OK", "0 Ok", "0", "");
    }

    /// A call that was refused.
    pub(crate) fn refused(&mut self, case: &str, status: &Status) {
        assert!(status.metadata().contains_key(KIND_METADATA), "{case}: names no kind: {status:?}");
        let error = error_from_status(status);
        assert!(!matches!(status.code(), Code::Internal | Code::Cancelled | Code::Ok), "{case}: {status:?}");
        assert!(!error.message().trim().is_empty(), "{case}: says nothing");
        let grpc = format!("{} {:?}", i32::from(status.code()), status.code());
        self.add_error(case, &error, &grpc);
    }

    /// An error that a stream carried, or that needed no call.
    pub(crate) fn error(&mut self, case: &str, error: &Error, has_call: bool) {
        let code = Code::from_i32(error.kind().row().grpc_code);
        let grpc = if has_call { format!("{} {code:?}", i32::from(code)) } else { "-".to_owned() };
        self.add_error(case, error, &grpc);
    }

    fn add_error(&mut self, case: &str, error: &Error, grpc: &str) {
        let kind = error.kind();
        self.note(kind);
        self.add(case, kind.row().name, grpc, &kind.row().exit_code.to_string(), &error.to_string());
    }

    /// A program that ended: its exit code and what it said.
    pub(crate) fn ended(&mut self, case: &str, exit: i32, said: &str) {
        let name = said.split(": ").nth(1).unwrap_or_default();
        let kind = ErrorKind::from_name(name).unwrap_or_else(|| panic!("{case}: names no kind: {said}"));
        assert_eq!(exit, i32::from(kind.row().exit_code), "{case}: {said}");
        self.note(kind);
        self.add(case, name, "-", &exit.to_string(), said);
    }

    fn note(&mut self, kind: ErrorKind) {
        self.done.last_mut().expect("a section").1.kinds.push(kind);
    }

    fn add(&mut self, case: &str, kind: &str, grpc: &str, exit: &str, sentence: &str) {
        let sentence =
            self.hidden.iter().fold(sentence.to_owned(), |text, (hidden, shown)| text.replace(hidden, shown));
        let cases = &mut self.done.last_mut().expect("a section").1.cases;
        let line = format!("{kind:<18} gRPC {grpc:<20} exit {exit}  {case}");
        writeln!(cases, "{}", line.trim_end()).expect("a string takes it");
        for line in without_ids(&sentence).lines() {
            writeln!(cases, "    {}", line.trim_end()).expect("a string takes it");
        }
    }
}

/// The text without what is drawn or measured in each run: ids of 32 hexadecimal digits, and times.
fn without_ids(text: &str) -> String {
    let mut shown = String::new();
    for (at, word) in text.split(' ').enumerate() {
        let bare = word.trim_end_matches(|one: char| !one.is_ascii_alphanumeric());
        let is_id = bare.len() == 32 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_time = shown.ends_with("within") && !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
        if at > 0 {
            shown.push(' ');
        }
        match (is_id, is_time) {
            (true, _) => shown.push_str(&word.replace(bare, "[id]")),
            (_, true) => shown.push_str("[some]"),
            _ => shown.push_str(word),
        }
    }
    shown
}
