//! What an operator does on a bad day, from the terminal, against real daemons. `make drill` runs the same cases.

#[path = "drill/backup.rs"]
mod backup;
#[path = "drill/lab.rs"]
mod lab;

#[test]
fn cluster_a_lost_cluster_comes_back_as_it_was_at_a_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    let found = backup::run(folder.path());
    assert!(found.compared > 400, "{} keys", found.compared);
    assert!(found.differences.is_empty(), "{:#?}", found.differences);
}
