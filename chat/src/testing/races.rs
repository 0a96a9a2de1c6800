//! Cases about what happens between two calls: a worker, a removal, a message, in the one place where it hurts.

use keevo_core::{Batch, Engine, ErrorKind, Op};

use super::members::listed;
use super::{Bench, Fault, Faulty, Interrupted, kind_of};
use crate::keys::{self, ChannelKeys};
use crate::membership::{joined, new_row};
use crate::outbox::fence;
use crate::rows::{self, JobRow, MemberRow};
use crate::{ChannelId, Chat, ChatOptions, NewChannel, NewMember, NewMessage, ReadTo};

fn appends(batch: &Batch) -> bool {
    batch.ops.iter().any(|op| matches!(op, Op::Append { .. }))
}

impl<E: Engine> Bench<E> {
    /// A chat for which `hook` happens before the first write that matches.
    fn interrupted(
        &self,
        matches: impl Fn(&Batch) -> bool + Send + Sync + 'static,
        hook: impl Future<Output = ()> + Send + 'static,
    ) -> (Interrupted<E>, Chat<Interrupted<E>>) {
        let engine = Interrupted::new(self.engine.clone(), matches, hook);
        (engine.clone(), Chat::new(engine, self.app, ChatOptions::default()))
    }
}

/// The first half of a join: the pointer is put. Returns the write that is the second half.
async fn half_a_join<E: Engine>(chat: &Chat<E>, channel: &ChannelId, keys: &ChannelKeys, user: &str) -> Batch {
    let epoch = fence(chat.get(keys.epoch()).await.expect("read"));
    chat.put_pointer(channel, keys).await.expect("put");
    let row = MemberRow { joined_at_ms: 1, ..new_row(&NewMember::new(user)) };
    let job = JobRow { changes: vec![joined(user, &row)] };
    Batch::new()
        .merge(keys.version(), 1)
        .require(keys.epoch(), epoch)
        .put(keys.member(user), rows::encode(&row))
        .append(keys.job_counter(), keys::prefix::jobs(), rows::encode(&job), None)
}

/// The worker and a join, whichever comes between the other's calls: the user's list follows.
pub(super) async fn worker_races<E: Engine>(bench: Bench<E>) {
    let name = |channel: &ChannelId| format!("{channel} member");
    // The worker removes the pointer between a join's announcement and its write: the join has to start again.
    let channel = bench.channel("fence", &[]).await;
    let chat = bench.chat.clone();
    let (engine, joining) = bench.interrupted(appends, async move {
        let run = chat.run_outbox_once().await.expect("the worker runs");
        assert_eq!(run.pointers_removed, 1);
    });
    joining.add_members(&channel, vec![NewMember::new("ann")]).await.expect("joined");
    assert_eq!(engine.matched(), 2, "one write was refused, for its pointer is gone");
    assert_eq!(listed(&bench.chat, "ann").await, [name(&channel)]);

    // A join that was announced early is written, by a process that dies right after, just before the worker raises
    // the epoch: the second look finds its job.
    let channel = bench.channel("look", &[]).await;
    bench.chat.run_outbox_once().await.expect("the worker runs");
    let keys = bench.chat.keys(&channel).await.expect("keys");
    let rest = half_a_join(&bench.chat, &channel, &keys, "bob").await;
    let (raw, epoch) = (bench.engine.clone(), keys.epoch());
    let raises = move |batch: &Batch| batch.ops.iter().any(|op| matches!(op, Op::Merge { key, .. } if *key == epoch));
    let (engine, working) = bench.interrupted(raises, async move {
        raw.write(rest).await.expect("the join is written in time");
    });
    working.run_outbox_once().await.expect("the worker runs");
    bench.chat.run_outbox_once().await.expect("the worker runs");
    assert_eq!((engine.matched(), listed(&bench.chat, "bob").await), (1, vec![name(&channel)]));

    // A join is announced after the worker's second look, and written by a process that dies right after: its
    // pointer is another one than the worker saw, and stays.
    let channel = bench.channel("pointer", &[]).await;
    let keys = bench.chat.keys(&channel).await.expect("keys");
    bench.chat.put_pointer(&channel, &keys).await.expect("announced, and then died");
    let pointer = bench.chat.pointer(&channel, &keys);
    let deletes = move |batch: &Batch| batch.ops.iter().any(|op| matches!(op, Op::Delete { key } if *key == pointer));
    let (chat, raw, at) = (bench.chat.clone(), bench.engine.clone(), channel.clone());
    let (engine, working) = bench.interrupted(deletes, async move {
        let rest = half_a_join(&chat, &at, &keys, "carol").await;
        raw.write(rest).await.expect("written");
    });
    working.run_outbox_once().await.expect("the worker runs");
    bench.chat.run_outbox_once().await.expect("the worker runs");
    assert_eq!((engine.matched(), listed(&bench.chat, "carol").await), (1, vec![name(&channel)]));
    late_job(&bench).await;
}

/// A job that is done late does not undo what a later one did.
async fn late_job<E: Engine>(bench: &Bench<E>) {
    let channel = bench.channel("late", &[]).await;
    let listing = bench.chat.user_key("dave", keys::listing(channel.as_str())).await.expect("a key");
    let lists = move |batch: &Batch| batch.ops.iter().any(|op| *op.key() == listing);
    let (chat, at) = (bench.chat.clone(), channel.clone());
    let (engine, joining) = bench.interrupted(lists, async move {
        assert!(chat.remove_member(&at, "dave").await.expect("removed"));
    });
    joining.add_members(&channel, vec![NewMember::new("dave")]).await.expect("joined, and removed again");
    assert!(engine.matched() > 0);
    assert_eq!(listed(&bench.chat, "dave").await, Vec::<String>::new());
    assert_eq!(kind_of(bench.chat.member(&channel, "dave").await), ErrorKind::NotFound);
}

/// What happens between the reads and the write of a join or of a read position.
pub(super) async fn read_races<E: Engine>(bench: Bench<E>) {
    // A message that is sent before a join is not unread, however late it was sent.
    let channel = bench.channel("baseline", &["alice"]).await;
    let (chat, at) = (bench.chat.clone(), channel.clone());
    let (engine, joining) = bench.interrupted(appends, async move {
        chat.send(&at, NewMessage::new("alice", "just before")).await.expect("sent");
    });
    joining.add_members(&channel, vec![NewMember::new("late")]).await.expect("joined");
    assert_eq!(engine.matched(), 2, "one write was refused, for its count started too early");
    assert_eq!(bench.chat.unread(&channel, "late").await.expect("counted"), 0);
    bench.chat.send(&channel, NewMessage::new("alice", "after")).await.expect("sent");
    assert_eq!(bench.chat.unread(&channel, "late").await.expect("counted"), 1);
    bench.assert_sound(&channel).await;

    // A member that is removed while it marks something as read leaves no read state behind.
    let channel = bench.channel("read", &["alice", "bob"]).await;
    bench.chat.send(&channel, NewMessage::new("alice", "one")).await.expect("sent");
    let read = bench.chat.keys(&channel).await.expect("keys").read("bob");
    let marks = move |batch: &Batch| batch.ops.iter().any(|op| matches!(op, Op::Put { key, .. } if *key == read));
    let (chat, at) = (bench.chat.clone(), channel.clone());
    let (engine, marking) = bench.interrupted(marks, async move {
        assert!(chat.remove_member(&at, "bob").await.expect("removed"));
    });
    assert_eq!(kind_of(marking.mark_read(&channel, "bob", ReadTo::End).await), ErrorKind::NotFound);
    assert_eq!(engine.matched(), 1);
    bench.chat.send(&channel, NewMessage::new("alice", "two")).await.expect("sent");
    bench.chat.add_members(&channel, vec![NewMember::new("bob")]).await.expect("added");
    assert_eq!(bench.chat.unread(&channel, "bob").await.expect("counted"), 0, "what was said while away");
    bench.assert_sound(&channel).await;
}

/// One job that cannot be read holds up no other channel, nor the other jobs of its own.
pub(super) async fn head_of_line<E: Engine>(bench: Bench<E>) {
    let mut waiting = Vec::new();
    for number in 0..6 {
        let channel = bench.channel(&format!("line{number}"), &[]).await;
        let keys = bench.chat.keys(&channel).await.expect("keys");
        if number == 3 {
            let garbage = Batch::new().append(keys.job_counter(), keys::prefix::jobs(), b"\xff\xff".as_slice(), None);
            bench.engine.write(garbage).await.expect("written");
        }
        let rest = half_a_join(&bench.chat, &channel, &keys, "bob").await;
        bench.engine.write(rest).await.expect("written");
        waiting.push(format!("{channel} member"));
    }
    assert_eq!(listed(&bench.chat, "bob").await, Vec::<String>::new());
    for _ in 0..2 {
        assert_eq!(kind_of(bench.chat.run_outbox_once().await), ErrorKind::Corrupt, "and it is not kept silent");
        assert_eq!(listed(&bench.chat, "bob").await, waiting);
    }
}

/// A process dies at each call of a creation in turn: then the channel is there with all of its members and their
/// lists, or not at all; and creating it again makes it so.
pub(super) async fn creation<E: Engine>(bench: Bench<E>) {
    let new = || NewChannel {
        created_by: "ada".into(),
        members: vec![NewMember::new("ada").with_role("owner"), NewMember::new("bob")],
        ..NewChannel::default()
    };
    let mut crashes = 0;
    for after in [false, true] {
        for at in 0.. {
            let channel = ChannelId::new("made", &format!("{after}-{at}")).expect("a name");
            let fault = if after { Fault::After(at) } else { Fault::Before(at) };
            let faulty = Faulty::new(bench.engine.clone(), fault);
            let dying = Chat::new(faulty.clone(), bench.app, ChatOptions::default());
            let made = dying.create_channel(&channel, new()).await;
            crashes += u32::from(faulty.calls() > at);
            bench.chat.run_outbox_once().await.expect("the worker runs");
            let members = bench.chat.members(&channel, None, 10).await.expect("read").len();
            let exists = bench.chat.channel(&channel).await.is_ok();
            assert_eq!(members, if exists { 2 } else { 0 }, "crash at call {at}, after = {after}");
            assert!(exists || made.is_err(), "what was answered has happened");
            for (user, role) in [("ada", "owner"), ("bob", "member")] {
                let is_listed = listed(&bench.chat, user).await.contains(&format!("{channel} {role}"));
                assert_eq!(is_listed, exists, "{user} after a crash at call {at}, after = {after}");
            }
            bench.chat.create_channel(&channel, new()).await.expect("created again");
            assert_eq!(bench.chat.member(&channel, "ada").await.expect("a member").role, "owner");
            if faulty.calls() <= at {
                assert!(made.is_ok());
                break;
            }
        }
    }
    assert!(crashes >= 10, "both ways of dying at each call: {crashes}");

    // Creating it again leaves the members alone.
    let channel: ChannelId = "made:once".parse().expect("a name");
    bench.chat.create_channel(&channel, new()).await.expect("created");
    bench.chat.remove_member(&channel, "bob").await.expect("removed");
    bench.chat.put_members(&channel, vec![NewMember::new("ada").with_role("moderator")]).await.expect("changed");
    bench.chat.create_channel(&channel, new()).await.expect("created again");
    assert_eq!(kind_of(bench.chat.member(&channel, "bob").await), ErrorKind::NotFound);
    assert_eq!(bench.chat.member(&channel, "ada").await.expect("a member").role, "moderator");

    // A large channel is created in one write, with several jobs in it.
    let crowd = |count: usize| NewChannel {
        members: (0..count).map(|number| NewMember::new(format!("crowd{number}"))).collect(),
        ..new()
    };
    let large: ChannelId = "made:large".parse().expect("a name");
    bench.chat.create_channel(&large, crowd(450)).await.expect("created");
    for user in ["crowd0", "crowd449"] {
        assert_eq!(listed(&bench.chat, user).await, ["made:large member"]);
    }
    bench.chat.run_outbox_once().await.expect("the worker runs");
    let idle = bench.chat.run_outbox_once().await.expect("the worker runs");
    assert_eq!((idle.jobs, idle.channels), (0, 0), "all of its jobs are done and gone");
    let larger: ChannelId = "made:larger".parse().expect("a name");
    assert_eq!(kind_of(bench.chat.create_channel(&larger, crowd(1_001)).await), ErrorKind::BatchTooLarge);
}
