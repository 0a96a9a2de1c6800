//! Text without the secrets in it: settings and lines of the log before they leave the node.
//!
//! Nothing in Keevo writes a secret into its log or a setting; this is the second lock on that door, since such text is sent
//! to others. What looks like a secret goes: keys of Keevo, JSON web tokens, passwords in addresses, private keys, and the
//! value after a name that says what it is.
//!
//! Invariant: what is replaced is replaced whole, and text without secrets stays as it is.

/// What stands in place of a secret.
pub const HIDDEN: &str = "[redacted]";
/// What the names of values that are secrets contain.
const NAMES: [&str; 7] = ["secret", "password", "passwd", "token", "credential", "authorization", "api_key"];
/// Names that end so hold the place of a secret, not the secret.
const PLACES: [&str; 3] = ["_file", "_path", "_dir"];
/// The least of a key's secret part that is taken for one.
const KEY_CHARS_MIN: usize = 16;

/// A line without secrets.
pub fn line(text: &str) -> String {
    if text.contains("PRIVATE KEY-----") {
        return HIDDEN.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // Whether the word before said that a secret follows.
    let mut follows = false;
    while !rest.is_empty() {
        let gap = rest.find(|c: char| !is_gap(c)).unwrap_or(rest.len());
        let (between, after) = rest.split_at(gap);
        out.push_str(between);
        // A name and its value may be parted by one sign and a blank; by more it is another thing.
        follows = follows && between.len() <= 4 && !between.contains(['\n', ',', ';']);
        let end = after.find(is_gap).unwrap_or(after.len());
        let (word, left) = after.split_at(end);
        if word.is_empty() {
            break;
        }
        let scheme = word.eq_ignore_ascii_case("bearer") || (follows && word.eq_ignore_ascii_case("basic"));
        if word == ":" || scheme {
            // What follows the sign, or the scheme, is what was announced.
            out.push_str(word);
            follows |= scheme;
        } else if follows || is_secret(word) {
            out.push_str(HIDDEN);
            follows = false;
        } else {
            out.push_str(&address(word));
            let assigns =
                word.ends_with(':') || left.starts_with('=') || left.starts_with("\":") || left.starts_with(" =");
            follows = assigns && names_secret(word);
        }
        rest = left;
    }
    out
}

/// A setting's value: hidden whole where its name says that it is a secret, and without secrets in any case.
pub fn setting(name: &str, value: &str) -> String {
    if !value.is_empty() && names_secret(name) {
        return HIDDEN.to_owned();
    }
    value.split(',').map(|part| without_query(&line(part))).collect::<Vec<_>>().join(",")
}

/// What ends a word. `@`, `/`, `.`, `-` and `_` are part of addresses and tokens.
fn is_gap(c: char) -> bool {
    c.is_whitespace() || c.is_control() || "\"'`=,;(){}[]<>&?".contains(c)
}

fn names_secret(name: &str) -> bool {
    let name = name.trim_end_matches(':').to_lowercase();
    !PLACES.iter().any(|end| name.ends_with(end)) && NAMES.iter().any(|word| name.contains(word))
}

/// Whether a word by itself is a key of Keevo or a JSON web token.
fn is_secret(word: &str) -> bool {
    let hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let key = word.split("keevo_").skip(1).any(|rest| {
        rest.split_once('_').is_some_and(|(id, secret)| {
            let secret = secret.trim_end_matches(['.', ':']);
            !id.is_empty() && hex(id) && secret.len() >= KEY_CHARS_MIN && hex(secret)
        })
    });
    let token = word.split_once("eyJ").is_some_and(|(_, rest)| rest.matches('.').count() >= 2 && rest.len() > 20);
    key || token
}

/// An address without the name and password before its host.
fn address(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{HIDDEN}@{host}{path}"),
        None => word.to_owned(),
    }
}

/// An address without its query, which may be signed.
fn without_query(text: &str) -> String {
    match text.split_once('?') {
        Some((address, _)) if address.contains("://") => format!("{address}?{HIDDEN}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "keevo_0a1b2c3d_00112233445566778899aabbccddeeff";
    const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoiYWxpY2UifQ.c2lnbmF0dXJl";

    #[test]
    fn secrets_go_and_what_is_around_them_stays() {
        for (text, expected) in [
            (format!("the key {KEY} is old"), "the key [redacted] is old".to_owned()),
            (format!("authorization: Bearer {TOKEN}"), "authorization: Bearer [redacted]".to_owned()),
            (format!("Bearer {KEY}, again"), "Bearer [redacted], again".to_owned()),
            (format!("GET /chat?user=a&jwt={TOKEN} 200"), "GET /chat?user=a&jwt=[redacted] 200".to_owned()),
            ("password=hunter2 user=bob".to_owned(), "password=[redacted] user=bob".to_owned()),
            (r#"{"app_secret":"hush","name":"x"}"#.to_owned(), r#"{"app_secret":"[redacted]","name":"x"}"#.to_owned()),
            (
                "copying to postgres://bob:hunter2@db.example:5432/keevo failed".to_owned(),
                "copying to postgres://[redacted]@db.example:5432/keevo failed".to_owned(),
            ),
            ("-----BEGIN PRIVATE KEY-----".to_owned(), HIDDEN.to_owned()),
        ] {
            assert_eq!(line(&text), expected);
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        for text in [
            "2026-11-28T10:00:00Z  INFO keevo_server::daemon: keevod serves node=1 grpc=127.0.0.1:7101",
            "keevo_raft_is_leader{shard=\"1\"} 1",
            "auth_admin_key_file = \"/etc/keevo/admin.key\"",
            "the token was refused: it has expired",
            "a secret, or none",
            "https://files.example.org/a/b.png",
            "",
        ] {
            assert_eq!(line(text), text);
        }
    }

    #[test]
    fn settings_hide_what_their_names_and_addresses_say() {
        assert_eq!(setting("webhook_secret", "hush"), HIDDEN);
        assert_eq!(setting("webhook_secret", ""), "");
        assert_eq!(setting("auth_admin_key_file", "/etc/key"), "/etc/key");
        assert_eq!(setting("archive_url", "s3://id:hush@bucket/p?sig=abc"), "s3://[redacted]@bucket/p?[redacted]");
        assert_eq!(setting("moderation_workers", "http://u:p@a:1,http://b:2"), "http://[redacted]@a:1,http://b:2");
        assert_eq!(setting("peers", "1=127.0.0.1:7101,2=127.0.0.1:7102"), "1=127.0.0.1:7101,2=127.0.0.1:7102");
    }
}
