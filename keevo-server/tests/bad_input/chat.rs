//! The chat service.

use bytes::Bytes;
use keevo_proto::chat::v1 as pb;
use keevo_proto::chat::v1::chat_client::ChatClient;
use tonic::transport::Channel;

use super::golden::Golden;
use super::wire::Wire;

type Client = ChatClient<Channel>;

pub(crate) async fn run(golden: &mut Golden, wire: &Wire) {
    let mut chat = ChatClient::new(wire.channel.clone());
    golden.section("other: chat");
    channels(golden, &mut chat).await;
    messages(golden, &mut chat).await;
    changes(golden, &mut chat).await;
    reads(golden, &mut chat).await;
    subscriptions(golden, &mut chat).await;
    golden.section("Oversized batches");
    sizes(golden, &mut chat).await;
}

fn create(id: &str) -> pb::CreateChannelRequest {
    let members = vec!["bob".to_owned()];
    pb::CreateChannelRequest { id: id.to_owned(), created_by: "alice".to_owned(), members, custom: String::new() }
}

fn send(id: &str, user: &str, text: &str) -> pb::SendMessageRequest {
    pb::SendMessageRequest {
        channel: "general".to_owned(),
        id: id.to_owned(),
        user: user.to_owned(),
        text: text.to_owned(),
        ..pb::SendMessageRequest::default()
    }
}

async fn channels(golden: &mut Golden, chat: &mut Client) {
    golden.call("a channel", chat.create_channel(create("general"))).await;
    golden.call("the same again", chat.create_channel(create("general"))).await;
    for (case, id) in [
        ("no bytes", String::new()),
        ("128 bytes", "i".repeat(128)),
        ("129 bytes", "i".repeat(129)),
        ("a line break", "a\nb".to_owned()),
        ("a type with a space", "my type:a".to_owned()),
        ("a type of 65 bytes", format!("{}:a", "t".repeat(65))),
    ] {
        golden.call(&format!("a channel id: {case}"), chat.create_channel(create(&id))).await;
    }
    let by = |created_by: &str| pb::CreateChannelRequest { created_by: created_by.to_owned(), ..create("other") };
    golden.call("a channel that nobody creates", chat.create_channel(by(""))).await;
    let others = pb::CreateChannelRequest { created_by: "mallory".to_owned(), ..create("general") };
    golden.call("a channel that exists, created by another", chat.create_channel(others)).await;
    let custom = |custom: &str| pb::CreateChannelRequest { custom: custom.to_owned(), ..create("custom") };
    golden.call("custom data that is no JSON", chat.create_channel(custom("{"))).await;
    golden.call("custom data that is a list", chat.create_channel(custom("[]"))).await;
    let members = |channel: &str, users: &[&str]| pb::AddMembersRequest {
        channel: channel.to_owned(),
        users: users.iter().map(|user| (*user).to_owned()).collect(),
    };
    golden.call("members of a channel that does not exist", chat.add_members(members("nowhere", &["eve"]))).await;
    golden.call("a member without a name", chat.add_members(members("general", &[""]))).await;
}

async fn messages(golden: &mut Golden, chat: &mut Client) {
    golden.call("a message", chat.send_message(send("m1", "alice", "hello"))).await;
    golden.call("the same again", chat.send_message(send("m1", "alice", "hello"))).await;
    golden.call("its id with another text", chat.send_message(send("m1", "alice", "bye"))).await;
    golden.call("a message without a text", chat.send_message(send("m2", "alice", ""))).await;
    golden.call("a message from nobody", chat.send_message(send("m2", "", "hello"))).await;
    golden.call("a message from one who is no member", chat.send_message(send("m2", "eve", "hello"))).await;
    golden.call("a message id of 129 bytes", chat.send_message(send(&"m".repeat(129), "alice", "hello"))).await;
    let nowhere = pb::SendMessageRequest { channel: "nowhere".to_owned(), ..send("m2", "alice", "hello") };
    golden.call("a message to a channel that does not exist", chat.send_message(nowhere)).await;
    let reply = |parent: &str| pb::SendMessageRequest { parent: parent.to_owned(), ..send("r1", "bob", "hi") };
    golden.call("a reply to a message that does not exist", chat.send_message(reply("m9"))).await;
    golden.call("a reply", chat.send_message(reply("m1"))).await;
    let custom = pb::SendMessageRequest { custom: "7".to_owned(), ..send("m2", "alice", "hello") };
    golden.call("custom data that is a number", chat.send_message(custom)).await;
}

async fn changes(golden: &mut Golden, chat: &mut Client) {
    let edit = |id: &str, user: &str, text: &str| pb::EditMessageRequest {
        channel: "general".to_owned(),
        id: id.to_owned(),
        user: user.to_owned(),
        text: text.to_owned(),
        custom: None,
    };
    golden.call("an edit of another's message", chat.edit_message(edit("m1", "bob", "mine"))).await;
    golden.call("an edit of a message that does not exist", chat.edit_message(edit("m9", "alice", "x"))).await;
    golden.call("an edit that leaves nothing", chat.edit_message(edit("m1", "alice", ""))).await;
    let delete = |id: &str, user: &str| pb::DeleteMessageRequest {
        channel: "general".to_owned(),
        id: id.to_owned(),
        user: user.to_owned(),
    };
    golden.call("the deletion of another's message", chat.delete_message(delete("m1", "bob"))).await;
    golden.call("the deletion of a message that does not exist", chat.delete_message(delete("m9", "alice"))).await;
    let read = |channel: &str, user: &str| pb::MarkReadRequest {
        channel: channel.to_owned(),
        user: user.to_owned(),
        sequence: Some(u64::MAX),
    };
    golden.call("a read position beyond the end", chat.mark_read(read("general", "bob"))).await;
    golden.call("a read position of one who is no member", chat.mark_read(read("general", "eve"))).await;
    golden.call("a read position nowhere", chat.mark_read(read("nowhere", "bob"))).await;
}

async fn reads(golden: &mut Golden, chat: &mut Client) {
    let history = |channel: &str, limit| pb::HistoryRequest {
        channel: channel.to_owned(),
        limit,
        ..pb::HistoryRequest::default()
    };
    for limit in [0, 1_000, 1_001] {
        let answer = chat.history(history("general", limit));
        golden.call(&format!("a history of {limit}, where 0 means 25"), answer).await;
    }
    golden.call("the history of a channel that does not exist", chat.history(history("nowhere", 1))).await;
    let thread = |parent: &str| pb::HistoryRequest { parent: parent.to_owned(), ..history("general", 1) };
    golden.call("the thread of a message that does not exist", chat.history(thread("m9"))).await;
    golden.call("the thread of a reply", chat.history(thread("r1"))).await;
    let message = pb::GetMessageRequest { channel: "general".to_owned(), id: "m9".to_owned() };
    golden.call("a message that does not exist", chat.get_message(message)).await;
    let unread = |channel: &str, user: &str| pb::UnreadRequest { channel: channel.to_owned(), user: user.to_owned() };
    golden.call("the unread count of one who is no member", chat.unread(unread("general", "eve"))).await;
    golden.call("the unread count nowhere", chat.unread(unread("nowhere", "bob"))).await;
    let list = |user: &str, limit, after| pb::ListChannelsRequest { user: user.to_owned(), limit, after };
    golden.call("the channels of nobody", chat.list_channels(list("", 1, Bytes::new()))).await;
    golden.call("a list of 1,001 channels", chat.list_channels(list("bob", 1_001, Bytes::new()))).await;
    golden.call("a list after noise", chat.list_channels(list("bob", 1, Bytes::from_static(&[0xff; 9])))).await;
}

async fn subscriptions(golden: &mut Golden, chat: &mut Client) {
    let listen = |user: &str, resume: &'static [u8]| pb::SubscribeRequest {
        channel: "general".to_owned(),
        user: user.to_owned(),
        resume: Bytes::from_static(resume),
    };
    golden.call("a subscription", chat.subscribe(listen("bob", b""))).await;
    golden.call("a subscription of one who is no member", chat.subscribe(listen("eve", b""))).await;
    golden.call("a subscription resumed from noise", chat.subscribe(listen("bob", b"\x01\xff\xff"))).await;
    golden.section("A newer format");
    golden.call("a subscription resumed from a newer version's token", chat.subscribe(listen("bob", b"\x02x"))).await;
}

async fn sizes(golden: &mut Golden, chat: &mut Client) {
    for length in [64 << 10, (64 << 10) + 1] {
        let id = format!("big{length}");
        let answer = chat.send_message(send(&id, "alice", &"x".repeat(length)));
        golden.call(&format!("a message of {length} bytes"), answer).await;
    }
    let custom = format!("{{\"a\":\"{}\"}}", "x".repeat(64 << 10));
    let request = pb::SendMessageRequest { custom, ..send("m3", "alice", "hello") };
    golden.call("custom data of more than 64 KiB", chat.send_message(request)).await;
    for count in [100, 101] {
        let users = (0..count).map(|one| format!("user{one}")).collect();
        let request = pb::AddMembersRequest { channel: "general".to_owned(), users };
        golden.call(&format!("{count} members in one request"), chat.add_members(request)).await;
    }
    let members = (0..1_001).map(|one| format!("user{one}")).collect();
    let request = pb::CreateChannelRequest { members, ..create("crowd") };
    golden.call("a channel with 1,001 first members and its creator", chat.create_channel(request)).await;
}
