//! What an app's server is asked before a message is sent or edited: it lets it pass, changes it, or refuses it.
//!
//! Invariant: the question takes no longer than the app allows, and a bounded number are asked at once; without an answer the
//! message goes the way that the app chose.

use std::time::Duration;

use bytes::Bytes;
use keevo_chat::{Capability, ChannelId, Edit, Mentions, Message, NewMessage};
use keevo_core::{Error, ErrorKind};
use keevo_gateway::apps::{BeforeSend, OnFailure};
use keevo_gateway::shared::Outgoing;
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::endpoints::sending::{made_up, mentions_of};
use crate::error::{Answered, Refusal};
use crate::field::{Field, Kind, check, check_object, may};
use crate::render;

/// The longest reason that a user is told.
const REASON_CHARS_MAX: usize = 500;
const ANSWER: &[Field] = &[may("action", Kind::Text), may("reason", Kind::Text), may("message", Kind::Object)];
const CHANGES: &[Field] = &[
    may("text", Kind::Text),
    may("custom", Kind::Object),
    may("attachments", Kind::Objects),
    may("mentions", Kind::Object),
    may("silent", Kind::Truth),
];

/// What is about to be said.
pub(crate) enum Saying<'a> {
    New(&'a mut NewMessage),
    Edit(&'a str, &'a mut Edit),
}

impl Saying<'_> {
    fn action(&self) -> &'static str {
        match self {
            Self::New(_) => "send",
            Self::Edit(..) => "edit",
        }
    }

    fn user(&self) -> &str {
        match self {
            Self::New(new) => &new.user_id,
            Self::Edit(_, edit) => &edit.user_id,
        }
    }

    /// As the hook is told of it. Of an edit, what stays as it was is `null`.
    fn told(&self) -> Value {
        let list = |all: &[String]| all.iter().map(|one| render::custom(Some(one))).collect::<Vec<_>>();
        match self {
            Self::New(new) => json!({
                "id": new.id,
                "text": new.text,
                "parent_id": new.parent_id,
                "custom": render::custom(new.custom.as_deref()),
                "attachments": list(&new.attachments),
                "mentions": render::mentions(&new.mentions),
                "quoted_id": new.quoted_id,
                "poll_id": new.poll_id,
                "silent": new.silent,
            }),
            Self::Edit(id, edit) => json!({
                "id": id,
                "text": edit.text,
                "custom": render::custom(edit.custom.as_deref()),
                "set": edit.patch.set.iter().map(|(path, value)| (path.clone(), render::custom(Some(value))))
                    .collect::<Map<_, _>>(),
                "unset": edit.patch.unset,
                "attachments": edit.attachments.as_ref().map(|all| list(all)),
                "mentions": edit.mentions.as_ref().map(render::mentions),
            }),
        }
    }

    /// Takes the hook's changes in.
    fn change(&mut self, changes: &Map<String, Value>) -> Answered<()> {
        check_object(changes, CHANGES)?;
        let text = changes.get("text").and_then(Value::as_str).map(str::to_owned);
        let custom = changes.get("custom").filter(|custom| custom.is_object()).map(Value::to_string);
        let attachments = changes.get("attachments").and_then(Value::as_array);
        let attachments: Option<Vec<String>> = attachments.map(|all| all.iter().map(Value::to_string).collect());
        let mentions: Option<Mentions> =
            changes.get("mentions").and_then(Value::as_object).map(mentions_of).transpose()?;
        match self {
            Self::New(new) => {
                new.text = text.unwrap_or_else(|| std::mem::take(&mut new.text));
                new.custom = custom.or_else(|| new.custom.take());
                new.attachments = attachments.unwrap_or_else(|| std::mem::take(&mut new.attachments));
                new.mentions = mentions.unwrap_or_else(|| std::mem::take(&mut new.mentions));
                new.silent = changes.get("silent").and_then(Value::as_bool).unwrap_or(new.silent);
            }
            Self::Edit(_, edit) => {
                edit.text = text.or_else(|| edit.text.take());
                edit.custom = custom.or_else(|| edit.custom.take());
                edit.attachments = attachments.or_else(|| edit.attachments.take());
                edit.mentions = mentions.or_else(|| edit.mentions.take());
            }
        }
        Ok(())
    }
}

/// The message that a send repeats, where the app is asked: what was asked once is not asked again, since the answer may have
/// changed the message, and another answer must not.
pub(crate) async fn stored_before(call: &Call, channel: &ChannelId, new: &NewMessage) -> Answered<Option<Message>> {
    let (Some(_), Some(id)) = (hook(call, channel), &new.id) else { return Ok(None) };
    let stored = match call.chats.trusted.message(channel, id).await {
        Ok(stored) => stored,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if stored.user_id != new.user_id || stored.parent_id != new.parent_id {
        return Ok(None);
    }
    call.may(channel, Capability::ReadChannel).await?;
    Ok(Some(stored))
}

/// Asks the app's server, where the app wants that, and takes its changes in. A refusal is the user's.
pub(crate) async fn ask(call: &Call, channel: &ChannelId, mut saying: Saying<'_>) -> Answered<()> {
    let Some(hook) = hook(call, channel) else { return Ok(()) };
    let answer = match put(call, channel, hook, &saying).await {
        Ok(answer) => read(&answer),
        Err(error) => Err(error),
    };
    let failed = match answer {
        Ok(Said::Passes) => return Ok(()),
        Ok(Said::Refused(reason)) => return Err(Refusal::denied("refused", reason)),
        Ok(Said::Changed(changes)) => match saying.change(&changes) {
            Ok(()) => return Ok(()),
            Err(refusal) => Error::invalid(format!("its answer is malformed: {}", refusal.detail())),
        },
        Err(error) => error,
    };
    tracing::warn!(app = call.app.id, error = %failed, "the hook before messages gave no answer");
    match hook.on_failure {
        OnFailure::Send => Ok(()),
        OnFailure::Refuse => {
            let message = "the app's server did not say whether the message may be sent: send it again";
            Err(Error::new(ErrorKind::Unavailable, message).into())
        }
    }
}

fn hook<'a>(call: &'a Call, channel: &ChannelId) -> Option<&'a BeforeSend> {
    let hook = call.app.chat.before_send.as_ref()?;
    (hook.types.is_empty() || hook.types.contains(channel.kind())).then_some(hook)
}

/// The answer to a question that is put once.
async fn put(call: &Call, channel: &ChannelId, hook: &BeforeSend, saying: &Saying<'_>) -> keevo_core::Result<Bytes> {
    let Ok(_asking) = call.chats.asking.try_acquire() else {
        return Err(Error::new(ErrorKind::ResourceExhausted, "too many questions are open"));
    };
    let id = made_up(call);
    let body = json!({
        "type": "message.before_send",
        "id": id,
        "app_id": call.app.id,
        "cid": channel.as_str(),
        "action": saying.action(),
        "user_id": saying.user(),
        "by_server": call.is_server(),
        "at": call.gateway.shared.now_ms(),
        "message": saying.told(),
    });
    let outgoing = Outgoing {
        url: &hook.url,
        secret: &hook.secret,
        api_key: call.app.keys.first().map(|one| one.key.as_str()).unwrap_or_default(),
        id: &id,
        attempt: 1,
        within: Duration::from_millis(hook.timeout_ms),
        body: body.to_string().into(),
    };
    call.gateway.shared.post(outgoing).await
}

/// What an answer says.
enum Said {
    Passes,
    Refused(String),
    Changed(Map<String, Value>),
}

fn read(answer: &Bytes) -> keevo_core::Result<Said> {
    let bad = |refusal: Refusal| Error::invalid(format!("its answer is malformed: {}", refusal.detail()));
    let mut answer = check(answer, ANSWER).map_err(bad)?;
    match answer.get("action").and_then(Value::as_str) {
        None | Some("send") => {}
        Some("refuse") => {
            let reason = answer.get("reason").and_then(Value::as_str).filter(|reason| !reason.is_empty());
            let reason = reason.unwrap_or("the app refused the message");
            return Ok(Said::Refused(reason.chars().take(REASON_CHARS_MAX).collect()));
        }
        Some(_) => return Err(Error::invalid("its answer is malformed: action is send or refuse")),
    }
    match answer.remove("message") {
        Some(Value::Object(changes)) => Ok(Said::Changed(changes)),
        _ => Ok(Said::Passes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_pass_refuse_or_change() {
        let said = |text: &str| read(&Bytes::copy_from_slice(text.as_bytes()));
        for passes in ["", "{}", r#"{"action": "send"}"#] {
            assert!(matches!(said(passes), Ok(Said::Passes)), "{passes}");
        }
        assert!(matches!(said(r#"{"action": "refuse", "reason": "no"}"#), Ok(Said::Refused(reason)) if reason == "no"));
        assert!(matches!(said(r#"{"action": "refuse"}"#), Ok(Said::Refused(reason)) if !reason.is_empty()));
        assert!(matches!(said(r#"{"message": {"text": "x"}}"#), Ok(Said::Changed(changes)) if changes.len() == 1));
        for bad in ["7", "[]", "{", r#"{"mesage": {}}"#, r#"{"action": "drop"}"#, r#"{"message": "x"}"#] {
            assert!(said(bad).is_err(), "{bad}");
        }
        let mut new = NewMessage::new("ann", "a");
        assert!(
            Saying::New(&mut new).change(&Map::from_iter([("id".to_owned(), json!("x"))])).is_err(),
            "the id stays"
        );
        Saying::New(&mut new).change(&Map::from_iter([("silent".to_owned(), json!(true))])).expect("changed");
        assert_eq!((new.text.as_str(), new.silent), ("a", true));
    }
}
