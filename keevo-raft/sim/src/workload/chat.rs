//! Chat: members send, reply, edit, delete, react and read through the nodes' own chat, whose workers finish what
//! faults cut off.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use keevo_chat::{
    ChannelId, Chat, Message, NewChannel, NewMember, NewMessage, NewReaction, Place, ReadTo, Verification,
};
use keevo_core::AnyEngine;
use keevo_core::{ErrorKind, Result};

use super::{join_all, until_ok};
use crate::engine::{Call, Repeat};
use crate::invariant::chat_sequence;
use crate::sim::{Sim, Violation};
use crate::world::lock;

const CHANNELS: u64 = 2;
const USERS: u64 = 4;
const MESSAGES_MAX: u64 = 120;

/// What was answered: where each message of a channel stands.
type Answered = Arc<Mutex<BTreeMap<(u64, String), Place>>>;

/// Runs a call on the chat of a node. All of them may be repeated.
async fn on_chat<T: Send + 'static>(
    sim: &Sim,
    what: &'static str,
    call: impl Fn(Chat<AnyEngine>) -> BoxFuture<'static, Result<T>> + Send + Sync + 'static,
) -> Result<T> {
    let call = Arc::new(call);
    let on_node: Call<T> = Arc::new(move |app| {
        let call = Arc::clone(&call);
        Box::pin(async move { call(app.chat.clone()).await })
    });
    sim.engine().call(what, Repeat::Freely, on_node).await
}

fn channel(number: u64) -> Result<ChannelId> {
    ChannelId::new("team", &format!("c{number}"))
}

/// Runs until the faults are over, then counts anew.
pub(crate) async fn run(sim: Sim) -> std::result::Result<(), Violation> {
    for number in 0..CHANNELS {
        until_ok(&sim, || create(&sim, number)).await?;
    }
    let answered = Answered::default();
    let users = (0..USERS).map(|user| {
        let (sim, answered) = (sim.clone(), Arc::clone(&answered));
        async move {
            if let Err(Violation(what)) = talk(&sim, user, &answered).await {
                sim.violate(what);
            }
        }
    });
    join_all(users).await;
    sim.calm().await;
    for number in 0..CHANNELS {
        let verification = until_ok(&sim, || verify(&sim, number)).await?;
        let answered: BTreeMap<String, Place> = lock(&answered)
            .iter()
            .filter(|((channel, _), _)| *channel == number)
            .map(|((_, id), place)| (id.clone(), *place))
            .collect();
        let mut found = BTreeMap::new();
        for id in answered.keys() {
            let message = until_ok(&sim, || find(&sim, number, id.clone())).await?;
            found.insert(id.clone(), message.map(|message| message.place));
        }
        let evaluated = chat_sequence::judge(number, &verification, &answered, &found)?;
        sim.checked("chat sequence", evaluated);
    }
    Ok(())
}

async fn create(sim: &Sim, number: u64) -> Result<()> {
    let id = channel(number)?;
    on_chat(sim, "create channel", move |chat| {
        let id = id.clone();
        let members = (0..USERS).map(|user| NewMember::new(format!("u{user}"))).collect();
        let new = NewChannel { created_by: "u0".to_owned(), members, ..NewChannel::default() };
        Box::pin(async move { chat.create_channel(&id, new).await.map(drop) })
    })
    .await
}

/// One user: sends messages, each until it is answered, and does other things in between.
async fn talk(sim: &Sim, user: u64, answered: &Answered) -> std::result::Result<(), Violation> {
    for number in 0..MESSAGES_MAX {
        if sim.is_calm() {
            break;
        }
        let room = sim.dice().below(CHANNELS);
        let parents: Vec<String> = lock(answered)
            .iter()
            .filter(|((channel, _), place)| *channel == room && matches!(place, Place::Channel(_)))
            .map(|((_, id), _)| id.clone())
            .collect();
        let id = format!("m{user}-{number}");
        let mut message = NewMessage::new(format!("u{user}"), format!("message {number}")).with_id(id.clone());
        if let Some(parent) = sim.dice().pick(&parents).filter(|_| sim.dice().chance(25)) {
            message = message.reply_to(parent.clone());
        }
        let sent = until_ok(sim, || send(sim, room, message.clone())).await?;
        sim.count("message");
        lock(answered).insert((room, id), sent.place);
        if let Some(other) = sim.dice().pick(&parents) {
            let outcome = dabble(sim, room, user, other.clone()).await;
            sim.note(format_args!("u{user} in c{room}: {:?}", outcome.err().map(|error| error.kind())));
        }
        sim.sleep(Duration::from_millis(sim.dice().between(10, 300))).await;
    }
    Ok(())
}

async fn send(sim: &Sim, room: u64, message: NewMessage) -> Result<Message> {
    let id = channel(room)?;
    on_chat(sim, "send", move |chat| {
        let (id, message) = (id.clone(), message.clone());
        Box::pin(async move { chat.send(&id, message).await })
    })
    .await
}

/// Something small: a reaction, a deletion, a read mark, a member that goes and comes back.
async fn dabble(sim: &Sim, room: u64, user: u64, other: String) -> Result<()> {
    let (id, user) = (channel(room)?, format!("u{user}"));
    let choice = sim.dice().below(12);
    on_chat(sim, "dabble", move |chat| {
        let (id, user, other) = (id.clone(), user.clone(), other.clone());
        Box::pin(async move {
            match choice {
                0..4 => chat.react(&id, &other, NewReaction::new(user, "like")).await.map(drop),
                4 => chat.unreact(&id, &other, &user, "like").await.map(drop),
                5 => chat.delete(&id, &other, &user).await.map(drop),
                6..11 => chat.mark_read(&id, &user, ReadTo::End).await.map(drop),
                _ => {
                    chat.remove_member(&id, &user).await?;
                    chat.add_members(&id, vec![NewMember::new(user)]).await
                }
            }
        })
    })
    .await
}

async fn verify(sim: &Sim, room: u64) -> Result<Verification> {
    let id = channel(room)?;
    on_chat(sim, "verify chat", move |chat| {
        let id = id.clone();
        Box::pin(async move { chat.verify(&id).await })
    })
    .await
}

async fn find(sim: &Sim, room: u64, message: String) -> Result<Option<Message>> {
    let id = channel(room)?;
    on_chat(sim, "find message", move |chat| {
        let (id, message) = (id.clone(), message.clone());
        Box::pin(async move {
            match chat.message(&id, &message).await {
                Ok(message) => Ok(Some(message)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })
    })
    .await
}
