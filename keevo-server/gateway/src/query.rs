//! Query parameters as clients write them: repeated keys, commas, booleans in several spellings.

use std::str::FromStr;

use crate::error::{ApiError, ApiResult};

/// The most parameters of one request.
const PARAMETERS_MAX: usize = 1_000;

/// A request's query, decoded.
#[derive(Debug, Default, Clone)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a query; bytes that are no text become replacement characters. `400` with more than 1,000 parameters.
    pub fn parse(raw: &str) -> ApiResult<Self> {
        let pairs: Vec<_> = form_urlencoded::parse(raw.as_bytes()).into_owned().take(PARAMETERS_MAX + 1).collect();
        if pairs.len() > PARAMETERS_MAX {
            return Err(ApiError::input(format!("a query has at most {PARAMETERS_MAX} parameters")));
        }
        Ok(Self(pairs))
    }

    /// The first value of a parameter that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        values.find(|value| !value.is_empty())
    }

    /// The names of all parameters.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The values of a parameter that may be repeated and may hold commas; blanks around them are cut.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let parts = self.all(name).flat_map(|value| value.split(','));
        parts.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// A truth: `true`, `True` and `1`, or `false`, `False` and `0`; absent or empty is false.
    pub fn flag(&self, name: &str) -> ApiResult<bool> {
        match self.get(name) {
            None => Ok(false),
            Some(text) => {
                truth(text).ok_or_else(|| ApiError::field(name, format!("{text:?} is neither true nor false")))
            }
        }
    }

    /// A number or another thing that is read from text; absent or empty is `None`.
    pub fn parsed<T: FromStr>(&self, name: &str, what: &str) -> ApiResult<Option<T>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_no_such_value) => Err(ApiError::field(name, format!("{text:?} is not {what}"))),
        }
    }

    /// A number within bounds, or the default.
    pub fn number(&self, name: &str, default: usize, max: usize) -> ApiResult<usize> {
        let value = self.parsed(name, "a number")?.unwrap_or(default);
        if value > max {
            return Err(ApiError::field(name, format!("{value} is more than {max}")));
        }
        Ok(value)
    }

    /// The parameters but for those named, as a query again.
    pub(crate) fn without(&self, names: &[&str]) -> form_urlencoded::Serializer<'static, String> {
        let mut out = form_urlencoded::Serializer::new(String::new());
        for (key, value) in self.0.iter().filter(|(key, _)| !names.contains(&key.as_str())) {
            out.append_pair(key, value);
        }
        out
    }
}

/// Reads a truth as clients spell it.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "1" => Some(true),
        "false" | "False" | "FALSE" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_in_the_spellings_of_the_clients() {
        let query = Query::parse("a=True&b=1&c=&ids=x,%20y&ids=z&limit=7&bad=maybe&empty").expect("a query");
        assert!(query.flag("a").expect("a truth") && query.flag("b").expect("a truth"));
        assert!(!query.flag("c").expect("empty") && !query.flag("none").expect("absent"));
        assert!(query.flag("bad").is_err());
        assert_eq!(query.list("ids"), ["x", "y", "z"]);
        assert_eq!(query.number("limit", 25, 100).expect("a number"), 7);
        assert_eq!(query.number("offset", 0, 100).expect("the default"), 0);
        assert!(query.number("limit", 25, 6).is_err() && query.number("bad", 0, 1).is_err());
        assert_eq!(query.without(&["ids", "a", "b", "c", "bad", "empty"]).finish(), "limit=7");
    }

    #[test]
    fn a_query_is_bounded() {
        assert!(Query::parse(&"a=1&".repeat(PARAMETERS_MAX)).is_ok());
        assert!(Query::parse(&"a=1&".repeat(PARAMETERS_MAX + 1)).is_err());
        assert!(Query::parse("%ff%fe=%00&&&=").is_ok());
    }
}
