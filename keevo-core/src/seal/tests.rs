//! What is sealed opens in its place with its key, and nothing else does.

use std::collections::BTreeSet;

use super::*;
use crate::key_file::KeyFile;

const PLACE: &[&[u8]] = &[&[1], b"key"];

struct Lab {
    dir: tempfile::TempDir,
    file: KeyFile,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap(), file: KeyFile::new(SecretKey([7; 32])) };
        lab.write();
        lab
    }

    fn write(&self) {
        std::fs::write(self.dir.path().join("keys"), self.file.text()).unwrap();
    }

    fn sealer(&self, purpose: Purpose) -> Sealer {
        let ring = KeyRing::open("data_key_file", &self.dir.path().join("keys")).unwrap();
        Sealer::new(Arc::new(ring), purpose).unwrap()
    }
}

fn sealed(sealer: &Sealer, expires_at_ms: Option<u64>, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    sealer.seal(&sealer.newest().unwrap(), PLACE, expires_at_ms, value, &mut out).unwrap();
    out
}

fn kind(sealer: &Sealer, place: &[&[u8]], stored: &[u8]) -> ErrorKind {
    sealer.open(place, stored).expect_err("it must not open").kind()
}

#[test]
fn values_of_all_sizes_come_back_and_do_not_show() {
    let sealer = Lab::new().sealer(Purpose::Rows);
    for bytes in [0, 1, 15, 16, 17, 100_000] {
        let value: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for expires_at_ms in [None, Some(99)] {
            let stored = sealed(&sealer, expires_at_ms, &value);
            assert!(stored.len() <= value.len() + SEALED_BYTES_MORE);
            assert_eq!(SealedHead::read(&stored).unwrap().unwrap().expires_at_ms, expires_at_ms);
            assert_eq!(sealer.open(PLACE, &stored).unwrap().as_ref(), &value);
            assert!(bytes < 8 || !stored.windows(8).any(|part| part == &value[..8]));
        }
    }
    for clear in [&b""[..], b"\x01 a record", b"text"] {
        assert_eq!(sealer.open(PLACE, clear).unwrap().as_ref(), clear, "what is not sealed is given as it is");
    }
}

#[test]
fn no_flipped_bit_no_other_place_and_no_piece_opens() {
    let lab = Lab::new();
    let sealer = lab.sealer(Purpose::Rows);
    let good = sealed(&sealer, Some(99), b"a value");
    let others: [&[&[u8]]; 4] = [&[&[2], b"key"], &[&[1], b"kez"], &[&[1], b"key\0"], &[]];
    for place in others {
        assert_eq!(kind(&sealer, place, &good), ErrorKind::Corrupt);
    }
    assert_eq!(kind(&lab.sealer(Purpose::LogEntries), PLACE, &good), ErrorKind::Corrupt, "rows have keys of their own");
    for bit in 8..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let wanted = match bit / 8 {
            // The TTL's flag gives a shorter head, the others are not known.
            1 if bit == 8 => ErrorKind::Corrupt,
            1 => ErrorKind::NewerFormat,
            2..10 => ErrorKind::Config,
            _ => ErrorKind::Corrupt,
        };
        assert_eq!(kind(&sealer, PLACE, &bad), wanted, "bit {bit}");
    }
    for length in 1..good.len() {
        assert_eq!(kind(&sealer, PLACE, &good[..length]), ErrorKind::Corrupt, "{length} bytes");
    }
}

#[test]
fn the_newest_key_seals_and_all_of_them_open() {
    let mut lab = Lab::new();
    let sealer = lab.sealer(Purpose::Rows);
    let old = sealed(&sealer, None, b"old");
    lab.file.add(SecretKey([8; 32])).unwrap();
    lab.write();
    let new = sealed(&sealer, None, b"new");
    let id = |stored: &[u8]| SealedHead::read(stored).unwrap().unwrap().key.id;
    assert_eq!((id(&old), id(&new)), (1, 2), "a changed file is read again");
    assert_eq!(sealer.open(PLACE, &old).unwrap().as_ref(), b"old");
    assert_eq!(sealer.open(PLACE, &new).unwrap().as_ref(), b"new");
}

#[test]
fn a_missing_key_and_another_of_its_number_are_said_and_are_no_damage() {
    let mut lab = Lab::new();
    let old = sealed(&lab.sealer(Purpose::Rows), None, b"old");
    lab.file.add(SecretKey([8; 32])).unwrap();
    lab.file.remove(1).unwrap();
    lab.write();
    let error = lab.sealer(Purpose::Rows).open(PLACE, &old).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let file = lab.dir.path().join("keys").display().to_string();
    assert!(error.message().contains("key 1") && error.message().contains(&file), "{error}");
    lab.file = KeyFile::new(SecretKey([9; 32]));
    lab.write();
    let error = lab.sealer(Purpose::Rows).open(PLACE, &old).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.message().contains("another key 1"), "{error}");
}

#[test]
fn no_nonce_comes_twice() {
    let lab = Lab::new();
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let sealer = lab.sealer(Purpose::Rows);
        for _ in 0..500 {
            assert!(seen.insert(SealedHead::read(&sealed(&sealer, None, b"x")).unwrap().unwrap().nonce));
        }
    }
    let mut nonces = Nonces { prefix: [1; 8], next: u32::MAX - 1 };
    assert_eq!(nonces.next().unwrap(), [1, 1, 1, 1, 1, 1, 1, 1, 255, 255, 255, 254]);
    let next = nonces.next().unwrap();
    assert!(next[..8] != [1; 8] && next[8..] == [0; 4], "a used up count draws anew: {next:?}");
}

#[test]
fn what_a_key_is_called_comes_back() {
    let used = KeyUse { id: 0x0102_0304, check: [9, 8, 7, 6] };
    assert_eq!(KeyUse::from_bytes(used.to_bytes()), used);
    assert_eq!(used.to_bytes(), [1, 2, 3, 4, 9, 8, 7, 6]);
}
