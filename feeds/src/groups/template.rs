//! Templates: the text that gathers activities, such as `{{ verb }}_{{ time.strftime("%Y-%m-%d") }}`.
//!
//! ```text
//! template  = (text | "{{" value "}}")*
//! value     = verb | actor | object | target | foreign_id | id | time | a custom field's name
//!           | verb.infinitive | time.strftime("…") | feed.group | feed.slug | feed.user_id | feed.id
//! ```
//!
//! A field that is absent is empty. What is rendered has a bounded length; a longer one ends in a hash of all of it.

use std::fmt;

use keevo_core::{Error, Result};
use serde_json::{Map, Value};

use crate::feed_id::FeedId;
use crate::ids::{ActivityId, spread};
use crate::rows::ActivityRow;

/// The longest template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 4_096;
/// The longest text that gathers activities, in bytes.
const RENDERED_BYTES_MAX: usize = 512;
/// Stands for the feed's id until the text is shown: rows are written alike in all feeds of a slug.
const FEED_ID_MARK: char = '\u{1}';
const DEFAULT: &str = r#"{{ verb }}_{{ time.strftime("%Y-%m-%d") }}"#;

/// A template that was read without errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Verb,
    Actor,
    Object,
    Target,
    ForeignId,
    Id,
    Time,
    Strftime(String),
    FeedSlug,
    FeedId,
    Custom(String),
}

impl Template {
    /// Reads a template; `Invalid` says in which byte it is wrong.
    ///
    /// ```
    /// # use keevo_feeds::Template;
    /// assert!(Template::parse(r#"{{ actor }}_{{ time.strftime("%Y-%W") }}"#).is_ok());
    /// let error = Template::parse("{{ verb | upper }}").unwrap_err();
    /// assert!(error.to_string().contains("at byte 3"), "{error}");
    /// ```
    pub fn parse(source: &str) -> Result<Self> {
        if source.is_empty() || source.len() > TEMPLATE_BYTES_MAX {
            return Err(Error::invalid(format!("an aggregation template has 1 to {TEMPLATE_BYTES_MAX} bytes")));
        }
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some((text, after)) = rest.split_once("{{") {
            push_text(&mut parts, text, source)?;
            let at = source.len() - after.len();
            let (value, behind) = after.split_once("}}").ok_or_else(|| wrong(at - 2, "a {{ has no }} that ends it"))?;
            let lead = value.len() - value.trim_start().len();
            parts.push(parse_value(value.trim()).map_err(|why| wrong(at + lead, &why))?);
            rest = behind;
        }
        push_text(&mut parts, rest, source)?;
        Ok(Self { source: source.to_owned(), parts })
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text that gathers an activity in feeds of a slug; [`shown`] completes it for one of them.
    pub(crate) fn render(&self, slug: &str, id: ActivityId, row: &ActivityRow) -> Result<String> {
        let custom: Map<String, Value> = if self.parts.iter().any(|part| matches!(part, Part::Custom(_))) {
            crate::json::decode_object(&row.custom)?
        } else {
            Map::new()
        };
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Verb => push(&mut out, &row.verb),
                Part::Actor => push(&mut out, &row.actor),
                Part::Object => push(&mut out, &row.object),
                Part::Target => push(&mut out, &row.target),
                Part::ForeignId => push(&mut out, &row.foreign_id),
                Part::Id => out.push_str(&id.to_string()),
                Part::Time => out.push_str(&id.time().to_string()),
                Part::Strftime(format) => push(&mut out, &id.time().strftime(format)?),
                Part::FeedSlug => out.push_str(slug),
                Part::FeedId => out.push(FEED_ID_MARK),
                Part::Custom(name) => match custom.get(name) {
                    None | Some(Value::Null) => {}
                    Some(Value::String(text)) => push(&mut out, text),
                    Some(other) => push(&mut out, &other.to_string()),
                },
            }
        }
        Ok(bounded(out))
    }
}

impl Default for Template {
    /// By verb and day.
    fn default() -> Self {
        let parts = vec![Part::Verb, Part::Text("_".to_owned()), Part::Strftime("%Y-%m-%d".to_owned())];
        Self { source: DEFAULT.to_owned(), parts }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.source).finish()
    }
}

/// The text as a feed shows it.
pub(crate) fn shown(text: &str, feed: &FeedId) -> String {
    text.replace(FEED_ID_MARK, feed.id())
}

fn parse_value(value: &str) -> std::result::Result<Part, String> {
    if let Some(call) = value.strip_prefix("time.strftime(") {
        let quoted = call.strip_suffix(')').map(str::trim).ok_or("time.strftime( has no )")?;
        let format = ['"', '\'']
            .iter()
            .find_map(|quote| quoted.strip_prefix(*quote)?.strip_suffix(*quote))
            .ok_or("time.strftime takes one text in quotes, such as \"%Y-%m-%d\"")?;
        let any = ActivityId::sample_time();
        return match any.strftime(format) {
            Ok(_) => Ok(Part::Strftime(format.to_owned())),
            Err(error) => Err(error.message().to_owned()),
        };
    }
    Ok(match value {
        "verb" | "verb.infinitive" | "verb.id" => Part::Verb,
        "actor" => Part::Actor,
        "object" => Part::Object,
        "target" => Part::Target,
        "foreign_id" => Part::ForeignId,
        "id" => Part::Id,
        "time" => Part::Time,
        "feed.group" | "feed.slug" => Part::FeedSlug,
        "feed.user_id" | "feed.id" => Part::FeedId,
        name if !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-')) => {
            Part::Custom(name.to_owned())
        }
        other => {
            return Err(format!(
                "{other:?} is no value: there are verb, actor, object, target, foreign_id, id, time, time.strftime(\"…\"), \
                 feed.group, feed.user_id and the names of custom fields"
            ));
        }
    })
}

fn push_text(parts: &mut Vec<Part>, text: &str, source: &str) -> Result<()> {
    if let Some((before, _)) = text.split_once("}}") {
        let at = (text.as_ptr().addr() - source.as_ptr().addr()) + before.len();
        return Err(wrong(at, "a }} has no {{ before it"));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid("an aggregation template holds no control characters"));
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
    Ok(())
}

fn wrong(at: usize, why: &str) -> Error {
    Error::invalid(format!("the aggregation template is wrong at byte {at}: {why}"))
}

/// Adds a value without its control characters, which mark what is filled in later.
fn push(out: &mut String, value: &str) {
    out.extend(value.chars().filter(|c| !c.is_control()));
}

fn bounded(text: String) -> String {
    if text.len() <= RENDERED_BYTES_MAX {
        return text;
    }
    let hash = format!("#{:016x}", spread(&text));
    let end = text.floor_char_boundary(RENDERED_BYTES_MAX - hash.len());
    format!("{}{hash}", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AppId, Identity};

    fn rendered(template: &str, custom: &str) -> String {
        let time = "2026-05-01T12:30:00".parse().expect("a time");
        let id = ActivityId::compute(AppId(1), time, Identity::ForeignId("like:1"));
        let row = ActivityRow {
            verb: "like".to_owned(),
            actor: "user:1".to_owned(),
            object: "pic:7".to_owned(),
            foreign_id: "like:1".to_owned(),
            custom: custom.as_bytes().to_vec().into(),
            ..ActivityRow::default()
        };
        let text = Template::parse(template).expect("a template").render("notification", id, &row).expect("it renders");
        shown(&text, &"notification:ann".parse().expect("a feed"))
    }

    #[test]
    fn what_templates_give() {
        let lines = [
            DEFAULT,
            "{{verb.infinitive}}/{{ actor }}/{{ object }}/{{ target }}/{{ foreign_id }}",
            "{{ time }} {{ time.strftime('week %V of %G') }}",
            "{{ feed.group }} of {{ feed.user_id }}",
            "{{ topic }}-{{ level }}-{{ absent }}-{{ nothing }}",
            "no value at all",
        ]
        .map(|template| rendered(template, r#"{"topic":"ru\u0001st","level":3,"nothing":null}"#) + "\n")
        .concat();
        expect_test::expect![[r"
            like_2026-05-01
            like/user:1/pic:7//like:1
            2026-05-01T12:30:00.000000 week 18 of 2026
            notification of ann
            rust-3--
            no value at all
        "]]
        .assert_eq(&lines);
        assert_eq!(Template::parse(DEFAULT).expect("it is one"), Template::default());
    }

    #[test]
    fn bad_templates_say_where() {
        let refusals = [
            "",
            "{{ verb",
            "verb }}",
            "{{ }}",
            "a{{ x y }}",
            "{{ time.strftime(1) }}",
            "{{ time.strftime(\"%\") }}",
            "a\u{1}",
        ]
        .map(|template| format!("{template:?}: {}\n", Template::parse(template).expect_err("it is wrong").message()))
        .concat();
        expect_test::expect![[r#"
            "": an aggregation template has 1 to 4096 bytes
            "{{ verb": the aggregation template is wrong at byte 0: a {{ has no }} that ends it
            "verb }}": the aggregation template is wrong at byte 5: a }} has no {{ before it
            "{{ }}": the aggregation template is wrong at byte 3: "" is no value: there are verb, actor, object, target, foreign_id, id, time, time.strftime("…"), feed.group, feed.user_id and the names of custom fields
            "a{{ x y }}": the aggregation template is wrong at byte 4: "x y" is no value: there are verb, actor, object, target, foreign_id, id, time, time.strftime("…"), feed.group, feed.user_id and the names of custom fields
            "{{ time.strftime(1) }}": the aggregation template is wrong at byte 3: time.strftime takes one text in quotes, such as "%Y-%m-%d"
            "{{ time.strftime(\"%\") }}": the aggregation template is wrong at byte 3: "%" is no format of strftime: strftime formatting failed: invalid format string, expected byte after `%`, but found end of format string
            "a\u{1}": an aggregation template holds no control characters
        "#]].assert_eq(&refusals);
        assert!(Template::parse(&"x".repeat(TEMPLATE_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn long_texts_are_cut_and_stay_apart() {
        let long = |end: &str| rendered("{{ topic }}", &format!(r#"{{"topic":"{}{end}"}}"#, "ä".repeat(600)));
        assert!(long("a").len() <= RENDERED_BYTES_MAX);
        assert_ne!(long("a"), long("b"));
        assert_eq!(long("a"), long("a"));
    }
}
