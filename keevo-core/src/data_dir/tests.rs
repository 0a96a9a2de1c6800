//! Tests of data folders: locks, identities, damage.

use super::identity::MAGIC;
use super::*;
use crate::ids::{ClusterId, NodeId};

const IDENTITY_A: Identity = Identity { cluster: ClusterId(0xa), pair: 7, role: Role::Data, node: NodeId(1) };

fn kind(result: Result<impl fmt::Debug>) -> ErrorKind {
    result.expect_err("must be refused").kind()
}

#[test]
fn a_folder_keeps_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    assert!(DataDir::open(&path, Role::Data).unwrap().is_none(), "absent is new");
    drop(DataDir::create(&path, IDENTITY_A).unwrap());
    let found = DataDir::open(&path, Role::Data).unwrap().expect("made before");
    assert_eq!(*found.identity(), IDENTITY_A);
    drop(found);
    assert_eq!(kind(DataDir::create(&path, IDENTITY_A)), ErrorKind::WrongCluster);
    assert_eq!(kind(DataDir::open(&path, Role::Local)), ErrorKind::WrongCluster);
    let kept = DataDir::open_or_create(&path, Role::Data, || Identity { node: NodeId(9), ..IDENTITY_A }).unwrap();
    assert_eq!(*kept.identity(), IDENTITY_A);
}

#[test]
fn a_second_opener_is_told_the_rule() {
    let dir = tempfile::tempdir().unwrap();
    let first = DataDir::create(dir.path(), IDENTITY_A).unwrap();
    let error = DataDir::open(dir.path(), Role::Data).expect_err("locked");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("one process"), "{error}");
    drop(first);
    assert!(DataDir::open(dir.path(), Role::Data).unwrap().is_some());
}

#[test]
fn a_folder_of_someone_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = DataDir::create(dir.path(), IDENTITY_A).unwrap();
    for other in [
        Identity { cluster: ClusterId(0xb), ..IDENTITY_A },
        Identity { pair: 8, ..IDENTITY_A },
        Identity { role: Role::Log, ..IDENTITY_A },
        Identity { node: NodeId(2), ..IDENTITY_A },
    ] {
        assert_eq!(kind(open.require(&other)), ErrorKind::WrongCluster, "{other:?}");
    }
    open.require(&IDENTITY_A).unwrap();
}

#[test]
fn files_without_an_identity_are_no_new_folder() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("something"), "x").unwrap();
    assert_eq!(kind(DataDir::open(dir.path(), Role::Data)), ErrorKind::WrongCluster);
    assert_eq!(kind(DataDir::create(dir.path(), IDENTITY_A)), ErrorKind::WrongCluster);
}

#[test]
fn a_folder_whose_making_was_cut_off_is_still_new() {
    let dir = tempfile::tempdir().unwrap();
    let cut_off = DataDir::create_with(dir.path(), IDENTITY_A, |path| {
        std::fs::write(path.join("half"), "x").unwrap();
        Err::<(), _>(Error::corrupt("the power fails"))
    });
    assert_eq!(kind(cut_off), ErrorKind::Corrupt);
    assert!(DataDir::open(dir.path(), Role::Data).unwrap().is_none());
    let (made, found) = DataDir::create_with(dir.path(), IDENTITY_A, |path| Ok(path.join("half").exists())).unwrap();
    assert!(found, "the second attempt finds what the first one left");
    drop(made);
    assert!(DataDir::open(dir.path(), Role::Data).unwrap().is_some());
}

#[test]
fn every_flipped_bit_of_an_identity_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::create(dir.path(), IDENTITY_A).unwrap());
    let file = dir.path().join(IDENTITY);
    let good = std::fs::read(&file).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&file, bad).unwrap();
        assert_eq!(kind(DataDir::open(dir.path(), Role::Data)), ErrorKind::Corrupt, "bit {bit}");
    }
    for length in 0..good.len() {
        std::fs::write(&file, &good[..length]).unwrap();
        assert_eq!(kind(DataDir::open(dir.path(), Role::Data)), ErrorKind::Corrupt, "{length} bytes");
    }
}

#[test]
fn a_newer_format_is_named_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let body = format!("{MAGIC}\nformat = 2\nshape = other\n");
    let text = format!("{body}crc = {:08x}\n", crc32fast::hash(body.as_bytes()));
    std::fs::write(dir.path().join(IDENTITY), text).unwrap();
    assert_eq!(kind(DataDir::open(dir.path(), Role::Data)), ErrorKind::NewerFormat);
}

#[test]
fn a_pair_stands_and_falls_together() {
    let dir = tempfile::tempdir().unwrap();
    let (data, log) = (dir.path().join("data"), dir.path().join("log"));
    assert!(DataDir::open_pair(&data, &log).unwrap().is_none());
    drop(DataDir::create(&data, IDENTITY_A).unwrap());
    assert_eq!(kind(DataDir::open_pair(&data, &log)), ErrorKind::WrongCluster);
    drop(DataDir::create(&log, Identity { role: Role::Log, ..IDENTITY_A }).unwrap());
    assert!(DataDir::open_pair(&data, &log).unwrap().is_some());
    std::fs::remove_dir_all(&data).unwrap();
    assert_eq!(kind(DataDir::open_pair(&data, &log)), ErrorKind::WrongCluster);
    drop(DataDir::create(&data, Identity { pair: 8, ..IDENTITY_A }).unwrap());
    assert_eq!(kind(DataDir::open_pair(&data, &log)), ErrorKind::WrongCluster);
}
