//! What was sent, read, heard and counted, compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use hyper::Method;
use keevo_core::{Error, Result};
use serde_json::Value;

use super::api::Api;
use super::history::History;
use super::sender::Sent;
use super::watcher::Views;

/// The entries of a page.
const PAGE: usize = 100;
/// Counts that are asked for at once.
const AT_ONCE: usize = 16;

/// The comparison of a round.
pub(super) struct Checks {
    api: Api,
    paths: Arc<Vec<String>>,
    /// What each sender has sent, in its order.
    sent: BTreeMap<String, Vec<Sent>>,
    /// Up to where each reader has marked each channel.
    marked: BTreeMap<String, BTreeMap<usize, u64>>,
    histories: Vec<History>,
    counted: u64,
    complaints: Vec<String>,
}

impl Checks {
    pub(super) fn new(api: &Api, paths: &Arc<Vec<String>>) -> Self {
        Self {
            api: api.clone(),
            paths: Arc::clone(paths),
            sent: BTreeMap::new(),
            marked: BTreeMap::new(),
            histories: Vec::new(),
            counted: 0,
            complaints: Vec::new(),
        }
    }

    pub(super) fn sent(&mut self, user: String, sent: Vec<Sent>) {
        self.sent.insert(user, sent);
    }

    pub(super) fn marked(&mut self, user: String, marked: BTreeMap<usize, u64>) {
        self.marked.insert(user, marked);
    }

    pub(super) fn histories(&self) -> &[History] {
        &self.histories
    }

    /// Messages of all channels.
    pub(super) fn messages(&self) -> usize {
        self.histories.iter().map(|history| history.messages.len()).sum()
    }

    /// Those who sent something.
    pub(super) fn senders(&self) -> usize {
        self.sent.values().filter(|sent| !sent.is_empty()).count()
    }

    /// Unread counts that were compared.
    pub(super) fn counted(&self) -> u64 {
        self.counted
    }

    /// Everything that was promised and not kept.
    pub(super) fn complaints(mut self) -> Vec<String> {
        self.complaints.splice(0..0, self.api.complaints());
        self.complaints
    }

    /// Reads the histories from every node, and compares them with one another and with what was sent.
    pub(super) async fn read(&mut self, cids: &[String]) -> Result<()> {
        let reader = self.sent.keys().next().cloned().ok_or_else(|| Error::invalid("nobody has sent"))?;
        let paths = Arc::clone(&self.paths);
        for (cid, path) in cids.iter().zip(paths.iter()) {
            let mut first: Option<History> = None;
            for node in self.api.nodes() {
                let mut history = History::default();
                let mut after = 0;
                loop {
                    let page = format!("{path}/messages?after={after}&limit={PAGE}&order=oldest");
                    let page = self.api.get_at(*node, &page, &reader).await?;
                    for message in page.get("messages").and_then(Value::as_array).into_iter().flatten() {
                        history.read(message).map_err(Error::corrupt)?;
                    }
                    let Some(next) = page.get("next").and_then(Value::as_u64) else { break };
                    after = next;
                }
                match &first {
                    None => first = Some(history),
                    Some(first) => {
                        let difference = first.difference(&history);
                        self.complaints.extend(difference.map(|what| format!("{cid}: two nodes differ: {what}")));
                    }
                }
            }
            let history = first.unwrap_or_default();
            self.complaints.extend(history.faults().into_iter().map(|fault| format!("{cid}: {fault}")));
            self.histories.push(history);
        }
        self.complaints.extend(compare(&self.sent, &self.histories));
        Ok(())
    }

    /// Compares what a watcher knows with the histories.
    pub(super) fn known(&mut self, user: &str, view: &Views) {
        if let Some((at, what)) = view.difference(&self.histories) {
            let path = self.paths.get(at).map_or("", String::as_str);
            self.complaints.push(format!("{user} and the history of {path} differ: {what}"));
        }
    }

    /// Compares the unread counts of all with a recount.
    pub(super) async fn count_unread(&mut self) -> Result<()> {
        let users = self.sent.keys().chain(self.marked.keys());
        let asked: Vec<(&String, usize)> =
            users.flat_map(|user| (0..self.paths.len()).map(move |at| (user, at))).collect();
        let checks = &*self;
        let counts = stream::iter(asked).map(|(user, at)| async move {
            let path = format!("{}/unread", checks.paths.get(at).map_or("", String::as_str));
            let answer = checks.api.call(&Method::GET, &path, user, &Value::Null).await?;
            Ok::<_, Error>((user.as_str(), at, checks.recount(user, at, &answer)))
        });
        let counts: Vec<_> = counts.buffer_unordered(AT_ONCE).collect().await;
        let (mut counted, mut wrong) = (0, Vec::new());
        for count in counts {
            let (user, at, difference) = count?;
            counted += 1;
            let path = self.paths.get(at).map_or("", String::as_str);
            wrong.extend(difference.map(|what| format!("unread of {user} in {path}: {what}")));
        }
        self.counted += counted;
        self.complaints.extend(wrong);
        Ok(())
    }

    fn recount(&self, user: &str, at: usize, answer: &Value) -> Option<String> {
        let number = |name: &str| answer.pointer(&format!("/unread/{name}")).and_then(Value::as_u64);
        let (Some(unread), Some(read), Some(last)) =
            (number("unread"), number("read_sequence"), number("last_sequence"))
        else {
            return Some(format!("{answer} holds no counts"));
        };
        let history = self.histories.get(at)?;
        let marked = self.marked.get(user).and_then(|marked| marked.get(&at)).copied().unwrap_or(0);
        if read != marked {
            return Some(format!("it is read up to {read}, and {marked} was marked"));
        }
        let recount = history.unread(user, read);
        if (unread, last) == (recount, history.last()) {
            return None;
        }
        Some(format!("{unread} of {last} from {read} on, and the recount is {recount} of {}", history.last()))
    }
}

/// Compares what was answered with what is stored: nothing lost, nothing twice, nothing of nobody, every sender's order.
fn compare(sent: &BTreeMap<String, Vec<Sent>>, histories: &[History]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut answered: BTreeSet<(usize, u64)> = BTreeSet::new();
    for (user, sent) in sent {
        let mut last: BTreeMap<usize, u64> = BTreeMap::new();
        for Sent { id, channel, sequence } in sent {
            let stored = histories.get(*channel).and_then(|history| history.messages.get(sequence));
            match stored {
                None => complaints.push(format!("message {id} was answered at {sequence} and is lost")),
                Some(stored) if stored.id != *id || stored.user != *user => {
                    complaints.push(format!("message {id} was answered at {sequence}, where {} is", stored.id));
                }
                Some(_) => {}
            }
            if !answered.insert((*channel, *sequence)) {
                complaints.push(format!("two messages were answered at {sequence}, {id} is one of them"));
            }
            if last.insert(*channel, *sequence).is_some_and(|before| before >= *sequence) {
                complaints.push(format!("message {id} at {sequence} is not behind the one that {user} sent before"));
            }
        }
    }
    for (at, history) in histories.iter().enumerate() {
        let strange = history.messages.iter().filter(|(sequence, _)| !answered.contains(&(at, **sequence)));
        complaints.extend(strange.map(|(sequence, stored)| format!("{} is at {sequence} unanswered", stored.id)));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn history(ids: &[&str]) -> History {
        let mut history = History::default();
        for (sequence, id) in (1..).zip(ids) {
            let message = json!({ "id": id, "user_id": "ann", "sequence": sequence, "version": 1, "text": "x" });
            history.read(&message).expect("a message");
        }
        history
    }

    fn complaints(sent: &[(&str, u64)], stored: &[&str]) -> Vec<String> {
        let sent = sent.iter().map(|(id, sequence)| Sent { id: (*id).to_owned(), channel: 0, sequence: *sequence });
        compare(&BTreeMap::from([("ann".to_owned(), sent.collect())]), &[history(stored)])
    }

    #[test]
    fn lost_double_strange_and_disordered_messages_are_told() {
        assert_eq!(complaints(&[("a", 1), ("b", 2)], &["a", "b"]), Vec::<String>::new());
        assert_eq!(complaints(&[("a", 1), ("b", 2)], &["a"]), ["message b was answered at 2 and is lost"]);
        assert_eq!(complaints(&[("a", 1)], &["a", "a"]), ["a is at 2 unanswered"]);
        let said = complaints(&[("a", 2), ("b", 1)], &["b", "a"]);
        assert_eq!(said, ["message b at 1 is not behind the one that ann sent before"]);
        let said = complaints(&[("a", 1), ("b", 1)], &["a"]);
        assert_eq!(said.len(), 3, "{said:?}");
    }
}
