//! Uploaded files: where they lie, their signed addresses, and serving them.
//!
//! The bytes lie in an object store, what is known of them in a row of the keyspace `gateway`. An address works until
//! it expires, for whoever has it; [`Op::FileGet`](crate::route::Op) makes a fresh one.
//!
//! Invariants: what a user uploaded is never run by a browser as a page of this origin (attachment, `nosniff`, an empty
//! content policy); a path of the store is made of the app, a random id and a cleaned name, never of what a client sent.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::hmac;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, StatusCode, Uri, header};
use bytes::Bytes;
use keevo_core::{AnyEngine, Batch, Check, Consistency, Engine, Error, ErrorKind, Key, KeyspaceKind, Result};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::apps::App;
use crate::gateway::Gateway;
use crate::query::Query;
use crate::serve::plain;

/// The keyspace of what the gateway keeps beside feeds.
pub const KEYSPACE: &str = "gateway";
/// The longest name that is kept of a file, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRow {
    /// Its name, cleaned.
    pub(crate) name: String,
    /// Its content type.
    pub(crate) kind: String,
    /// Its size.
    pub(crate) bytes: u64,
    /// The user who uploaded it; `None` = a server.
    pub(crate) owner: Option<String>,
    /// When, in milliseconds since the epoch.
    pub(crate) created_ms: u64,
}

/// The files of a node's store.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    store: Arc<dyn ObjectStore>,
}

/// The parts of a file's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) app: u32,
    pub(crate) id: Uuid,
    /// The name, after the size of a resized image.
    pub(crate) rest: String,
}

impl Address {
    /// Takes the path after `/attachments/` apart.
    fn parse(path: &str) -> Option<Self> {
        let (app, rest) = path.trim_matches('/').split_once('/')?;
        let (id, rest) = rest.split_once('/')?;
        let safe = !rest.is_empty() && rest.split('/').all(|part| !part.is_empty() && part == clean(part));
        safe.then_some(Self { app: app.parse().ok()?, id: id.parse().ok()?, rest: rest.to_owned() })
    }

    /// The address in a URL that was handed out.
    pub(crate) fn in_url(url: &str) -> Option<Self> {
        let path = url::Url::parse(url).ok()?.path().to_owned();
        Self::parse(path.split_once("/attachments/")?.1)
    }

    fn path(&self) -> String {
        format!("{}/{}/{}", self.app, self.id, self.rest)
    }

    /// A URL that works until `expires_s`.
    pub(crate) fn sign(&self, app: &App, base: &str, expires_s: u64) -> String {
        let secret = app.keys.first().map(|key| key.secret.expose()).unwrap_or_default();
        let tag = hmac::sign(&key_of(secret), self.signed(expires_s).as_bytes());
        format!("{base}/attachments/{}?expires={expires_s}&signature={}", self.path(), hex(tag.as_ref()))
    }

    fn signed(&self, expires_s: u64) -> String {
        format!("keevo file\n{}\n{expires_s}", self.path())
    }

    fn is_signed(&self, app: &App, expires_s: u64, signature: &str) -> bool {
        let Some(tag) = unhex(signature) else { return false };
        let text = self.signed(expires_s);
        app.keys.iter().any(|one| hmac::verify(&key_of(one.secret.expose()), text.as_bytes(), &tag).is_ok())
    }
}

fn key_of(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0')).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || text.len() > 128 {
        return None;
    }
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    digits
        .chunks(2)
        .map(|pair| pair.iter().try_fold(0_u32, |sum, digit| Some(sum * 16 + digit)))
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .map(|byte| u8::try_from(byte).ok())
        .collect()
}

/// A name as it may stand in a path: letters, digits, `.`, `-` and `_`; never empty, hidden or too long.
pub(crate) fn clean(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let mut cleaned: String = last.chars().map(kept).collect();
    if cleaned.len() > NAME_BYTES_MAX {
        cleaned.drain(..cleaned.len() - NAME_BYTES_MAX);
    }
    let cleaned = cleaned.trim_start_matches('.');
    if cleaned.is_empty() { "file".to_owned() } else { cleaned.to_owned() }
}

async fn row_key(engine: &AnyEngine, app: u32, id: Uuid) -> Result<Key> {
    let keyspace = engine.keyspace(KEYSPACE, KeyspaceKind::Hashed).await?;
    let partition = [b"f".as_slice(), &app.to_be_bytes(), id.as_bytes()].concat();
    Ok(keyspace.key(partition, Bytes::from_static(b"m")))
}

impl Files {
    /// The files in a folder, which is made when it is new.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let wrong = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::Config, format!("the folder of files {} cannot be used: {error}", folder.display()))
        };
        std::fs::create_dir_all(folder).map_err(|error| wrong(error.into()))?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| wrong(error.into()))?;
        Ok(Self { store: Arc::new(store.with_automatic_cleanup(true)) })
    }

    /// Keeps a file: the bytes first, then its row.
    pub(crate) async fn put(&self, engine: &AnyEngine, address: &Address, row: &FileRow, bytes: Bytes) -> Result<()> {
        self.put_bytes(address, bytes).await?;
        let key = row_key(engine, address.app, address.id).await?;
        let value = serde_json::to_vec(row)
            .map_err(|error| Error::invalid("the file's row cannot be written").with_source(error))?;
        engine.write(Batch::new().require(key.clone(), Check::Absent).put(key, value)).await.map(drop)
    }

    /// Keeps bytes under an address, such as an image in another size.
    pub(crate) async fn put_bytes(&self, address: &Address, bytes: Bytes) -> Result<()> {
        self.store.put(&object_path(address), PutPayload::from(bytes)).await.map_err(failed).map(drop)
    }

    /// The bytes under an address; `None` when there are none.
    pub(crate) async fn bytes(&self, address: &Address) -> Result<Option<Bytes>> {
        match self.store.get(&object_path(address)).await {
            Ok(found) => found.bytes().await.map(Some).map_err(failed),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// What is known of a file; `None` when it is gone.
    pub(crate) async fn row(engine: &AnyEngine, app: u32, id: Uuid) -> Result<Option<FileRow>> {
        let record = engine.get(row_key(engine, app, id).await?, Consistency::Linearizable).await?;
        let decode = |value: &[u8]| {
            serde_json::from_slice(value)
                .map_err(|error| Error::corrupt("a file's row is malformed").with_source(error))
        };
        record.map(|record| decode(&record.value)).transpose()
    }

    /// Deletes a file in all its sizes: the row first, from where on it is gone.
    pub(crate) async fn delete(&self, engine: &AnyEngine, address: &Address) -> Result<()> {
        engine.write(Batch::new().delete(row_key(engine, address.app, address.id).await?)).await?;
        let folder = ObjectPath::from(format!("{}/{}", address.app, address.id));
        let found: Vec<_> = futures::StreamExt::collect(self.store.list(Some(&folder))).await;
        for object in found {
            match self.store.delete(&object.map_err(failed)?.location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }
}

fn object_path(address: &Address) -> ObjectPath {
    ObjectPath::from(address.path())
}

fn failed(error: object_store::Error) -> Error {
    Error::new(ErrorKind::Io, "the store of files failed").with_source(error)
}

/// Serves a file to whoever has its signed address.
pub(crate) async fn serve(State(gateway): State<Gateway>, request: Request) -> Response<Body> {
    match answer(&gateway, request.uri()).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(%error, "a file could not be served");
            plain(StatusCode::SERVICE_UNAVAILABLE, "the file cannot be read now\n")
        }
    }
}

async fn answer(gateway: &Gateway, uri: &Uri) -> Result<Response<Body>> {
    let gone = || plain(StatusCode::NOT_FOUND, "there is no such file\n");
    let inner = &gateway.inner;
    let Some(files) = &inner.files else { return Ok(gone()) };
    let path = uri.path().trim_start_matches("/attachments");
    let Some(address) = Address::parse(path) else { return Ok(gone()) };
    let Some(app) = inner.apps.by_id(address.app).await? else { return Ok(gone()) };
    let Ok(query) = Query::parse(uri.query().unwrap_or_default()) else { return Ok(gone()) };
    let expires_s: u64 = query.get("expires").and_then(|text| text.parse().ok()).unwrap_or(0);
    if !address.is_signed(&app, expires_s, query.get("signature").unwrap_or_default()) {
        return Ok(plain(StatusCode::FORBIDDEN, "the address is not signed by the app\n"));
    }
    if expires_s < inner.options.clock.now_ms() / 1_000 {
        return Ok(plain(StatusCode::GONE, "the address has expired; ask the API for a fresh one\n"));
    }
    let Some(row) = Files::row(inner.registry.engine(), address.app, address.id).await? else { return Ok(gone()) };
    let Some(bytes) = files.bytes(&address).await? else { return Ok(gone()) };
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_str(&row.kind).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600"));
    if !row.kind.starts_with("image/") {
        let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{}\"", row.name));
        headers.insert(header::CONTENT_DISPOSITION, disposition.unwrap_or(HeaderValue::from_static("attachment")));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::{AppKey, Secret};

    #[test]
    fn names_are_cleaned_and_paths_cannot_climb() {
        for (name, cleaned) in [
            ("a b.png", "a_b.png"),
            ("../../etc/passwd", "passwd"),
            ("C:\\x\\y.txt", "y.txt"),
            ("..", "file"),
            (".hidden", "hidden"),
            ("", "file"),
            ("é<script>", "__script_"),
        ] {
            assert_eq!(clean(name), cleaned);
        }
        assert_eq!(clean(&"x".repeat(500)).len(), NAME_BYTES_MAX);
        let id = Uuid::nil();
        assert!(Address::parse(&format!("1/{id}/a.png")).is_some());
        for bad in
            [format!("1/{id}/../x"), format!("1/{id}"), format!("1/{id}/"), format!("x/{id}/a"), "1/x/a".to_owned()]
        {
            assert_eq!(Address::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses_are_signed_for_one_file_and_one_time() {
        let key = AppKey { key: "k".to_owned(), secret: Secret::new("secret"), created_ms: 0 };
        let app = App { id: 1, keys: vec![key], ..App::default() };
        let address = Address { app: 1, id: Uuid::nil(), rest: "a.png".to_owned() };
        let url = address.sign(&app, "http://h", 99);
        assert_eq!(Address::in_url(&url), Some(address.clone()));
        let signature = url.rsplit_once("signature=").expect("a signature").1;
        assert!(address.is_signed(&app, 99, signature));
        let other = Address { rest: "b.png".to_owned(), ..address.clone() };
        assert!(!address.is_signed(&app, 98, signature) && !other.is_signed(&app, 99, signature));
        assert!(!address.is_signed(&app, 99, "") && !address.is_signed(&app, 99, "zz"));
        assert!(!address.is_signed(&App::default(), 99, signature));
    }
}
