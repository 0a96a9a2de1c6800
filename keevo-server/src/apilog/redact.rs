//! Messages of gRPC without the secrets in them.
//!
//! Invariant: a field whose name says that it holds a secret is cleared, however deep it lies. Types that have no such field
//! are known by their descriptors, and their messages are not looked at.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use keevo_proto::{FILE_DESCRIPTOR_SET, Message};
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, Value};

/// What the names of fields that hold secrets contain.
const SECRETS: [&str; 4] = ["secret", "password", "token", "credential"];
/// How deep messages are looked into.
const DEPTH_MAX: usize = 16;

/// The requests that may hold secrets, by method.
static SUSPECTS: LazyLock<BTreeMap<String, MessageDescriptor>> = LazyLock::new(|| {
    let Ok(pool) = DescriptorPool::decode(FILE_DESCRIPTOR_SET) else { return BTreeMap::new() };
    let mut suspects = BTreeMap::new();
    for service in pool.services() {
        for method in service.methods().filter(|method| is_suspect(&method.input(), DEPTH_MAX)) {
            suspects.insert(format!("{}/{}", service.full_name(), method.name()), method.input());
        }
    }
    suspects
});

fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|word| name.contains(word))
}

fn is_suspect(message: &MessageDescriptor, depth: usize) -> bool {
    depth > 0
        && message.fields().any(|field| {
            is_secret(field.name()) || matches!(field.kind(), Kind::Message(inner) if is_suspect(&inner, depth - 1))
        })
}

/// The message of a method without secrets, and whether there were any; `None` where it cannot be read, and so must not be
/// kept.
pub(super) fn clean(method: &str, message: Bytes) -> Option<(Bytes, bool)> {
    let Some(input) = SUSPECTS.get(method) else { return Some((message, false)) };
    let mut dynamic = DynamicMessage::decode(input.clone(), message.clone()).ok()?;
    if !hide(&mut dynamic, DEPTH_MAX) {
        return Some((message, false));
    }
    Some((dynamic.encode_to_vec().into(), true))
}

fn hide(message: &mut DynamicMessage, depth: usize) -> bool {
    let secrets: Vec<_> = message.fields().map(|(field, _)| field).filter(|field| is_secret(field.name())).collect();
    for field in &secrets {
        message.clear_field(field);
    }
    let inner = message.fields_mut().map(|(_, value)| depth > 0 && hide_value(value, depth - 1));
    inner.fold(!secrets.is_empty(), |hidden, one| one || hidden)
}

fn hide_value(value: &mut Value, depth: usize) -> bool {
    match value {
        Value::Message(message) => hide(message, depth),
        // Each of them, also behind the first that has some.
        Value::List(items) => items.iter_mut().filter_map(|item| hide_value(item, depth).then_some(())).count() > 0,
        Value::Map(fields) => {
            fields.values_mut().filter_map(|field| hide_value(field, depth).then_some(())).count() > 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use keevo_proto::admin::v1 as pb;

    use super::*;

    #[test]
    fn secrets_are_cleared_and_the_rest_is_kept() {
        let create = pb::CreateAppRequest { name: "shop".into(), key: "shop-1".into(), secret: "hush".into() };
        let (cleaned, redacted) =
            clean("keevo.admin.v1.Apps/CreateApp", create.encode_to_vec().into()).expect("it decodes");
        let expected = pb::CreateAppRequest { secret: String::new(), ..create };
        assert_eq!((pb::CreateAppRequest::decode(cleaned).expect("a request"), redacted), (expected.clone(), true));
        let again = clean("keevo.admin.v1.Apps/CreateApp", expected.encode_to_vec().into()).expect("it decodes");
        assert!(!again.1);
        assert!(clean("keevo.admin.v1.Apps/CreateApp", Bytes::from_static(b"\xff\xff")).is_none());
        let other = Bytes::from_static(b"\xff\xff");
        assert_eq!(clean("keevo.feeds.v1.Feeds/Follow", other.clone()), Some((other, false)), "it has no secrets");
    }
}
