//! Search over the mailing lists, asked over HTTP as an app's server asks.
//!
//! Invariant: how many messages must be found is counted in the data, by the rules of the query alone; the figures of the
//! index are never taken for it.

use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keevo_core::{Error, ErrorKind, Result};
use keevo_demo::{Mismatches, Plan};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::apps_client::AppsClient;
use keevo_proto::error_from_status;
use keevo_search::{CutText, TextQuery};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::admin;
use super::nodes::Cluster;
use super::report::Screen;
use super::show::start_of;

/// What is searched for, and what nobody ever wrote.
const QUERY: &str = "\"mailing list\" subscri* -viagra";
const ABSENT: &str = "zeppelinologically";
/// How long an index may take to come to the end of the mails.
const FOUND_WITHIN: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(250);
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const ANSWER_BYTES_MAX: u64 = 16 << 20;
const SHOWN: usize = 3;
const PAGE: usize = 100;

/// Where a search is asked, and as whom.
struct Door {
    http: SocketAddr,
    key: String,
    token: String,
}

/// Searches the mails on every node, and shows what is found; a node that finds more or fewer than there are, or what is
/// not there, is a mismatch.
pub(super) async fn search(screen: Screen, cluster: &Cluster, plan: &Plan<'_>, mismatches: &Mismatches) -> Result<()> {
    let wanted = TextQuery::parse(QUERY)?;
    let expected = plan.dataset().mails.iter().filter(|mail| wanted.matches(&CutText::new(&mail.text))).count();
    screen.title(&format!("search: {QUERY}"))?;
    let (key, token) = app(cluster).await?;
    for (number, node) in cluster.nodes.iter().enumerate() {
        let door = Door { http: node.http, key: key.clone(), token: token.clone() };
        let until = Instant::now() + FOUND_WITHIN;
        let (found, results) = loop {
            let (found, results) = all(&door, QUERY).await?;
            if found == expected || Instant::now() > until {
                break (found, results);
            }
            tokio::time::sleep(POLL).await;
        };
        if number == 0 {
            show(screen, &results)?;
        }
        if found != expected {
            mismatches.add(format!("node {} finds {found} messages for {QUERY}, not {expected}", node.id));
        }
        let (absent, _) = all(&door, ABSENT).await?;
        if absent != 0 {
            mismatches.add(format!("node {} finds {absent} messages with a word that is in none", node.id));
        }
        screen.say(&format!("node {} finds {found} of {expected} messages, and none for {ABSENT}", node.id))?;
    }
    Ok(())
}

fn show(screen: Screen, results: &[Value]) -> Result<()> {
    for result in results.iter().take(SHOWN) {
        let text = |path: &str| result.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        screen.say(&format!("{}  {}: {}", text("/message/cid"), text("/message/user_id"), marked(result)))?;
    }
    Ok(())
}

/// The first line of the first highlight with what was found in it, in brackets.
fn marked(result: &Value) -> String {
    let Some(fragment) = result.pointer("/highlights/0") else { return String::new() };
    let units: Vec<u16> = fragment.get("text").and_then(Value::as_str).unwrap_or_default().encode_utf16().collect();
    let mut text = String::new();
    let mut at = 0;
    let piece = |from: usize, to: usize| String::from_utf16_lossy(units.get(from..to).unwrap_or_default());
    for range in fragment.get("ranges").and_then(Value::as_array).into_iter().flatten() {
        let end = |index: usize| range.get(index).and_then(Value::as_u64).and_then(|end| usize::try_from(end).ok());
        let (Some(from), Some(to)) = (end(0), end(1)) else { continue };
        for part in [&piece(at, from), "[", &piece(from, to), "]"] {
            text.push_str(part);
        }
        at = to;
    }
    text.push_str(&piece(at, units.len()));
    start_of(&text.replace('\n', " "), 100)
}

/// How many messages are found, page by page, and the first page of them.
async fn all(door: &Door, query: &str) -> Result<(usize, Vec<Value>)> {
    let (mut found, mut first) = (0, None);
    let mut body = json!({ "query": query, "limit": PAGE });
    loop {
        let page = ask(door, &body).await?;
        let results = page.get("results").and_then(Value::as_array).cloned().unwrap_or_default();
        found += results.len();
        first.get_or_insert(results);
        match page.get("next").filter(|next| next.is_string()) {
            Some(next) => {
                if let Some(body) = body.as_object_mut() {
                    body.insert("cursor".to_owned(), next.clone());
                }
            }
            None => return Ok((found, first.unwrap_or_default())),
        }
    }
}

async fn ask(door: &Door, body: &Value) -> Result<Value> {
    let Door { http, key, token } = door;
    let body = body.to_string();
    let request = format!(
        "POST /chat/v1/search?api_key={key} HTTP/1.1\r\nHost: {http}\r\nAuthorization: {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let io = |error: std::io::Error| Error::new(ErrorKind::Io, format!("{http} does not answer")).with_source(error);
    let asking = async {
        let mut stream = TcpStream::connect(http).await.map_err(io)?;
        stream.write_all(request.as_bytes()).await.map_err(io)?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.map_err(io)?;
        Ok::<_, Error>(answer)
    };
    let answer = tokio::time::timeout(ANSWER_WITHIN, asking)
        .await
        .map_err(|elapsed| Error::new(ErrorKind::DeadlineExceeded, "a search took too long").with_source(elapsed))??;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let detail = value.get("detail").and_then(Value::as_str).unwrap_or_default();
    if head.starts_with("HTTP/1.1 200") {
        return Ok(value);
    }
    // The index is not open yet.
    if head.starts_with("HTTP/1.1 503") {
        return Ok(Value::Null);
    }
    Err(Error::new(ErrorKind::Unavailable, format!("a search was refused: {detail}")))
}

/// The key of the app of the demo's chat, which is the first, and a server's token.
async fn app(cluster: &Cluster) -> Result<(String, String)> {
    let node = cluster.nodes.first().ok_or_else(|| Error::new(ErrorKind::Unavailable, "no node runs"))?;
    let mut apps = AppsClient::new(admin::channel(node.grpc)?);
    let request = pb::CreateAppRequest { name: "demo".to_owned(), ..pb::CreateAppRequest::default() };
    let made = apps.create_app(request).await.map_err(|status| error_from_status(&status))?.into_inner();
    let id = made.app.map_or(0, |app| app.id);
    if id != super::moderation::APP {
        return Err(Error::invalid(format!("the first app has the id {id}, not that of the mails")));
    }
    let signed = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = [json!({ "alg": "HS256", "typ": "JWT" }), json!({ "resource": "chat", "action": "read" })];
    let text = claims.map(signed).join(".");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, made.secret.as_bytes()), text.as_bytes());
    let token = format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag));
    Ok((made.key, token))
}
