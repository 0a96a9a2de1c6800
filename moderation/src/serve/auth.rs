//! API keys: who may ask.
//!
//! Invariant: a key is compared in a time that does not depend on where it differs, and is never logged or shown.

use std::fmt;
use std::path::Path;

use axum::http::{HeaderMap, Uri, header};
use keevo_core::{Error, ErrorKind, Result};

/// The shortest key, in bytes.
const KEY_BYTES_MIN: usize = 8;
/// The header that Google's clients send a key in.
const GOOGLE_KEY: &str = "x-goog-api-key";

/// The keys that are let in; none of them: everybody is.
#[derive(Clone, Default)]
pub struct ApiKeys {
    keys: Vec<String>,
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({} keys)", self.keys.len())
    }
}

impl ApiKeys {
    /// Keys from a list, one a line or separated by commas; lines that start with `#` are comments.
    ///
    /// ```
    /// # use keevo_moderation::serve::ApiKeys;
    /// assert!(ApiKeys::parse("# of the chat\nchat-0123456789\n").is_ok());
    /// assert!(ApiKeys::parse("short").is_err());
    /// ```
    ///
    /// # Errors
    /// `Config`: a key shorter than 8 bytes, or one with other characters than visible ASCII.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let mut keys = Vec::new();
        for key in lines.flat_map(|line| line.split(',')).map(str::trim).filter(|key| !key.is_empty()) {
            if key.len() < KEY_BYTES_MIN || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                let place = keys.len() + 1;
                let message = format!("API key {place} must have at least {KEY_BYTES_MIN} visible ASCII characters");
                return Err(Error::new(ErrorKind::Config, message));
            }
            keys.push(key.to_owned());
        }
        Ok(Self { keys })
    }

    /// Keys from a file, as [`ApiKeys::parse`] reads them; a file without a key is refused.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::new(ErrorKind::Config, format!("the file of API keys {} cannot be read", path.display()))
                .with_source(error)
        })?;
        let keys = Self::parse(&text)?;
        if keys.is_empty() {
            return Err(Error::new(ErrorKind::Config, format!("{} holds no API key", path.display())));
        }
        Ok(keys)
    }

    /// Whether everybody is let in.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Lets a request in, or not: `Authorization: Bearer KEY`, `x-goog-api-key: KEY` or `?key=KEY`.
    pub(crate) fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")));
        let google = headers.get(GOOGLE_KEY).and_then(|value| value.to_str().ok());
        let query = uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("key="));
        let Some(given) = bearer.or(google).or(query) else {
            let message = "an API key is missing: send it as `Authorization: Bearer KEY`";
            return Err(Error::new(ErrorKind::Unauthenticated, message));
        };
        // Every key is compared, so that the time does not tell which one came close.
        let known = self.keys.iter().fold(false, |known, key| known | equal(key.as_bytes(), given.trim().as_bytes()));
        if known { Ok(()) } else { Err(Error::new(ErrorKind::Unauthenticated, "the API key is not known")) }
    }
}

/// Compares in a time that depends on the lengths only.
fn equal(one: &[u8], other: &[u8]) -> bool {
    let difference = one.iter().zip(other).fold(0_u8, |difference, (a, b)| difference | (a ^ b));
    std::hint::black_box(difference) == 0 && one.len() == other.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::HeaderName::from_static(name), header::HeaderValue::from_static(value))])
    }

    #[test]
    fn keys_are_let_in_from_every_place_they_may_stand() {
        let keys = ApiKeys::parse("first-key-1, second-key-2\n# third-key-3").expect("good keys");
        let path = |text: &'static str| Uri::from_static(text);
        assert!(keys.check(&headers("authorization", "Bearer second-key-2"), &path("/")).is_ok());
        assert!(keys.check(&headers("x-goog-api-key", "first-key-1"), &path("/")).is_ok());
        assert!(keys.check(&HeaderMap::new(), &path("/v1alpha1/comments:analyze?alt=json&key=first-key-1")).is_ok());
        for refused in ["Bearer third-key-3", "Bearer first-key-", "Bearer first-key-12", "first-key-1", "Bearer "] {
            let error = keys.check(&headers("authorization", refused), &path("/")).expect_err(refused);
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{refused}");
            assert!(!error.message().contains("-key-"), "{error}");
        }
        assert!(keys.check(&HeaderMap::new(), &path("/?key=")).is_err());
        assert!(!format!("{keys:?}").contains("first"));
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        assert!(ApiKeys::parse("").expect("none").is_empty());
        for bad in ["short", "with space", "ключ-длинный"] {
            assert_eq!(ApiKeys::parse(bad).expect_err(bad).kind(), ErrorKind::Config);
        }
        let missing = ApiKeys::read(Path::new("no/such/file")).expect_err("missing");
        assert!(missing.message().contains("no/such/file"), "{missing}");
    }
}
