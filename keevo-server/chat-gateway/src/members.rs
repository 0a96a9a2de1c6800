//! Lists of members in bodies: user ids, or objects with roles, grants and custom data.

use std::collections::BTreeSet;

use keevo_chat::{Capability, NewMember};
use serde_json::Value;

use crate::error::{Answered, Refusal};
use crate::field::{Field, Kind, check_object, may, must};

/// The fields of a member that is an object.
pub(crate) const FIELDS: &[Field] =
    &[must("user_id", Kind::Text), may("role", Kind::Text), may("grants", Kind::Texts), may("custom", Kind::Object)];

/// The members of a list.
pub(crate) fn read(list: &[Value]) -> Answered<Vec<NewMember>> {
    list.iter().map(one).collect()
}

fn one(value: &Value) -> Answered<NewMember> {
    let object = match value {
        Value::String(user) => return Ok(NewMember::new(user)),
        Value::Object(object) => object,
        _ => return Err(Refusal::input("a member is a user id, or an object with user_id")),
    };
    check_object(object, FIELDS)?;
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let mut member = NewMember::new(text("user_id").unwrap_or_default());
    if let Some(role) = text("role") {
        role.clone_into(&mut member.role);
    }
    if let Some(Value::Array(grants)) = object.get("grants") {
        member.grants = grants.iter().filter_map(Value::as_str).map(capability).collect::<Answered<BTreeSet<_>>>()?;
    }
    member.custom = object.get("custom").filter(|custom| !custom.is_null()).map(Value::to_string);
    Ok(member)
}

fn capability(name: &str) -> Answered<Capability> {
    let known = || {
        let all: Vec<&str> = Capability::all().map(Capability::name).collect();
        Refusal::field("grants", format!("there is no capability {name:?}: use {}", all.join(", ")))
    };
    Capability::from_name(name).ok_or_else(known)
}

/// Whether members get more than the role of members: that takes the right to change roles.
pub(crate) fn are_special(members: &[NewMember]) -> bool {
    members.iter().any(|one| one.role != "member" || !one.grants.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_ids_or_objects() {
        let list = [json!("ann"), json!({ "user_id": "bob", "role": "moderator", "grants": ["ban"], "custom": {} })];
        let members = read(&list).expect("members");
        let [ann, bob] = members.as_slice() else { panic!("{members:?}") };
        assert_eq!((ann.role.as_str(), bob.role.as_str(), bob.custom.as_deref()), ("member", "moderator", Some("{}")));
        assert!(bob.grants.contains(&Capability::Ban) && are_special(&members) && !are_special(&members[..1]));
        for bad in [
            json!(7),
            json!({}),
            json!({ "user_id": "x", "admin": true }),
            json!({ "user_id": "x", "grants": ["fly"] }),
        ] {
            assert_eq!(read(std::slice::from_ref(&bad)).expect_err("refused").code(), 4, "{bad}");
        }
    }
}
