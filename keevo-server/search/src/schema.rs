//! What a message is in the index: its fields and its names.
//!
//! | field | holds | for |
//! | --- | --- | --- |
//! | `key` | app, channel, place | replacing and removing it; what a hit names |
//! | `tag` | kind, app, name: of the app, the channel, the author, who is mentioned, whether there are attachments | filters |
//! | `text` | its words, each behind the app's number | words, phrases, beginnings |
//! | `at`, `uid` | when it was sent; its number in its sequence with a hash of `key` | the order of hits |
//! | `number` | its number in the channel, or that of what it replies to | truncation |
//!
//! Invariant: no term is shared by two apps: every one begins with the app's number. So a query of one app cannot meet a
//! message of another. Within an app it can meet what its asker may not read: so what is told of hits must not depend on
//! other messages, such as on how rare a word is.

use keevo_chat::{AppId, ChannelId, Message, Place};
use keevo_core::{Error, Result};
use tantivy::schema::{
    BytesOptions, FAST, Field, IndexRecordOption, NumericOptions, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::{Token, TokenStream, Tokenizer};
use tantivy::{TantivyDocument, Term};

use crate::words::{Words, words};

/// One more with every change of what is in the index, or of how texts are cut: an index of another format is rebuilt.
pub(crate) const FORMAT: u32 = 1;
/// The name of the tokenizer.
pub(crate) const TOKENIZER: &str = "keevo";
/// How many characters stand for the app before each word.
const APP_CHARS: usize = 8;

const PLACE_CHANNEL: u8 = 1;
const PLACE_THREAD: u8 = 2;

/// The fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    pub(crate) key: Field,
    pub(crate) tag: Field,
    pub(crate) text: Field,
    pub(crate) number: Field,
    at: Field,
    uid: Field,
}

/// What a tag says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag<'a> {
    App,
    Channel(&'a ChannelId),
    Author(&'a str),
    Mentions(&'a str),
    Attachments,
}

/// The name of the field with the time.
pub(crate) const AT: &str = "at";
/// The name of the field that orders messages of the same time, and is unique among them.
pub(crate) const UID: &str = "uid";

/// The schema and its fields.
pub(crate) fn schema() -> (Schema, Fields) {
    let mut builder = Schema::builder();
    let words = TextFieldIndexing::default()
        .set_tokenizer(TOKENIZER)
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let fields = Fields {
        key: builder.add_bytes_field("key", BytesOptions::default().set_indexed().set_stored()),
        tag: builder.add_bytes_field("tag", BytesOptions::default().set_indexed()),
        text: builder.add_text_field("text", TextOptions::default().set_indexing_options(words)),
        number: builder.add_u64_field("number", NumericOptions::default().set_fast()),
        at: builder.add_u64_field(AT, FAST),
        uid: builder.add_u64_field(UID, FAST),
    };
    (builder.build(), fields)
}

impl Fields {
    /// A message as a document.
    pub(crate) fn document(&self, app: AppId, channel: &ChannelId, message: &Message) -> TantivyDocument {
        let key = key(app, channel, message.place);
        let (Place::Channel(number) | Place::Thread { parent: number, .. }) = message.place;
        let mut document = TantivyDocument::new();
        document.add_u64(self.uid, (message.place.number() << 32) | (hash(&key) & 0xffff_ffff));
        document.add_bytes(self.key, &key);
        document.add_text(self.text, format!("{}{}", app_prefix(app), message.text));
        document.add_u64(self.at, message.created_at_ms);
        document.add_u64(self.number, number);
        let attachments = if message.attachments.is_empty() { None } else { Some(Tag::Attachments) };
        let named = [Tag::App, Tag::Channel(channel), Tag::Author(&message.user_id)];
        let mentions = message.mentions.users.iter().map(|user| Tag::Mentions(user));
        for tag in named.into_iter().chain(mentions).chain(attachments) {
            document.add_bytes(self.tag, &tag.bytes(app));
        }
        document
    }

    /// The term of a document's key.
    pub(crate) fn key_term(&self, key: &[u8]) -> Term {
        Term::from_field_bytes(self.key, key)
    }

    /// The term of a tag.
    pub(crate) fn tag_term(&self, app: AppId, tag: Tag<'_>) -> Term {
        Term::from_field_bytes(self.tag, &tag.bytes(app))
    }

    /// The term of a word, or of the beginning of one.
    pub(crate) fn word_term(&self, app: AppId, word: &str) -> Term {
        Term::from_field_text(self.text, &format!("{}{word}", app_prefix(app)))
    }
}

impl Tag<'_> {
    fn bytes(self, app: AppId) -> Vec<u8> {
        let (kind, name) = match self {
            Self::App => (0, ""),
            Self::Channel(channel) => (1, channel.as_str()),
            Self::Author(user) => (2, user),
            Self::Mentions(user) => (3, user),
            Self::Attachments => (4, ""),
        };
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&app.0.to_be_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes
    }
}

/// What stands before each word of an app.
fn app_prefix(app: AppId) -> String {
    format!("{:08x}", app.0)
}

/// The key of a message: its app, its channel, and its place behind a 00, which no channel's name holds.
pub(crate) fn key(app: AppId, channel: &ChannelId, place: Place) -> Vec<u8> {
    let mut key = app.0.to_be_bytes().to_vec();
    key.extend_from_slice(channel.as_str().as_bytes());
    key.push(0);
    match place {
        Place::Channel(number) => {
            key.push(PLACE_CHANNEL);
            key.extend_from_slice(&number.to_be_bytes());
        }
        Place::Thread { parent, reply } => {
            key.push(PLACE_THREAD);
            key.extend_from_slice(&parent.to_be_bytes());
            key.extend_from_slice(&reply.to_be_bytes());
        }
    }
    key
}

/// What a key names.
pub(crate) fn parse_key(key: &[u8]) -> Result<(AppId, ChannelId, Place)> {
    let broken = || Error::corrupt("the key of a message in the search index does not decode");
    let (app, rest) = key.split_first_chunk::<4>().ok_or_else(broken)?;
    let end = rest.iter().position(|byte| *byte == 0).ok_or_else(broken)?;
    let (name, place) = rest.split_at_checked(end).ok_or_else(broken)?;
    let name = std::str::from_utf8(name).map_err(|error| broken().with_source(error))?;
    let number = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).map(u64::from_be_bytes).map_err(|_length| broken());
    let place = match place {
        [0, PLACE_CHANNEL, at @ ..] => Place::Channel(number(at)?),
        [0, PLACE_THREAD, at @ ..] => {
            let (parent, reply) = at.split_at_checked(8).ok_or_else(broken)?;
            Place::Thread { parent: number(parent)?, reply: number(reply)? }
        }
        _ => return Err(broken()),
    };
    Ok((AppId(u32::from_be_bytes(*app)), name.parse()?, place))
}

/// A hash that is the same on every machine and in every version (FNV-1a).
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Cuts texts for the index: the first characters are the app's, and stand before each word.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AppTokenizer;

/// The words of one text.
pub(crate) struct AppStream<'a> {
    prefix: &'a str,
    words: Words<'a>,
    token: Token,
}

impl Tokenizer for AppTokenizer {
    type TokenStream<'a> = AppStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> AppStream<'a> {
        let (prefix, text) = text.split_at_checked(APP_CHARS).unwrap_or((text, ""));
        AppStream { prefix, words: words(text), token: Token::default() }
    }
}

impl TokenStream for AppStream<'_> {
    fn advance(&mut self) -> bool {
        let Some(word) = self.words.next() else { return false };
        self.token.text.clear();
        self.token.text.push_str(self.prefix);
        self.token.text.push_str(&word.text);
        self.token.position = self.token.position.wrapping_add(1);
        self.token.offset_from = word.at.start + self.prefix.len();
        self.token.offset_to = word.at.end + self.prefix.len();
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back() {
        let channel: ChannelId = "team:a:b".parse().expect("a name");
        for place in [Place::Channel(7), Place::Thread { parent: 7, reply: 2 }] {
            let key = key(AppId(9), &channel, place);
            assert_eq!(parse_key(&key).expect("read"), (AppId(9), channel.clone(), place));
            for end in 0..key.len() {
                parse_key(&key[..end]).expect_err("cut off");
            }
        }
    }

    #[test]
    fn words_of_two_apps_share_no_term() {
        let mut tokenizer = AppTokenizer;
        let mut terms = |app: u32| {
            let text = format!("{}Hello, World", app_prefix(AppId(app)));
            let mut stream = tokenizer.token_stream(&text);
            let mut found = Vec::new();
            while stream.advance() {
                found.push((stream.token().text.clone(), stream.token().position));
            }
            found
        };
        assert_eq!(terms(1), [("00000001hello".to_owned(), 0), ("00000001world".to_owned(), 1)]);
        assert_eq!(terms(0x1a), [("0000001ahello".to_owned(), 0), ("0000001aworld".to_owned(), 1)]);
    }
}
