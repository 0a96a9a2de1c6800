//! What is encrypted comes back whole and in parts, under its own name and key alone.

use keevo_core::key_file::KeyFile;

use super::super::ObjectStorage;
use super::*;

struct Lab {
    dir: tempfile::TempDir,
    file: KeyFile,
    open: ObjectStorage,
    storage: Encrypted,
}

impl Lab {
    fn new() -> Self {
        let (dir, open) = (tempfile::tempdir().expect("a folder"), ObjectStorage::memory());
        let file = KeyFile::new(SecretKey([1; 32]));
        let path = dir.path().join("keys");
        std::fs::write(&path, file.text()).expect("written");
        let keys = KeyRing::open("archive_key_file", &path).expect("a key file");
        let storage = Encrypted::new(Arc::new(open.clone()), keys);
        Self { dir, file, open, storage }
    }

    fn write(&self) {
        std::fs::write(self.dir.path().join("keys"), self.file.text()).expect("written");
    }

    async fn key_of(&self, name: &str) -> u8 {
        self.open.get(name).await.expect("read").expect("there")[15]
    }
}

fn contents(bytes: usize) -> Bytes {
    (0..bytes).map(|at| u8::try_from(at % 251).expect("small")).collect()
}

#[tokio::test]
async fn objects_of_every_size_come_back_whole_and_in_parts() {
    let lab = Lab::new();
    for bytes in [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES + 77] {
        let (name, raw) = (format!("a/{bytes}"), contents(bytes));
        assert!(lab.storage.put_new(&name, raw.clone()).await.expect("written"));
        assert!(!lab.storage.put_new(&name, "other".into()).await.expect("refused"));
        assert_eq!(lab.storage.get(&name).await.expect("read").as_ref(), Some(&raw), "{bytes} bytes");
        let stored = lab.open.get(&name).await.expect("read").expect("there");
        assert!(is_encrypted(&stored) && (bytes < 8 || !stored.windows(8).any(|part| part == &raw[..8])));
        for (from, to) in [(0, 16), (0, bytes), (bytes / 2, bytes / 2 + 9), (FRAME_BYTES - 3, FRAME_BYTES + 3)] {
            let range = wide(from)..wide(to);
            let there = lab.storage.get_range(&name, range).await.expect("read").expect("there");
            assert_eq!(there, raw.slice(from.min(bytes)..to.min(bytes)), "{from} to {to} of {bytes}");
        }
    }
    assert_eq!(lab.storage.get("none").await.expect("asked"), None);
    assert_eq!(lab.storage.get_range("none", 0..9).await.expect("asked"), None);
}

#[tokio::test]
async fn damage_and_another_place_are_found() {
    let lab = Lab::new();
    let bytes = FRAME_BYTES + 100;
    lab.storage.put_new("a", contents(bytes)).await.expect("written");
    let stored = lab.open.get("a").await.expect("read").expect("there");
    let frame = HEAD_BYTES + FRAME_BYTES + TAG_BYTES;
    let mut bad: Vec<(&str, Vec<u8>)> = vec![
        ("in-the-place-of-another", stored.to_vec()),
        ("cut-off-after-a-frame", stored[..frame].to_vec()),
        ("cut-off-in-a-frame", stored[..frame - 1].to_vec()),
        ("without-a-frame", stored[..HEAD_BYTES].to_vec()),
        ("without-a-head", stored[..HEAD_BYTES - 1].to_vec()),
        ("more", [&stored[..], &[0; 40]].concat()),
    ];
    for at in [13, 20, HEAD_BYTES, frame + 3, stored.len() - 1] {
        let mut flipped = stored.to_vec();
        flipped[at] ^= 1;
        bad.push(("flipped", flipped));
    }
    for (name, object) in bad {
        let lab = Lab { open: ObjectStorage::memory(), ..Lab::new() };
        let lab = Lab { storage: Encrypted::new(Arc::new(lab.open.clone()), lab.storage.keys), ..lab };
        // Under its own name, but for the first.
        let name = if name == "in-the-place-of-another" { "b" } else { "a" };
        lab.open.put_new(name, object.into()).await.expect("written");
        let error = lab.storage.get(name).await.expect_err("damaged");
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unavailable), "{error}");
    }
}

#[tokio::test]
async fn keys_are_rotated_while_objects_are_written_and_read() {
    let mut lab = Lab::new();
    lab.open.put_new("before", "in the open".into()).await.expect("written");
    lab.storage.put_new("one", "with key 1".into()).await.expect("written");
    lab.file.add(SecretKey([2; 32])).expect("room");
    lab.write();
    lab.storage.put_new("two", "with key 2".into()).await.expect("written");
    assert_eq!((lab.key_of("one").await, lab.key_of("two").await), (1, 2));
    for (name, text) in [("before", "in the open"), ("one", "with key 1"), ("two", "with key 2")] {
        assert_eq!(lab.storage.get(name).await.expect("read"), Some(text.into()));
    }
    std::fs::write(lab.dir.path().join("keys"), "no keys at all").expect("written");
    assert_eq!(lab.storage.get("two").await.expect("the last good keys count"), Some("with key 2".into()));
    lab.file.remove(1).expect("there");
    lab.write();
    let error = lab.storage.get("one").await.expect_err("its key is gone");
    assert!(error.kind() == ErrorKind::Unavailable && error.message().contains("key 1"), "{error}");
    assert!(KeyRing::open("archive_key_file", &lab.dir.path().join("none")).is_err());
}

#[tokio::test]
async fn another_key_of_the_same_number_is_told_apart_from_damage() {
    let lab = Lab::new();
    lab.storage.put_new("a", contents(100)).await.expect("written");
    let path = lab.dir.path().join("others");
    std::fs::write(&path, KeyFile::new(SecretKey([9; 32])).text()).expect("written");
    let other =
        Encrypted::new(Arc::new(lab.open.clone()), KeyRing::open("archive_key_file", &path).expect("a key file"));
    for read in [other.get("a").await, other.get_range("a", 0..9).await] {
        let error = read.expect_err("another key");
        assert!(error.kind() == ErrorKind::Config && error.message().contains("another key 1"), "{error}");
    }

    // An object from before there were check values is read as it was.
    let mut old = [MAGIC.as_slice(), &[VERSION, 0, 0, 0, 0, 0, 0, 1], &[7; SALT_BYTES]].concat();
    let ring = KeyRing::open("archive_key_file", &lab.dir.path().join("keys")).expect("a key file");
    let sealed = Sealed::of(&ring, "old", &old).expect("a head");
    sealed.seal(b"of before", &mut old).expect("small");
    lab.open.put_new("old", old.into()).await.expect("written");
    assert_eq!(lab.storage.get("old").await.expect("read"), Some("of before".into()));
    assert_eq!(other.get("old").await.expect_err("another key").kind(), ErrorKind::Corrupt);
}
