//! The golden table of kinds, codes and statuses, and the way back.

use std::fmt::Write as _;

use expect_test::expect_file;
use keevo_core::{ERROR_TABLE, Error, ErrorKind};
use tonic::{Code, Status};

use super::*;

fn shown(error: &Error) -> (ErrorKind, String, Option<String>) {
    (error.kind(), error.message().to_owned(), error.leader().map(str::to_owned))
}

#[test]
fn every_kind_has_its_status() {
    let mut table = String::new();
    for row in ERROR_TABLE {
        let error = Error::new(row.kind, "what happened, with an é").with_leader("node-1:7400");
        let status = status_from_error(&error);
        let kind = status.metadata().get(KIND_METADATA).expect("the kind").to_str().expect("ascii");
        writeln!(
            table,
            "{kind:<20} {:>2} {:<20} by code alone: {}",
            i32::from(status.code()),
            format!("{:?}", status.code()),
            kind_from_code(i32::from(status.code()))
        )
        .expect("a string takes all");
        assert_eq!(shown(&error_from_status(&status)), shown(&error));
        assert_eq!(shown(&Error::from(Failure::from(&error))), shown(&error));
    }
    expect_file!["../../testdata/statuses.txt"].assert_eq(&table);
}

#[test]
fn a_status_survives_the_headers_of_http() {
    let error = Error::new(ErrorKind::NotLeader, "node 2 follows, 100% sure\nof it").with_leader("[::1]:7400");
    let http = status_from_error(&error).into_http::<()>();
    let status = Status::from_header_map(http.headers()).expect("a status");
    assert_eq!(shown(&error_from_status(&status)), shown(&error));
}

#[test]
fn a_message_that_no_header_holds_is_cut() {
    let status = status_from_error(&Error::invalid("é".repeat(100_000)));
    let http = status.into_http::<()>();
    let bytes: usize = http.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(bytes < 8 << 10, "{bytes} bytes of headers");
    let status = Status::from_header_map(http.headers()).expect("a status");
    assert!(status.message().starts_with("éé") && status.message().ends_with("é…"), "cut between characters");
    assert_eq!(error_from_status(&status).kind(), ErrorKind::Invalid);
}

#[test]
fn an_unknown_kind_is_taken_by_its_code() {
    let mut status = Status::new(Code::Aborted, "from the future");
    status.metadata_mut().insert(KIND_METADATA, MetadataValue::from_static("QUANTUM_FLUX"));
    assert_eq!(error_from_status(&status).kind(), ErrorKind::Conflict);
    let failure = Failure { kind: "QUANTUM_FLUX".into(), grpc_code: 14, ..Failure::default() };
    assert_eq!(Error::from(failure).kind(), ErrorKind::Unavailable);
    assert_eq!(error_from_status(&Status::unknown("h2 broke")).kind(), ErrorKind::OutcomeUnknown);
}

#[test]
fn a_leader_that_is_no_header_is_left_out() {
    let status = status_from_error(&Error::new(ErrorKind::NotLeader, "x").with_leader("bad\nheader"));
    assert_eq!(error_from_status(&status).leader(), None);
}
