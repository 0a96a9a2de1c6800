//! What an operator does on a bad day, from the terminal, against real daemons. `make drill` runs these cases, and longer ones.

#[path = "drill/backup.rs"]
mod backup;
#[allow(dead_code, reason = "the longer cases of the drill use the rest")]
#[path = "drill/lab.rs"]
mod lab;
#[path = "drill/rolling.rs"]
mod rolling;

/// Runs a case that has to compare more than so much, and to find no difference.
#[track_caller]
fn holds(run: fn(&std::path::Path) -> lab::Found, compared_min: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let found = run(folder.path());
    assert!(found.compared > compared_min, "{} compared", found.compared);
    assert!(found.differences.is_empty(), "{:#?}", found.differences);
}

#[test]
fn cluster_a_lost_cluster_comes_back_as_it_was_at_a_moment() {
    holds(backup::run, 400);
}

#[test]
fn cluster_nodes_are_restarted_one_by_one_and_no_client_sees_an_error() {
    holds(rolling::run, 100);
}
