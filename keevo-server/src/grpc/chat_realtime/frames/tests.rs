//! Every frame of the protocol as a message, and every message of a client as a frame.

use super::*;

fn request(id: &str, request: Option<Said>) -> Value {
    let text = said(pb::ConverseRequest { id: id.to_owned(), request }, "key", "jwt");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn what_a_client_says_is_a_frame() {
    let seen = vec![pb::converse_request::Seen { channel: "team:a".into(), version: 12, index: 3 }];
    let hello = pb::converse_request::Hello { resume: "r".into(), seen, invisible: true };
    let frame = json!({
        "type": "hello", "id": "1", "api_key": "key", "token": "jwt", "resume": "r", "seen": { "team:a": [12, 3] },
        "invisible": true,
    });
    assert_eq!(request("1", Some(Said::Hello(hello))), frame);
    let wanted =
        |channel: &str, resume: &str| pb::converse_request::Wanted { channel: channel.into(), resume: resume.into() };
    let subscribe = pb::converse_request::Subscribe { channels: vec![wanted("team:a", ""), wanted("team:b", "r")] };
    let channels = json!([{ "cid": "team:a", "resume": null }, { "cid": "team:b", "resume": "r" }]);
    assert_eq!(
        request("", Some(Said::Subscribe(subscribe))),
        json!({ "type": "subscribe", "id": null, "channels": channels })
    );
    let unsubscribe = pb::converse_request::Unsubscribe { channels: vec!["team:a".into()] };
    assert_eq!(
        request("2", Some(Said::Unsubscribe(unsubscribe))),
        json!({ "type": "unsubscribe", "id": "2", "channels": ["team:a"] })
    );
    let typing = pb::converse_request::Typing { channel: "team:a".into(), parent: "m".into(), typing: true };
    assert_eq!(
        request("", Some(Said::Typing(typing))),
        json!({ "type": "typing", "id": null, "cid": "team:a", "parent_id": "m", "typing": true })
    );
    let renew = pb::converse_request::Renew { token: "new".into() };
    assert_eq!(request("3", Some(Said::Renew(renew))), json!({ "type": "token", "id": "3", "token": "new" }));
    assert_eq!(request("4", Some(Said::Ping(pb::converse_request::Ping {}))), json!({ "type": "ping", "id": "4" }));
    assert_eq!(request("5", None), json!({ "type": "", "id": "5" }), "of a newer version");
}

fn response(frame: &Value) -> pb::ConverseResponse {
    told(frame.to_string()).expect("a message")
}

#[test]
fn what_a_server_says_is_a_message() {
    let refusal = json!({ "code": 17, "detail": "no", "reason": "banned", "retry_after_ms": 9, "status_code": 403 });
    let refused = told::Refusal { code: 17, message: "no".into(), reason: "banned".into(), retry_after_ms: Some(9) };
    let welcome = response(&json!({
        "type": "welcome", "id": "1", "connection_id": "c", "user_id": "ann", "heartbeat_ms": 25_000, "time": 7,
        "limits": { "channels": 200, "frame_bytes": 1, "sockets": 20 },
        "channels": [{ "cid": "team:a", "status": "ok", "error": null }, { "cid": "team:b", "status": "reload", "error": null },
            { "cid": "team:c", "status": "error", "error": refusal }],
        "resume": "r",
    }));
    let status = |channel: &str, status| told::Status { channel: channel.into(), status: Some(status) };
    let channels = vec![
        status("team:a", told::status::Status::Added(told::Added {})),
        status("team:b", told::status::Status::Reload(told::ReadFirst {})),
        status("team:c", told::status::Status::Refused(refused.clone())),
    ];
    let expected = told::Welcome {
        connection: "c".into(),
        user: "ann".into(),
        heartbeat_ms: 25_000,
        time_ms: 7,
        channels_max: 200,
        channels,
    };
    assert_eq!((welcome.id.as_str(), welcome.resume.as_str()), ("1", "r"));
    assert_eq!(welcome.response, Some(Told::Welcome(expected)));
    let frame = json!({ "type": "message.new", "cid": "team:a", "version": 5, "index": 1, "message": { "id": "m" } });
    let event = told::Event {
        r#type: "message.new".into(),
        channel: "team:a".into(),
        version: 5,
        index: 1,
        json: frame.to_string(),
    };
    assert_eq!(response(&frame).response, Some(Told::Event(event)));
    let frame = json!({
        "type": "channel.presence", "cid": "team:a", "joined": ["ann"], "left": ["bob"], "watchers": 1,
        "typing": [{ "user_id": "ann", "parent_id": null }],
    });
    let typing = vec![told::Typist { user: "ann".into(), parent: String::new() }];
    let presence = told::Presence {
        channel: "team:a".into(),
        joined: vec!["ann".into()],
        left: vec!["bob".into()],
        watchers: 1,
        typing,
    };
    assert_eq!(response(&frame).response, Some(Told::Presence(presence)));
    let frame = json!({ "type": "user.channel_added", "cid": "team:a", "role": "member" });
    let user = told::UserEvent { r#type: "user.channel_added".into(), json: frame.to_string() };
    assert_eq!(response(&frame).response, Some(Told::User(user)));
    let (channel, reason) = (String::from("team:a"), String::from("why"));
    for (frame, expected) in [
        (json!({ "type": "error", "id": null, "error": refusal }), Told::Refused(refused)),
        (json!({ "type": "pong", "id": "2", "time": 7 }), Told::Pong(told::Pong { time_ms: 7 })),
        (json!({ "type": "ok", "id": "2" }), Told::Renewed(told::Renewed {})),
        (json!({ "type": "resume", "resume": "r" }), Told::Token(told::NewToken {})),
        (json!({ "type": "heartbeat" }), Told::Heartbeat(told::Heartbeat {})),
        (json!({ "type": "unsubscribed", "id": "3", "resume": "r" }), Told::Unsubscribed(told::Unsubscribed {})),
        (
            json!({ "type": "subscribed", "id": "3", "channels": [], "resume": "r" }),
            Told::Subscribed(told::Subscribed { channels: Vec::new() }),
        ),
        (
            json!({ "type": "channel.reload", "cid": channel, "reason": reason }),
            Told::Reload(told::Reload { channel: channel.clone(), reason: reason.clone() }),
        ),
        (
            json!({ "type": "channel.removed", "cid": channel, "reason": reason }),
            Told::Removed(told::Removed { channel: channel.clone(), reason: reason.clone() }),
        ),
    ] {
        assert_eq!(response(&frame).response, Some(expected), "{frame}");
    }
    for fault in ["", "{}", "[]", r#"{"type": "welcome"}"#, r#"{"type": "pong"}"#] {
        assert_eq!(told(fault.to_owned()).expect_err(fault).kind(), ErrorKind::Io);
    }
}
