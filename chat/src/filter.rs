//! Filters: conditions on fields, in JSON after MongoDB's manner; read once, then asked of one document after the other.
//!
//! ```text
//! {"role": "moderator"}                                       a value means $eq
//! {"created_at": {"$gte": 1700000000000, "$lt": 1800000000000}}
//! {"$or": [{"custom.name": {"$autocomplete": "pla"}}, {"team": {"$exists": false}}]}
//! ```
//!
//! Invariant: a filter is bounded in size before anything is read, and asking it changes nothing. A condition on a field
//! that a document has not is not met, but for `$ne`, `$nin`, `$nor` and `{"$exists": false}`.

use std::cmp::Ordering;

use keevo_core::{Error, Result};
use serde_json::Value;

/// The longest filter, in bytes.
pub const FILTER_BYTES_MAX: usize = 64 << 10;
const DEPTH_MAX: usize = 8;
const CONDITIONS_MAX: usize = 100;
const VALUES_MAX: usize = 1_000;

/// A filter that was read.
///
/// ```
/// # use keevo_chat::Filter;
/// let filter = Filter::parse(r#"{"age": {"$gt": 3}, "$nor": [{"name": "ada"}]}"#, &["age", "name"])?;
/// assert!(filter.matches(&serde_json::json!({"age": 4, "name": "bob"})));
/// assert!(!filter.matches(&serde_json::json!({"age": 4, "name": "ada"})));
/// assert!(Filter::parse(r#"{"shoe": 3}"#, &["age", "name"]).is_err());
/// # Ok::<(), keevo_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    all: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Nor(Vec<Node>),
    Field { path: String, test: Test },
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Eq(Value),
    Ne(Value),
    In(Vec<Value>),
    Nin(Vec<Value>),
    Order(Than, Value),
    Exists(bool),
    Contains(Value),
    Autocomplete(String),
}

/// How a value stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Than {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Than {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
        }
    }
}

impl Filter {
    /// Reads a filter over these fields; a name that ends in a dot stands for all fields behind it. `Invalid` says what is
    /// wrong and where.
    pub fn parse(text: &str, fields: &[&str]) -> Result<Self> {
        if text.len() > FILTER_BYTES_MAX {
            let message = format!("a filter has at most {FILTER_BYTES_MAX} bytes, not {}", text.len());
            return Err(Error::invalid(message));
        }
        let value: Value =
            serde_json::from_str(text).map_err(|error| Error::invalid(format!("the filter is not JSON: {error}")))?;
        let mut reader = Reader { fields, conditions: 0 };
        Ok(Self { all: reader.object(&value, 0)? })
    }

    /// Whether a document meets it.
    pub fn matches(&self, document: &Value) -> bool {
        self.all.iter().all(|node| node.matches(document))
    }

    /// The values that the field must be one of, where the filter as a whole demands that.
    pub(crate) fn one_of(&self, field: &str) -> Option<Vec<String>> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.demanded().find_map(|node| match node {
            Node::Field { path, test: Test::Eq(value) } if path == field => Some(text(value).into_iter().collect()),
            Node::Field { path, test: Test::In(values) } if path == field => {
                Some(values.iter().filter_map(text).collect())
            }
            _ => None,
        })
    }

    /// The value that the list `field` must contain, where the filter as a whole demands that.
    pub(crate) fn contained_in(&self, field: &str) -> Option<String> {
        self.demanded().find_map(|node| match node {
            Node::Field { path, test: Test::Contains(Value::String(value)) } if path == field => Some(value.clone()),
            _ => None,
        })
    }

    /// What every document must meet that meets the filter.
    fn demanded(&self) -> impl Iterator<Item = &Node> {
        let mut found = Vec::new();
        let mut open: Vec<&Node> = self.all.iter().collect();
        while let Some(node) = open.pop() {
            match node {
                Node::And(nodes) => open.extend(nodes),
                node => found.push(node),
            }
        }
        found.into_iter()
    }
}

struct Reader<'a> {
    fields: &'a [&'a str],
    conditions: usize,
}

impl Reader<'_> {
    fn object(&mut self, value: &Value, depth: usize) -> Result<Vec<Node>> {
        let Value::Object(object) = value else {
            return Err(Error::invalid(format!("a filter is a JSON object, unlike {value}")));
        };
        if depth > DEPTH_MAX {
            return Err(Error::invalid(format!("a filter is at most {DEPTH_MAX} levels deep")));
        }
        let mut nodes = Vec::new();
        for (name, value) in object {
            match name.as_str() {
                "$and" => nodes.push(Node::And(self.list(name, value, depth)?)),
                "$or" => nodes.push(Node::Or(self.list(name, value, depth)?)),
                "$nor" => nodes.push(Node::Nor(self.list(name, value, depth)?)),
                name if name.starts_with('$') => {
                    let message = format!("'{name}' stands where a field is named: use $and, $or or $nor there");
                    return Err(Error::invalid(message));
                }
                name => self.field(name, value, &mut nodes)?,
            }
        }
        Ok(nodes)
    }

    fn list(&mut self, name: &str, value: &Value, depth: usize) -> Result<Vec<Node>> {
        let Value::Array(filters) = value else {
            return Err(Error::invalid(format!("'{name}' has a list of filters, unlike {value}")));
        };
        if filters.is_empty() {
            return Err(Error::invalid(format!("'{name}' has an empty list")));
        }
        filters.iter().map(|filter| Ok(Node::And(self.object(filter, depth + 1)?))).collect()
    }

    fn field(&mut self, path: &str, value: &Value, nodes: &mut Vec<Node>) -> Result<()> {
        let known = |field: &str| if field.ends_with('.') { path.starts_with(field) } else { path == field };
        if !self.fields.iter().any(|field| known(field)) {
            let message = format!("there is no field '{path}' to filter by: use one of {}", self.fields.join(", "));
            return Err(Error::invalid(message));
        }
        let tests = match value {
            Value::Object(operators) if operators.keys().any(|name| name.starts_with('$')) => {
                operators.iter().map(|(name, value)| test(name, value)).collect::<Result<Vec<_>>>()?
            }
            value => vec![Test::Eq(value.clone())],
        };
        self.conditions += tests.len();
        if self.conditions > CONDITIONS_MAX {
            return Err(Error::invalid(format!("a filter has at most {CONDITIONS_MAX} conditions")));
        }
        nodes.extend(tests.into_iter().map(|test| Node::Field { path: path.to_owned(), test }));
        Ok(())
    }
}

fn test(name: &str, value: &Value) -> Result<Test> {
    let values = || match value {
        Value::Array(values) if values.len() <= VALUES_MAX => Ok(values.clone()),
        _ => Err(Error::invalid(format!("'{name}' has a list of at most {VALUES_MAX} values"))),
    };
    let ordered = |than: Than| match value {
        Value::Number(_) | Value::String(_) => Ok(Test::Order(than, value.clone())),
        _ => Err(Error::invalid(format!("'{name}' compares with a number or a string, unlike {value}"))),
    };
    Ok(match name {
        "$eq" => Test::Eq(value.clone()),
        "$ne" => Test::Ne(value.clone()),
        "$in" => Test::In(values()?),
        "$nin" => Test::Nin(values()?),
        "$gt" => ordered(Than::Greater)?,
        "$gte" => ordered(Than::GreaterOrEqual)?,
        "$lt" => ordered(Than::Less)?,
        "$lte" => ordered(Than::LessOrEqual)?,
        "$contains" => Test::Contains(value.clone()),
        "$exists" => match value {
            Value::Bool(wanted) => Test::Exists(*wanted),
            _ => return Err(Error::invalid(format!("'$exists' is true or false, unlike {value}"))),
        },
        "$autocomplete" => match value {
            Value::String(start) if !start.is_empty() => Test::Autocomplete(start.to_lowercase()),
            _ => return Err(Error::invalid(format!("'$autocomplete' has the start of a word, unlike {value}"))),
        },
        _ => {
            let known = "$eq $ne $in $nin $gt $gte $lt $lte $exists $contains $autocomplete";
            return Err(Error::invalid(format!("there is no operator '{name}': use one of {known}")));
        }
    })
}

impl Node {
    fn matches(&self, document: &Value) -> bool {
        match self {
            Self::And(nodes) => nodes.iter().all(|node| node.matches(document)),
            Self::Or(nodes) => nodes.iter().any(|node| node.matches(document)),
            Self::Nor(nodes) => !nodes.iter().any(|node| node.matches(document)),
            Self::Field { path, test } => test.accepts(find(document, path)),
        }
    }
}

impl Test {
    fn accepts(&self, found: Option<&Value>) -> bool {
        match self {
            Self::Eq(value) => found.is_some_and(|found| same(found, value)),
            Self::Ne(value) => !found.is_some_and(|found| same(found, value)),
            Self::In(values) => found.is_some_and(|found| values.iter().any(|value| same(found, value))),
            Self::Nin(values) => !found.is_some_and(|found| values.iter().any(|value| same(found, value))),
            Self::Order(than, value) => {
                found.and_then(|found| compare(found, value)).is_some_and(|order| than.holds(order))
            }
            Self::Exists(wanted) => found.is_some() == *wanted,
            Self::Contains(value) => match (found, value) {
                (Some(Value::Array(items)), value) => items.iter().any(|item| same(item, value)),
                (Some(Value::String(text)), Value::String(part)) => text.contains(part.as_str()),
                _ => false,
            },
            Self::Autocomplete(start) => match found {
                Some(Value::String(text)) => has_word_with(text, start),
                _ => false,
            },
        }
    }
}

fn has_word_with(text: &str, start: &str) -> bool {
    let text = text.to_lowercase();
    text.starts_with(start) || text.split(|c: char| !c.is_alphanumeric()).any(|word| word.starts_with(start))
}

fn find<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(document, |value, name| value.get(name)).filter(|value| !value.is_null())
}

/// Equal, with numbers by what they are worth.
fn same(one: &Value, other: &Value) -> bool {
    one == other || (one.is_number() && other.is_number() && compare(one, other) == Some(Ordering::Equal))
}

/// Compares numbers with numbers and strings with strings; nothing else has an order.
pub(crate) fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests;
