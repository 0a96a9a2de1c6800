//! Requests as JSON, for the audit log, without the secrets in them.
//!
//! Invariant: what cannot be decoded is not shown at all.

use std::sync::LazyLock;

use keevo_proto::FILE_DESCRIPTOR_SET;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Value, json};

use super::audit::hash;

/// What the names of fields that hold secrets contain.
const SECRETS: [&str; 4] = ["secret", "password", "token", "credential"];

static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());

/// The request of a method (`package.Service/Method`) whose gRPC frame this is.
pub(super) fn request(method: &str, frame: &[u8]) -> Value {
    decoded(method, frame).unwrap_or_else(|| json!({ "undecodable_bytes": frame.len(), "sha256": hash(frame) }))
}

/// Whether the body of a call is one whole message, or none: a flag byte, a length, and as many bytes. What follows the
/// first message of a unary call would be seen by nobody but the log.
pub(super) fn is_one_frame(body: &[u8]) -> bool {
    let Some((head, message)) = body.split_first_chunk::<5>() else { return body.is_empty() };
    let [_flag, length @ ..] = *head;
    usize::try_from(u32::from_be_bytes(length)).is_ok_and(|length| length == message.len())
}

fn decoded(method: &str, frame: &[u8]) -> Option<Value> {
    let (service, name) = method.split_once('/')?;
    let service = POOL.as_ref()?.get_service_by_name(service)?;
    let input = service.methods().find(|one| one.name() == name)?.input();
    // A flag byte, 0 = not compressed, and the length.
    let (head, body) = frame.split_first_chunk::<5>()?;
    let (flag, length) = head.split_first()?;
    let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
    if *flag != 0 || length != body.len() {
        return None;
    }
    let message = DynamicMessage::decode(input, body).ok()?;
    let options =
        SerializeOptions::new().skip_default_fields(true).use_proto_field_name(true).stringify_64_bit_integers(false);
    let mut value = message.serialize_with_options(serde_json::value::Serializer, &options).ok()?;
    hide(&mut value);
    Some(value)
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if SECRETS.iter().any(|word| name.to_lowercase().contains(word)) {
                    *field = Value::from("[redacted]");
                } else {
                    hide(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_proto::Message;
    use keevo_proto::admin::v1 as pb;

    fn frame(message: &impl Message) -> Vec<u8> {
        let body = message.encode_to_vec();
        let length = u32::try_from(body.len()).expect("small").to_be_bytes();
        [&[0][..], &length, &body].concat()
    }

    #[test]
    fn secrets_do_not_reach_the_log() {
        let create = pb::CreateAppRequest { name: "shop".into(), key: "shop-1".into(), secret: "hush-hush".into() };
        let shown = request("keevo.admin.v1.Apps/CreateApp", &frame(&create));
        assert_eq!(shown, json!({ "name": "shop", "key": "shop-1", "secret": "[redacted]" }));
        let webhook = Some(pb::AppWebhook { url: "https://x".into(), groups: vec!["a".into()] });
        let set = pb::SetAppWebhookRequest { id: 3, webhook, secret: "hush-hush".into() };
        let shown = request("keevo.admin.v1.Apps/SetAppWebhook", &frame(&set)).to_string();
        assert!(shown.contains("https://x") && !shown.contains("hush"), "{shown}");
        let mut nested = json!({ "a": [{ "apiToken": "hush", "b": { "Password": "hush" } }], "secretary": 1 });
        hide(&mut nested);
        assert!(!nested.to_string().contains("hush"), "{nested}");
    }

    #[test]
    fn what_cannot_be_decoded_is_not_shown() {
        let remove = frame(&pb::RemoveRequest { node_id: 4 });
        assert_eq!(request("keevo.admin.v1.Admin/Remove", &remove), json!({ "node_id": 4 }));
        let none = |frame: &[u8]| json!({ "undecodable_bytes": frame.len(), "sha256": hash(frame) });
        for bad in [&b""[..], b"\0\0", b"\x01\0\0\0\0", b"\0\0\0\0\x09ab", b"\0\0\0\0\x02\xff\xff"] {
            assert_eq!(request("keevo.admin.v1.Admin/Remove", bad), none(bad));
        }
        assert_eq!(request("keevo.admin.v1.Admin/None", &remove), none(&remove));
        assert_eq!(request("nothing", &remove), none(&remove));
    }

    #[test]
    fn a_call_has_one_frame() {
        let remove = frame(&pb::RemoveRequest { node_id: 4 });
        assert!(is_one_frame(&remove) && is_one_frame(b"") && is_one_frame(b"\0\0\0\0\0"));
        for more in [&b"\0\0\0\0\0"[..], b"\0", &remove] {
            assert!(!is_one_frame(&[&remove, more].concat()));
        }
        assert!(!is_one_frame(&remove[..remove.len() - 1]) && !is_one_frame(b"\0\0"));
    }
}
