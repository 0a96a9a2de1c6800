//! Open Graph: what a page says of itself.

use serde_json::{Map, Value, json};
use url::Url;

use crate::auth::rights;
use crate::call::Call;
use crate::error::{ApiError, ApiResult};
use crate::reply::Reply;

/// How much of a page is read: what it says of itself stands at its top.
const PAGE_BYTES_MAX: usize = 512 << 10;
/// The longest value that is kept, in bytes.
const VALUE_BYTES_MAX: usize = 4_096;
/// The most images, videos and sounds.
const MEDIA_MAX: usize = 20;

/// Scrapes the page that `url` names.
pub(super) async fn get(call: &Call) -> ApiResult<Reply> {
    rights::policy(&call.principal, call.app.policies.og_read, "have pages scraped")?;
    let url = call.query.get("url").ok_or_else(|| ApiError::field("url", "is missing"))?;
    let page = call.gateway.fetcher.get(url, PAGE_BYTES_MAX).await?;
    if !(page.kind.is_empty() || page.kind.contains("html")) {
        return Err(ApiError::field("url", format!("is of the type {}, and no page", page.kind)));
    }
    let fields = scrape(&String::from_utf8_lossy(&page.body), &page.url);
    if fields.is_empty() {
        return Err(ApiError::field("url", "leads to a page that says nothing of itself"));
    }
    Ok(Reply::ok(Value::Object(fields)))
}

/// What a page says of itself: Open Graph first, then its title and description.
fn scrape(page: &str, url: &Url) -> Map<String, Value> {
    let mut og = Map::new();
    let mut media: [(&str, Vec<Map<String, Value>>); 3] =
        [("images", Vec::new()), ("videos", Vec::new()), ("audios", Vec::new())];
    let (mut title, mut description) = (None, None);
    for tag in tags(page) {
        if tag.name == "title" {
            title = title.or_else(|| Some(value(tag.text)));
            continue;
        }
        let attributes = attributes(tag.text);
        let get = |name: &str| attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let Some(content) = get("content") else { continue };
        let property = get("property").or_else(|| get("name")).unwrap_or_default().to_lowercase();
        if property == "description" {
            description = description.or_else(|| Some(value(content)));
        }
        let Some(property) = property.strip_prefix("og:") else { continue };
        let (head, rest) = property.split_once(':').unwrap_or((property, ""));
        let list = match head {
            "image" => media.get_mut(0),
            "video" => media.get_mut(1),
            "audio" => media.get_mut(2),
            _ => None,
        };
        match list {
            Some((_, list)) => add_media(list, head, rest, content, url),
            None if matches!(
                head,
                "title" | "type" | "url" | "site" | "site_name" | "description" | "determiner" | "locale"
            ) =>
            {
                og.entry(head.to_owned()).or_insert_with(|| json!(value(content)));
            }
            None => {}
        }
    }
    for (name, text) in [("title", title), ("description", description)] {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            og.entry(name.to_owned()).or_insert_with(|| json!(text));
        }
    }
    for (name, list) in media {
        if !list.is_empty() {
            og.insert(name.to_owned(), json!(list));
        }
    }
    if !og.is_empty() {
        og.entry("url".to_owned()).or_insert_with(|| json!(url.as_str()));
        og.entry("title".to_owned()).or_insert_with(|| json!(""));
        og.entry("description".to_owned()).or_insert_with(|| json!(""));
    }
    og
}

/// `og:image` begins another image; `og:image:width` and its like are said of the last one.
fn add_media(list: &mut Vec<Map<String, Value>>, head: &str, rest: &str, content: &str, url: &Url) {
    let absolute = || url.join(content.trim()).map_or_else(|_bad| value(content), |url| url.to_string());
    if rest.is_empty() || (rest == "url" && list.last().is_none_or(|last| last.contains_key(head))) {
        if list.len() < MEDIA_MAX {
            list.push(Map::from_iter([(head.to_owned(), json!(absolute()))]));
        }
        return;
    }
    if let (Some(last), true) = (list.last_mut(), matches!(rest, "secure_url" | "type" | "width" | "height" | "alt")) {
        let text = if rest == "secure_url" { absolute() } else { value(content) };
        last.insert(rest.to_owned(), json!(text));
    }
}

/// A tag that says something: `meta` with its attributes, `title` with its text.
struct Tag<'a> {
    name: &'static str,
    text: &'a str,
}

/// The tags of a page, in order. What stands in comments and scripts is passed over.
fn tags(page: &str) -> impl Iterator<Item = Tag<'_>> {
    let mut rest = page;
    std::iter::from_fn(move || {
        loop {
            rest = rest.get(rest.find('<')? + 1..)?;
            if let Some(comment) = rest.strip_prefix("!--") {
                rest = comment.get(comment.find("-->")?..)?;
                continue;
            }
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            let name = rest.get(..end)?.to_ascii_lowercase();
            match name.as_str() {
                "script" | "style" | "noscript" => {
                    let lower = rest.to_ascii_lowercase();
                    rest = rest.get(lower.find(&format!("</{name}"))?..)?;
                }
                "meta" => {
                    let (text, after) = rest.get(end..)?.split_at(tag_end(rest.get(end..)?)?);
                    rest = after;
                    return Some(Tag { name: "meta", text });
                }
                "title" => {
                    rest = rest.get(rest.find('>')? + 1..)?;
                    let (text, after) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
                    rest = after;
                    return Some(Tag { name: "title", text });
                }
                _ => {}
            }
        }
    })
}

/// Where a tag ends: at a `>` that stands in no quotes.
fn tag_end(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '>') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

/// The attributes of a tag, names in lower case, values without entities.
fn attributes(text: &str) -> Vec<(String, String)> {
    let mut attributes = Vec::new();
    let mut rest = text.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
    while !rest.is_empty() && attributes.len() < 50 {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let after = after.trim_start();
        let (text, after) = match after.strip_prefix('=').map(str::trim_start) {
            None => ("", after),
            Some(quoted) => match quoted.chars().next().filter(|c| matches!(c, '"' | '\'')) {
                Some(quote) => {
                    let inside = quoted.get(1..).unwrap_or_default();
                    inside.split_once(quote).unwrap_or((inside, ""))
                }
                None => quoted.split_at(quoted.find(char::is_whitespace).unwrap_or(quoted.len())),
            },
        };
        attributes.push((name.to_ascii_lowercase(), unescape(text)));
        rest = after.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        if name.is_empty() && text.is_empty() {
            rest = rest.get(rest.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default();
        }
    }
    attributes
}

/// A text as it is kept: without entities and blanks around it, and not too long.
fn value(text: &str) -> String {
    let mut text = unescape(text).trim().to_owned();
    if text.len() > VALUE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(VALUE_BYTES_MAX));
    }
    text
}

/// Replaces the entities that pages use.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let entity = after.split_once(';').filter(|(name, _)| name.len() <= 8).and_then(|(name, after)| {
            let code = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
            let c = match name {
                "amp" => Some('&'),
                "lt" => Some('<'),
                "gt" => Some('>'),
                "quot" => Some('"'),
                "apos" => Some('\''),
                "nbsp" => Some(' '),
                _ => match name.strip_prefix("#x").or_else(|| name.strip_prefix("#X")) {
                    Some(digits) => code(digits, 16),
                    None => name.strip_prefix('#').and_then(|digits| code(digits, 10)),
                },
            };
            c.map(|c| (c, after))
        });
        let (c, after) = entity.unwrap_or(('&', after));
        out.push(c);
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scraped(page: &str) -> Value {
        Value::Object(scrape(page, &Url::parse("https://example.org/a/b").expect("an address")))
    }

    #[test]
    fn open_graph_of_a_page() {
        let page = r#"<html><head><!-- <meta property="og:title" content="no"> --><TITLE>Fallback</TITLE>
            <script>"<meta property='og:title' content='no'>"</script>
            <meta property="og:title" content="A &amp; B > C"><meta content='d&#39;or' name=description />
            <meta property=og:type content=article><meta property="og:image" content="/i.png">
            <meta property="og:image:width" content="10"><meta property="og:image" content="https://x.org/j.png">
            <meta property="og:unknown" content="x">"#;
        assert_eq!(
            scraped(page),
            json!({
                "title": "A & B > C", "description": "d'or", "type": "article", "url": "https://example.org/a/b",
                "images": [{ "image": "https://example.org/i.png", "width": "10" }, { "image": "https://x.org/j.png" }],
            })
        );
        let plain = scraped("<title> Only a title </title>");
        assert_eq!(plain.get("title"), Some(&json!("Only a title")));
        assert_eq!(scraped("<p>nothing</p>"), json!({}));
    }

    #[test]
    fn broken_pages_end() {
        for page in [
            "<",
            "<meta",
            "<meta content=",
            "<meta content='x",
            "<title>",
            "<!--",
            "<script>",
            "<meta = = =>",
            "é<meta é='é'>",
        ] {
            scraped(page);
        }
        let long = format!("<meta property='og:title' content='{}'>", "é".repeat(5_000));
        assert!(
            scraped(&long).get("title").and_then(Value::as_str).is_some_and(|title| title.len() <= VALUE_BYTES_MAX)
        );
    }
}
