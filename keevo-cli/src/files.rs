//! Files of this machine's user: where they are, and how they are written.
//!
//! Invariant: a file is whole whenever it is read, since it takes its place by one rename.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind as IoKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// Who may read a secret, or what tells of one.
pub(crate) const OWNER_ONLY: u32 = 0o600;

/// Reads a variable of the environment.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The environment of this process.
pub(crate) fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Where the contexts are kept; `None` without a home.
pub(crate) fn contexts(variables: Environment<'_>) -> Option<PathBuf> {
    Some(base(variables, "XDG_CONFIG_HOME", ".config")?.join("keevo").join("contexts.toml"))
}

/// Where the shell's history is kept; `None` without a home.
pub(crate) fn history(variables: Environment<'_>) -> Option<PathBuf> {
    Some(base(variables, "XDG_STATE_HOME", ".local/state")?.join("keevo").join("history"))
}

/// The folder that a variable names, or one in the home; relative ones do not count.
fn base(variables: Environment<'_>, name: &str, in_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| variables(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(name).or_else(|| Some(absolute("HOME")?.join(in_home)))
}

/// Writes a file in one step, readable by whom `mode` says.
pub(crate) fn place(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    put(path, text, mode, &|_| Ok(()))
}

/// Writes a file that is there anew, in one step: it stays the same user's and group's, with the same mode, so that whoever reads it
/// can go on.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let before = fs::metadata(&path)?;
    put(&path, text, OWNER_ONLY, &|file| {
        let now = file.metadata()?;
        let changed = |before: u32, now: u32| (before != now).then_some(before);
        let (user, group) = (changed(before.uid(), now.uid()), changed(before.gid(), now.gid()));
        if user.is_some() || group.is_some() {
            fchown(file, user, group)?;
        }
        file.set_permissions(before.permissions())
    })
}

/// Writes a file beside `path`, lets `prepare` see to it, and puts it in its place.
fn put(path: &Path, text: &str, mode: u32, prepare: &dyn Fn(&File) -> io::Result<()>) -> io::Result<()> {
    let mut random = [0; 8];
    keevo_tls::make::random(&mut random).map_err(io::Error::other)?;
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{:016x}.new", u64::from_be_bytes(random)));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        prepare(&file)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    if let Err(error) = write() {
        // What is left is nobody's; why it could not be put in place counts.
        drop(fs::remove_file(&temporary));
        return Err(error);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(folder)?.sync_all()
}

/// Makes the folder of a file, for its owner alone where it is new.
pub(crate) fn make_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| DirBuilder::new().recursive(true).mode(0o700).create(folder))
}

/// The text of a file of at most `bytes_max` bytes; `None` where there is none.
pub(crate) fn text_of(path: &Path, bytes_max: u64) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == IoKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut text = String::new();
    file.take(bytes_max.saturating_add(1)).read_to_string(&mut text)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(io::Error::new(IoKind::FileTooLarge, format!("it has more than {bytes_max} bytes")));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_is_replaced_stays_readable_by_whom_it_was() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, link) = (dir.path().join("keys"), dir.path().join("link"));
        place(&path, "one", OWNER_ONLY).expect("written");
        let mode = || fs::metadata(&path).expect("there").mode() & 0o777;
        assert_eq!(mode(), OWNER_ONLY);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
        std::os::unix::fs::symlink("keys", &link).expect("a link");
        // Whoever may give files away does so here.
        let given = fchown(File::open(&path).expect("opened"), None, Some(12_345)).is_ok();
        replace(&link, "two").expect("replaced");
        assert_eq!((fs::read_to_string(&path).expect("read").as_str(), mode()), ("two", 0o640));
        assert!(!given || fs::metadata(&path).expect("there").gid() == 12_345);
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        let names = fs::read_dir(dir.path()).expect("listed").count();
        assert_eq!(names, 2, "nothing else is left");
        assert!(replace(&dir.path().join("none"), "x").is_err());
    }

    #[test]
    fn folders_are_those_of_the_user() {
        let home = |name: &str| (name == "HOME").then(|| "/users/ann".into());
        assert_eq!(contexts(&home), Some("/users/ann/.config/keevo/contexts.toml".into()));
        assert_eq!(history(&home), Some("/users/ann/.local/state/keevo/history".into()));
        let own = |name: &str| (name != "HOME").then(|| "/own".into());
        assert_eq!(contexts(&own), Some("/own/keevo/contexts.toml".into()));
        let relative = |_: &str| Some("own".into());
        assert_eq!((contexts(&relative), history(&|_| None)), (None, None));
    }
}
