//! Watchers who come from anywhere, on lines that are read at any pace: each gets every event behind its place once, in
//! order.

use keevo_chat::{AppId, ChannelId, Chat, ChatOptions, NewChannel, NewMember, NewMessage, ResumeFrom};
use keevo_core::{MemoryEngine, Random, SeededRandom};
use serde_json::Value;

use super::*;
use crate::socket::outbox::Closing;

const COUNT: usize = 60;

/// The events of a channel in which `COUNT` messages are sent, and the places before each of them and behind the last.
async fn events() -> (Vec<Arc<Event>>, Vec<ResumeToken>) {
    let chat = Chat::new(MemoryEngine::new(), AppId(1), ChatOptions::default());
    let channel: ChannelId = "team:a".parse().expect("a name");
    let members = vec![NewMember::new("ann")];
    chat.create_channel(&channel, NewChannel { created_by: "ann".into(), members, ..NewChannel::default() })
        .await
        .expect("made");
    let mut live = chat.subscribe(&channel, ResumeFrom::Now).await.expect("subscribed");
    let (mut events, mut places) = (Vec::new(), vec![live.resume().clone()]);
    for number in 0..COUNT {
        chat.send(&channel, NewMessage::new("ann", number.to_string())).await.expect("sent");
        let delivery = live.next().await.expect("an event").expect("no error");
        places.push(delivery.resume.clone());
        events.push(Arc::new(Event::of(&channel, delivery, &chat.channel_types())));
    }
    (events, places)
}

fn outbox() -> Arc<Outbox> {
    Arc::new(Outbox::new(10_000, 100 << 20))
}

fn joining(outbox: &Arc<Outbox>, token: &ResumeToken) -> Joining {
    let (outbox, token) = (Arc::clone(outbox), token.clone());
    Joining { outbox, user: "ann".into(), admin: false, invisible: false, token, seen: None }
}

/// The texts of the messages that an outbox holds, and its other frames but for presence.
async fn said(outbox: &Outbox) -> Vec<String> {
    outbox.close(Closing::BYE);
    let mut all = Vec::new();
    while let Ok(frames) = outbox.take().await {
        for frame in frames {
            let frame: Value = serde_json::from_str(frame.as_str()).expect("JSON");
            match frame["type"].as_str() {
                Some("message.new") => all.push(frame["message"]["text"].as_str().expect("a text").to_owned()),
                Some("channel.presence") => {}
                other => all.push(other.expect("a type").to_owned()),
            }
        }
    }
    all
}

#[tokio::test]
async fn whoever_comes_from_wherever_gets_everything_behind_its_place_once() {
    let (events, places) = events().await;
    let expected = |from: usize| (from..COUNT).map(|number| number.to_string()).collect::<Vec<_>>();
    for seed in 0..300 {
        let random = SeededRandom::new(seed);
        let pick =
            |below: usize| usize::try_from(random.next_u64() % u64::try_from(below).expect("small")).expect("small");
        let mut state = State::new("team:a", 1 + pick(20));
        // How far each line was read.
        let mut read: BTreeMap<u64, usize> = BTreeMap::new();
        let mut watchers: Vec<(usize, Arc<Outbox>)> = Vec::new();
        let mut told = 0;
        for step in 0..400 {
            if pick(10) == 0 && watchers.len() < 40 {
                let (from, outbox) = (pick(told.max(1)), outbox());
                let number = u64::try_from(watchers.len()).expect("small");
                match state.attach(number, joining(&outbox, &places[from])) {
                    Attached::Started(line) => drop(read.insert(line, from)),
                    Attached::On => {}
                    Attached::Full => continue,
                }
                watchers.push((from, outbox));
            }
            told = (told + usize::from(step % 5 == 0)).min(COUNT);
            let lines: Vec<u64> = read.keys().copied().collect();
            if lines.is_empty() {
                continue;
            }
            let line = lines[pick(lines.len())];
            let at = read[&line];
            if at < told {
                read.insert(line, at + 1);
                if state.publish(line, &events[at], Duration::ZERO) == Published::Over {
                    read.remove(&line);
                }
            }
        }
        for line in read.keys().copied().collect::<Vec<_>>() {
            for event in events.iter().skip(read[&line]) {
                if state.publish(line, event, Duration::ZERO) == Published::Over {
                    break;
                }
            }
        }
        assert!(watchers.len() > 5, "seed {seed}");
        for (from, outbox) in watchers {
            assert_eq!(said(&outbox).await, expected(from), "seed {seed}, from {from}");
        }
    }
}

#[tokio::test]
async fn a_line_that_cannot_be_read_tells_its_watchers_alone() {
    let (events, places) = events().await;
    let mut state = State::new("team:a", 2);
    let (new, old) = (outbox(), outbox());
    assert_eq!(state.attach(1, joining(&new, &places[10])), Attached::Started(0));
    for event in events.iter().skip(10).take(10) {
        state.publish(0, event, Duration::ZERO);
    }
    assert_eq!(state.attach(2, joining(&old, &places[3])), Attached::Started(1));
    state.reload(1, "kept no longer", Duration::ZERO);
    assert!(state.has(1) && !state.has(2));
    assert_eq!(said(&old).await, ["channel.reload"]);
    assert_eq!(said(&new).await.len(), 10);
    assert_eq!(state.attach(1, joining(&new, &places[0])), Attached::On, "it watches already");
    state.detach(1, Duration::from_secs(5));
    assert!(!state.retire(0, Duration::from_secs(1)), "it lingers");
    assert!(state.retire(0, Duration::from_secs(5)) && state.is_over());
}

#[tokio::test]
async fn places_that_are_told_are_behind_what_was_queued() {
    let (events, places) = events().await;
    let mut state = State::new("team:a", 100);
    let outbox = outbox();
    let seen = places[5].position();
    let joining = Joining { seen: Some(seen), ..joining(&outbox, &places[0]) };
    assert_eq!(state.attach(1, joining), Attached::Started(0));
    assert_eq!(state.place_of(1), Some(places[0].clone()));
    for event in events.iter().take(6) {
        state.publish(0, event, Duration::ZERO);
    }
    assert_eq!(state.place_of(1), Some(places[6].clone()));
    assert_eq!(said(&outbox).await, ["5"], "what was seen does not come again");
    assert_eq!(state.place_of(2), None);
}

/// A page of history may hold messages that came after the place it is of: who brings such a page begins a line for others
/// who have no such page.
#[tokio::test]
async fn a_message_that_one_knows_from_a_page_still_comes_to_the_others() {
    let (events, places) = events().await;
    let mut state = State::new("team:a", 100);
    let (with_page, without) = (outbox(), outbox());
    let page = places[5].clone().knowing(7);
    assert_eq!(state.attach(1, joining(&with_page, &page)), Attached::Started(0));
    assert_eq!(state.attach(2, joining(&without, &places[5])), Attached::On);
    assert_eq!(page.clone().for_everybody().known(), 0, "the line is read from here");
    for event in events.iter().skip(5).take(4) {
        state.publish(0, event, Duration::ZERO);
    }
    assert_eq!(said(&with_page).await, ["7", "8"], "messages 6 and 7, which are numbered from 1, are on the page");
    assert_eq!(said(&without).await, ["5", "6", "7", "8"]);
}
