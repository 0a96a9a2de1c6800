//! Setting and unsetting members of a JSON object by dotted names, such as `product.price`.
//!
//! Invariant: a change applies wholly or is refused; what lies on the way is made where it is missing, and never
//! replaced where it is something else than an object.

use keevo_core::{Error, Result};
use serde_json::{Map, Value};

/// The most parts of a dotted name.
const PARTS_MAX: usize = 16;

/// The parts of a dotted name, checked.
pub(crate) fn parts(name: &str) -> Result<Vec<&str>> {
    let parts: Vec<&str> = name.split('.').collect();
    if parts.len() > PARTS_MAX || parts.iter().any(|part| part.is_empty()) {
        return Err(Error::invalid(format!(
            "{name:?} is no name of a field: it has 1 to {PARTS_MAX} parts, none empty"
        )));
    }
    Ok(parts)
}

/// Sets a member.
pub(crate) fn set(object: &mut Map<String, Value>, name: &str, value: Value) -> Result<()> {
    let parts = parts(name)?;
    let Some((last, way)) = parts.split_last() else { return Ok(()) };
    let mut at = object;
    for part in way {
        let next = at.entry((*part).to_owned()).or_insert_with(|| Value::Object(Map::new()));
        at = next.as_object_mut().ok_or_else(|| not_an_object(name, part))?;
    }
    at.insert((*last).to_owned(), value);
    Ok(())
}

/// Takes a member away; one that is not there is no error.
pub(crate) fn unset(object: &mut Map<String, Value>, name: &str) -> Result<()> {
    let parts = parts(name)?;
    let Some((last, way)) = parts.split_last() else { return Ok(()) };
    let mut at = object;
    for part in way {
        match at.get_mut(*part) {
            None => return Ok(()),
            Some(next) => at = next.as_object_mut().ok_or_else(|| not_an_object(name, part))?,
        }
    }
    at.remove(*last);
    Ok(())
}

fn not_an_object(name: &str, part: &str) -> Error {
    Error::invalid(format!("{name:?} leads through {part}, which is no object"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_set_and_unset_on_their_way() {
        let Value::Object(mut object) = json!({ "a": { "b": 1, "c": [2] }, "d": "text" }) else { panic!("an object") };
        set(&mut object, "a.b", json!({ "x": 2 })).expect("set");
        set(&mut object, "n.e.w", json!(null)).expect("made on the way");
        unset(&mut object, "a.c").expect("unset");
        unset(&mut object, "nothing.here").expect("no error");
        assert_eq!(
            Value::Object(object.clone()),
            json!({ "a": { "b": { "x": 2 } }, "d": "text", "n": { "e": { "w": null } } })
        );
        set(&mut object, &["p"; 16].join("."), json!(1)).expect("the most parts");
        for bad in ["", ".", "a.", ".a", "a..b", "d.e", &["q"; 17].join("."), "n.e.w.x"] {
            assert!(set(&mut object, bad, json!(1)).is_err(), "{bad}");
        }
        assert!(unset(&mut object, "d.e").is_err());
    }
}
