//! Calls as lines of JSON.
//!
//! Invariant: a call that is written and read again is the same, and so is the cluster that it comes from.

use bytes::Bytes;
use keevo_core::Error;
use keevo_proto::admin::v1 as pb;
use serde_json::{Map, Value, json};

use super::source::Found;
use crate::failure::Failure;
use crate::text::{hex, parse_hex, put_bytes};

/// A call as a JSON object.
pub(crate) fn json_of(found: &Found) -> Map<String, Value> {
    let Found { place, call, failed } = found;
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("time", Value::from(super::source::when(place)));
    put("hlc", json!(place.hlc));
    put("shard", json!(place.shard));
    put("index", json!(place.index));
    put("node", json!(call.node));
    put("stamp_us", json!(call.stamp_us));
    put("at_us", json!(call.at_us));
    put("seed", json!(call.seed));
    put("app", json!(call.app));
    put("door", json!(call.door));
    put("principal", json!(call.principal));
    put("method", json!(call.method));
    put("keyspace", json!(call.keyspace));
    put("clock_ms", json!(call.clock_ms));
    put("redacted", json!(call.redacted));
    put("replayed", json!(call.replayed));
    put("erased", json!(call.erased));
    put("partial", json!(call.partial));
    put("failed", json!(failed));
    put_bytes(&mut object, "request", &call.request);
    object
}

/// A call as a line, with the cluster that recorded it.
pub(super) fn line_of(cluster: &Bytes, found: &Found) -> String {
    let mut object = json_of(found);
    object.insert("cluster".to_owned(), Value::from(hex(cluster)));
    Value::Object(object).to_string()
}

/// The cluster that recorded the call of a line; empty where the line does not say.
pub(super) fn cluster_of(line: &str) -> Bytes {
    let value: Option<Value> = serde_json::from_str(line).ok();
    let cluster = value.as_ref().and_then(|value| value.get("cluster")).and_then(Value::as_str);
    cluster.and_then(parse_hex).unwrap_or_default()
}

/// The call of a line; `number` is the line's.
pub(super) fn call_of(line: &str, number: usize) -> Result<Found, Failure> {
    let wrong = |what: &str| {
        let error = Error::invalid(format!("line {number} is no exported call: {what}"));
        Failure::with_advice(error, "Write the file with `keevo-cli apilog export`.")
    };
    let value: Value = serde_json::from_str(line).map_err(|error| wrong(&error.to_string()))?;
    let count = |name: &str| value.get(name).and_then(Value::as_u64).ok_or_else(|| wrong(name));
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| wrong(name));
    let truth = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
    let app = match value.get("app").and_then(Value::as_u64) {
        Some(app) => Some(u32::try_from(app).map_err(|_too_large| wrong("app"))?),
        None => None,
    };
    let request = text("request")?;
    let request = match value.get("request_encoding") {
        Some(_hex) => parse_hex(&request).ok_or_else(|| wrong("request"))?,
        None => Bytes::from(request),
    };
    let call = pb::ApiCall {
        node: count("node")?,
        stamp_us: count("stamp_us")?,
        at_us: count("at_us")?,
        seed: count("seed")?,
        app,
        door: text("door")?,
        principal: text("principal")?,
        method: text("method")?,
        request,
        redacted: truth("redacted"),
        attempt: 0,
        partial: truth("partial"),
        keyspace: text("keyspace")?,
        replayed: truth("replayed"),
        clock_ms: count("clock_ms")?,
        erased: truth("erased"),
    };
    let place = pb::LogPlace { hlc: count("hlc")?, shard: count("shard")?, index: count("index")? };
    Ok(Found { place, call, failed: value.get("failed").and_then(Value::as_str).map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_survives_being_written() {
        for (app, request, failed) in [
            (Some(3), Bytes::from_static(b"{\"a\":1}"), None),
            (None, Bytes::from_static(b"\xff\x00"), Some("CONFLICT".to_owned())),
        ] {
            let call = pb::ApiCall {
                node: u64::MAX,
                stamp_us: 7,
                at_us: 8,
                seed: u64::MAX - 1,
                app,
                door: "grpc".into(),
                principal: "nobody".into(),
                method: "a.B/C".into(),
                request,
                partial: true,
                keyspace: "orders".into(),
                clock_ms: 9,
                erased: true,
                ..pb::ApiCall::default()
            };
            let found = Found { place: pb::LogPlace { hlc: 1 << 60, shard: 2, index: 3 }, call, failed };
            let cluster = Bytes::from_static(&[0x0c; 16]);
            let line = line_of(&cluster, &found);
            let again = call_of(&line, 1).expect("a call");
            assert_eq!(cluster_of(&line), cluster);
            assert_eq!((again.place, again.call, again.failed), (found.place, found.call, found.failed));
        }
        assert!(cluster_of("{}").is_empty() && cluster_of("x").is_empty());
        assert!(call_of("{}", 1).is_err() && call_of("x", 1).is_err());
    }
}
