//! Object storage, as the archive and backups need it: objects that are written once.
//!
//! Invariant: [`Storage::put_new`] never replaces an object, and one that is written is there as a whole or not at all.
//! A local folder syncs what it writes.

pub(crate) mod encrypted;
mod s3;

use std::fmt::Debug;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use keevo_core::{Error, ErrorKind, Result};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use url::Url;

pub use encrypted::Encrypted;
pub use keevo_core::key_file::KeyRing;

/// The largest object that is read: more than any that Keevo writes.
const OBJECT_BYTES_MAX: u64 = 256 << 20;

/// An object, as a list has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Its name, from the top.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// Where objects are kept, by names like `a/b/c` of letters, digits, `.` and `-`.
///
/// Errors of every call: `Unavailable` when the storage cannot be reached or refuses, which may pass by itself.
pub trait Storage: Debug + Send + Sync + 'static {
    /// Writes an object, unless there is one of the name; says whether it did. Durable on return.
    fn put_new<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<bool>>;

    /// Writes an object in the place of the one of the name. Durable on return; who reads meanwhile gets the one or the other.
    fn replace<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<()>>;

    /// An object; `None` = there is none.
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>>>;

    /// Whether an object that is [`ErrorKind::Corrupt`] may be whole under a key that is not at hand: it does not say which it needs.
    fn may_need_another_key<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<bool>> {
        std::future::ready(Ok(false)).boxed()
    }

    /// A part of an object, cut off at its end; `None` = there is none.
    fn get_range<'a>(&'a self, name: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Option<Bytes>>>;

    /// The size of an object; `None` = there is none.
    fn size<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<u64>>>;

    /// All objects below a folder, in any depth, by name; those after the name `after` alone.
    fn list<'a>(&'a self, folder: &'a str, after: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Object>>>;

    /// The names of the folders in a folder, from the top, in order; `""` = the top.
    fn folders<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<String>>>;

    /// Removes an object, if it is there.
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>>;
}

/// Storage over the `object_store` crate.
#[derive(Debug, Clone)]
pub struct ObjectStorage {
    store: Arc<dyn ObjectStore>,
    /// What stands before all names; empty, or with a slash at the end.
    prefix: String,
}

impl ObjectStorage {
    /// The storage at an address: an absolute path or `file:///…` (a folder, made when it is new), or `s3://BUCKET/PREFIX`
    /// with the credentials, region and endpoint of the variables `AWS_*`. `Config` where it is no such address.
    pub fn open(address: &str) -> Result<Self> {
        let wrong = |why: &str| Error::new(ErrorKind::Config, format!("'{address}' is no object storage: {why}"));
        if address.starts_with('/') {
            return Self::folder(Path::new(address));
        }
        let url = Url::parse(address)
            .map_err(|error| wrong("write an absolute path, file:///PATH or s3://BUCKET/PREFIX").with_source(error))?;
        match url.scheme() {
            "file" => {
                let path = url.to_file_path().map_err(|()| wrong("file:// takes an absolute path"))?;
                Self::folder(&path)
            }
            "s3" => Self::s3(&url, AmazonS3Builder::from_env()),
            _ => Err(wrong("write an absolute path, file:///PATH or s3://BUCKET/PREFIX")),
        }
    }

    /// A local folder.
    fn folder(path: &Path) -> Result<Self> {
        let wrong = |error: Box<dyn std::error::Error + Send + Sync>| {
            let message = format!("the folder {} cannot be used as object storage: {error}", path.display());
            Error::new(ErrorKind::Config, message)
        };
        std::fs::create_dir_all(path).map_err(|error| wrong(error.into()))?;
        let store = LocalFileSystem::new_with_prefix(path).map_err(|error| wrong(error.into()))?;
        Ok(Self { store: Arc::new(store.with_fsync(true)), prefix: String::new() })
    }

    fn s3(url: &Url, builder: AmazonS3Builder) -> Result<Self> {
        Self::s3_with(url, builder, s3::Patience::default())
    }

    fn s3_with(url: &Url, builder: AmazonS3Builder, patience: s3::Patience) -> Result<Self> {
        let (store, prefix) = s3::bucket(url, builder, patience)?;
        Ok(Self { store: Arc::new(store), prefix })
    }

    /// In memory, for tests.
    #[must_use]
    pub fn memory() -> Self {
        Self { store: Arc::new(InMemory::new()), prefix: String::new() }
    }

    fn path(&self, name: &str) -> ObjectPath {
        ObjectPath::from(format!("{}{name}", self.prefix))
    }

    fn name(&self, path: &ObjectPath) -> String {
        let path = path.as_ref();
        path.strip_prefix(&self.prefix).unwrap_or(path).to_owned()
    }

    async fn read(&self, name: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
        match self.store.get_opts(&self.path(name), options).await {
            Ok(found) if found.range.end.saturating_sub(found.range.start) > OBJECT_BYTES_MAX => {
                Err(Error::corrupt(format!("'{name}' has more than {OBJECT_BYTES_MAX} bytes: it is none of Keevo's")))
            }
            Ok(found) => found.bytes().await.map(Some).map_err(|error| failed(name, error)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(name, error)),
        }
    }
}

fn failed(name: &str, error: object_store::Error) -> Error {
    let message = format!("the object storage failed at '{name}': {error}");
    Error::new(ErrorKind::Unavailable, message).with_source(error)
}

impl Storage for ObjectStorage {
    fn put_new<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<bool>> {
        async move {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.store.put_opts(&self.path(name), PutPayload::from(bytes), options).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
                Err(error) => Err(failed(name, error)),
            }
        }
        .boxed()
    }

    fn replace<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        async move {
            let put = self.store.put_opts(&self.path(name), PutPayload::from(bytes), PutOptions::default()).await;
            put.map(drop).map_err(|error| failed(name, error))
        }
        .boxed()
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.read(name, None).boxed()
    }

    fn get_range<'a>(&'a self, name: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.read(name, Some(range)).boxed()
    }

    fn size<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        async move {
            match self.store.head(&self.path(name)).await {
                Ok(found) => Ok(Some(found.size)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(failed(name, error)),
            }
        }
        .boxed()
    }

    fn list<'a>(&'a self, folder: &'a str, after: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Object>>> {
        async move {
            let path = self.path(folder);
            let found = match after {
                Some(after) => self.store.list_with_offset(Some(&path), &self.path(after)),
                None => self.store.list(Some(&path)),
            };
            let object =
                |found: object_store::ObjectMeta| Object { name: self.name(&found.location), bytes: found.size };
            let mut objects: Vec<Object> =
                found.map_ok(object).try_collect().await.map_err(|error| failed(folder, error))?;
            objects.sort_unstable();
            Ok(objects)
        }
        .boxed()
    }

    fn folders<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        async move {
            let path = self.path(folder);
            let path = Some(&path).filter(|path| !path.as_ref().is_empty());
            let found = self.store.list_with_delimiter(path).await.map_err(|error| failed(folder, error))?;
            let mut names: Vec<String> = found.common_prefixes.iter().map(|path| self.name(path)).collect();
            names.sort_unstable();
            Ok(names)
        }
        .boxed()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        async move {
            match self.store.delete(&self.path(name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(failed(name, error)),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
