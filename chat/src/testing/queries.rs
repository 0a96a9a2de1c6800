//! Cases about queries: what they find equals what a plain look at everything finds, page by page, at a bounded cost.

use keevo_core::{Engine, ErrorKind};

use super::{Bench, kind_of};
use crate::{ChannelFound, ChannelId, Chat, MessagesQuery, NewChannel, NewMember, NewMessage, NewUser, Page, Query};

fn ids(page: &Page<ChannelFound>) -> Vec<String> {
    page.items.iter().map(|one| one.channel.id.to_string()).collect()
}

async fn all_channels<E: Engine>(chat: &Chat<E>, query: Query) -> Vec<String> {
    let (mut found, mut next) = (Vec::new(), Some(query));
    while let Some(query) = next {
        let page = chat.query_channels(&query).await.expect("a page");
        found.extend(ids(&page));
        next = query.following(&page);
    }
    found
}

pub(super) async fn channels<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    for number in 0..25 {
        let id = ChannelId::new(if number % 2 == 0 { "team" } else { "messaging" }, &format!("c{number:02}"))
            .expect("a name");
        let custom = Some(format!(r#"{{"number":{number},"name":"Room {number}"}}"#));
        let members = vec![NewMember::new("ada")];
        let new = NewChannel { created_by: "ada".into(), custom, members, ..NewChannel::default() };
        chat.create_channel(&id, new).await.expect("created");
        let at = Some(1_000 + (number * 7) % 25);
        chat.send(&id, NewMessage { created_at_ms: at, ..NewMessage::new("ada", "x") }).await.expect("sent");
    }
    let mine = |more: &str| Query::new(format!(r#"{{"members":{{"$contains":"ada"}}{more}}}"#));
    assert_eq!(all_channels(chat, mine("").limit(4)).await.len(), 25, "each once, over seven pages");
    let teams = all_channels(chat, mine(r#","type":"team","custom.number":{"$gte":10}"#).limit(2)).await;
    assert_eq!(teams.first().map(String::as_str), Some("team:c10"));
    assert_eq!(teams.len(), 8);
    let newest = all_channels(chat, mine("").sorted("-last_message_at").limit(7)).await;
    let expected: Vec<String> = {
        let mut order: Vec<u64> = (0..25).collect();
        order.sort_by_key(|number| std::cmp::Reverse((number * 7) % 25));
        let name =
            |number: u64| format!("{}:c{number:02}", if number.is_multiple_of(2) { "team" } else { "messaging" });
        order.into_iter().map(name).collect()
    };
    assert_eq!(newest, expected);
    let named = Query::new(r#"{"cid":{"$in":["team:c02","team:c99","messaging:c01"]}}"#);
    assert_eq!(all_channels(chat, named).await, ["messaging:c01", "team:c02"]);
    let words = all_channels(chat, mine(r#","custom.name":{"$autocomplete":"room 1"}"#)).await;
    assert_eq!(words.len(), 11, "1 and 10 to 19");
    assert!(all_channels(chat, Query::new(r#"{"members":{"$contains":"eve"}}"#)).await.is_empty());
    chat.remove_member(&"team:c02".parse().expect("a name"), "ada").await.expect("removed");
    assert_eq!(all_channels(chat, mine("")).await.len(), 24);
    for bad in [
        Query::new("{}"),
        Query::new(r#"{"type":"team"}"#),
        Query::new(r#"{"$or":[{"members":{"$contains":"ada"}},{"type":"team"}]}"#),
        mine("").sorted("custom.number"),
        mine("").sorted("-cid"),
        mine("").limit(0),
        mine("").limit(301),
        Query { cursor: Some("nonsense".into()), ..mine("") },
        Query::new(r#"{"cid":"nonsense"}"#),
    ] {
        assert_eq!(kind_of(chat.query_channels(&bad).await), ErrorKind::Invalid, "{bad:?}");
    }
}

pub(super) async fn people<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let room = bench.channel("people", &[]).await;
    for number in 0..60 {
        let (id, team) = (format!("u{number:02}"), if number % 3 == 0 { "red" } else { "blue" });
        chat.put_user(NewUser::new(&id).in_team(team)).await.expect("put");
        let role = if number % 10 == 0 { "moderator" } else { "member" };
        chat.add_members(&room, vec![NewMember::new(&id).with_role(role)]).await.expect("added");
    }
    let (mut found, mut next) = (Vec::new(), Some(Query::new(r#"{"teams":{"$contains":"red"}}"#).limit(7)));
    while let Some(query) = next {
        let page = chat.query_users(&query).await.expect("a page");
        found.extend(page.items.iter().map(|user| user.id.clone()));
        next = query.following(&page);
    }
    let expected: Vec<String> = (0..60).step_by(3).map(|number| format!("u{number:02}")).collect();
    assert_eq!(found, expected, "in order, each once");
    let named = chat.query_users(&Query::new(r#"{"id":{"$in":["u03","nobody","u01"]}}"#)).await.expect("found");
    assert_eq!(named.items.iter().map(|user| user.id.as_str()).collect::<Vec<_>>(), ["u01", "u03"]);

    let (mut found, mut next) = (0, Some(Query::new(r#"{"role":"moderator"}"#).limit(2)));
    while let Some(query) = next {
        let page = chat.query_members(&room, &query).await.expect("a page");
        assert!(page.items.iter().all(|member| member.role == "moderator") && page.items.len() <= 2);
        found += page.items.len();
        next = query.following(&page);
    }
    assert_eq!(found, 6);
    let named = chat.query_members(&room, &Query::new(r#"{"user_id":"u07"}"#)).await.expect("found");
    assert_eq!(named.items.len(), 1);
    for bad in [Query::new(r#"{"shoe":1}"#), Query::new("{}").sorted("-id"), Query::new("{}").sorted("role")] {
        assert_eq!(kind_of(chat.query_users(&bad).await), ErrorKind::Invalid, "{bad:?}");
        assert_eq!(kind_of(chat.query_members(&room, &bad).await), ErrorKind::Invalid, "{bad:?}");
    }
}

pub(super) async fn messages<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let room = bench.channel("messages", &["ada", "bob"]).await;
    let texts = (0..1_200).map(|number| {
        let user = if number % 100 == 0 { "bob" } else { "ada" };
        NewMessage::new(user, format!("text {number}")).with_id(format!("m{number}"))
    });
    chat.send_many(&room, texts.collect()).await.expect("sent");
    chat.send(&room, NewMessage::new("bob", "in reply").reply_to("m0")).await.expect("sent");
    let asked = |query: Query| MessagesQuery { query, viewer: None };
    let (mut found, mut next, mut pages) = (Vec::new(), Some(Query::new(r#"{"user_id":"bob"}"#).limit(5)), 0);
    while let Some(query) = next {
        let page = chat.query_messages(&room, &asked(query.clone())).await.expect("a page");
        assert!(page.examined <= 1_000, "the cost is bounded");
        found.extend(page.items.iter().map(|message| message.text.clone()));
        next = query.following(&page);
        pages += 1;
    }
    let expected: Vec<String> = (0..12).rev().map(|number| format!("text {}", number * 100)).collect();
    assert_eq!((found, pages), (expected, 3));
    let none = chat.query_messages(&room, &asked(Query::new(r#"{"text":"nothing says this"}"#))).await.expect("a page");
    assert!(none.items.is_empty() && none.next.is_some() && none.examined == 1_000, "goes on behind what it looked at");
    let oldest = Query::new(r#"{"text":{"$autocomplete":"119"}}"#).sorted("sequence");
    let first = chat.query_messages(&room, &asked(oldest)).await.expect("a page");
    assert_eq!(first.items.first().map(|message| message.text.as_str()), Some("text 119"));
    let thread = chat.query_messages(&room, &asked(Query::new(r#"{"parent_id":"m0"}"#))).await.expect("a page");
    assert_eq!(thread.items.len(), 1);
    let bad = Query { cursor: Some("x".into()), ..Query::new("{}") };
    assert_eq!(kind_of(chat.query_messages(&room, &asked(bad)).await), ErrorKind::Invalid);
    let bad = Query::new(r#"{"parent_id":{"$in":["m0","m1"]}}"#);
    assert_eq!(kind_of(chat.query_messages(&room, &asked(bad)).await), ErrorKind::Invalid);
}
