//! The mail corpus: lists, mails, replies.
//!
//! Invariant: mails are in the order of their dates (then ids), and a reply names a mail of the same list that
//! comes before it and is no reply itself: threads have one level.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::changelog::parse_date;
use crate::mask::{mask, person};

/// The longest text that is kept, in characters.
const TEXT_CHARS_MAX: usize = 4_000;
/// Where mails without any usable date are put: the middle of the corpus, 2002-09-01.
const TIME_UNKNOWN: i64 = 1_030_838_400;

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// The list, or the part of the corpus where it came over none.
    pub list: String,
    /// Its id within the corpus.
    pub id: String,
    /// Who sent it; no address.
    pub from: String,
    /// Its subject, masked.
    pub subject: String,
    /// When, in seconds since the epoch.
    pub time: i64,
    /// The id of the mail that started the thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Its text, masked.
    pub text: String,
}

/// A file of the corpus.
#[derive(Debug, Deserialize)]
pub(crate) struct RawMail {
    id: String,
    group: String,
    text: String,
}

/// A mail whose thread is not yet known.
struct Parsed {
    mail: Mail,
    message_id: String,
    in_reply_to: String,
}

/// Reads the corpus.
pub(crate) fn parse_all(raw: &[RawMail]) -> Vec<Mail> {
    let mut parsed: Vec<Parsed> = raw.iter().map(parse).collect();
    parsed.sort_by(|a, b| (&a.mail.list, a.mail.time, &a.mail.id).cmp(&(&b.mail.list, b.mail.time, &b.mail.id)));
    let mut roots: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut mails = Vec::with_capacity(parsed.len());
    for Parsed { mut mail, message_id, in_reply_to } in parsed {
        mail.parent = roots.get(&(mail.list.clone(), in_reply_to)).cloned();
        if !message_id.is_empty() {
            let root = mail.parent.clone().unwrap_or_else(|| mail.id.clone());
            roots.entry((mail.list.clone(), message_id)).or_insert(root);
        }
        mails.push(mail);
    }
    mails
}

fn parse(raw: &RawMail) -> Parsed {
    let (head, body) = raw.text.split_once("\n\n").unwrap_or((raw.text.as_str(), ""));
    let headers = headers(head);
    let header = |name: &str| headers.get(name).map_or("", String::as_str);
    let time = parse_date(header("date")).or_else(|| envelope_date(head)).unwrap_or(TIME_UNKNOWN);
    let cut = |text: &str, chars: usize| -> String { mask(text).chars().take(chars).collect() };
    let mail = Mail {
        list: list_name(header("list-id")).unwrap_or_else(|| format!("unlisted-{}", raw.group)),
        id: format!("{}-{}", raw.group, raw.id),
        from: person(header("from")),
        subject: cut(header("subject"), 200),
        time,
        parent: None,
        text: cut(body.trim(), TEXT_CHARS_MAX),
    };
    Parsed { mail, message_id: bracketed(header("message-id")), in_reply_to: bracketed(header("in-reply-to")) }
}

/// Headers by name in small letters, folded lines joined; of several the first.
fn headers(head: &str) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in head.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some(value) = current.as_ref().and_then(|name| headers.get_mut(name)) {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            let name = name.to_ascii_lowercase();
            current = (!headers.contains_key(&name)).then(|| name.clone());
            headers.entry(name).or_insert_with(|| value.trim().to_owned());
        } else {
            current = None;
        }
    }
    headers
}

/// `Name of the list <name.of.host>` → `name.of.host`; nothing where there is no such name.
fn list_name(list_id: &str) -> Option<String> {
    let name = list_id.rsplit_once('<')?.1.split('>').next()?.trim().to_ascii_lowercase();
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-' || c == '_');
    plain.then_some(name)
}

/// What stands between the first `<` and `>`.
fn bracketed(text: &str) -> String {
    text.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or_else(String::new, |(id, _)| id.to_owned())
}

/// The date of the line that a mailbox starts each mail with: `From x  Thu Aug 22 12:36:23 2002`.
fn envelope_date(head: &str) -> Option<i64> {
    let line = head.lines().next()?.strip_prefix("From ")?;
    let date: Vec<&str> = line.split_whitespace().skip(1).collect();
    let date = jiff::civil::DateTime::strptime("%a %b %d %H:%M:%S %Y", date.join(" ")).ok()?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(id: &str, head: &str) -> RawMail {
        RawMail { id: id.to_owned(), group: "ham".to_owned(), text: format!("{head}\n\nWrite to me@here.org.\n") }
    }

    #[test]
    fn lists_threads_and_dates_are_found_and_addresses_are_not() {
        let reply = "From r@x Thu Aug 22 12:36:23 2002\nFrom: B <b@x>\nMessage-ID: <2@x>\nIn-Reply-To:\n\t<1@x> of today\nList-Id: L <l.x>\nDate: Thu, 01 Jan 1970 00:00:20 +0000";
        let deeper =
            "From: b@x\nMessage-ID: <3@x>\nIn-Reply-To: <2@x>\nList-Id: <L.x>\nDate: Thu, 01 Jan 1970 00:00:30 +0000";
        let root =
            "Subject: to c@x\nFrom: A <a@x>\nMessage-ID: <1@x>\nList-Id: <l.x>\nDate: Thu, 01 Jan 1970 00:00:10 +0000";
        let stray = "From stray@x  Thu Aug 22 12:36:23 2002\nDate: never\nIn-Reply-To: <1@x>";
        let mails = parse_all(&[raw("3", deeper), raw("2", reply), raw("1", root), raw("4", stray)]);
        let seen: Vec<_> =
            mails.iter().map(|one| (one.list.as_str(), one.id.as_str(), one.time, one.parent.as_deref())).collect();
        let expected = [
            ("l.x", "ham-1", 10, None),
            ("l.x", "ham-2", 20, Some("ham-1")),
            ("l.x", "ham-3", 30, Some("ham-1")),
            ("unlisted-ham", "ham-4", 1_030_019_783, None),
        ];
        assert_eq!(seen, expected);
        assert_eq!((mails[0].subject.as_str(), mails[0].from.as_str()), ("to ***@***", "A"));
        assert!(mails.iter().all(|one| one.text == "Write to ***@***."));
    }
}
