//! The pages of `docs/api`, made from the `.proto` files, and the list of them in `docs/SUMMARY.md`.
//!
//! Invariant: what a page says of the contract stands in its `.proto` file and nowhere else; `tests/reference.rs` fails
//! where a page is not what its file gives, and `examples/reference.rs` writes all anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::proto::{self, Field, File, Type};

/// Why writing to a string cannot fail.
const GROWS: &str = "a string grows as needed";
/// Where the `.proto` files lie.
pub const PROTOS: &str = "keevo-server/proto/proto/";
/// Where the pages lie.
pub const PAGES: &str = "docs/api/";
/// The heading in `docs/SUMMARY.md` below which they are listed, up to the next.
pub const HEADING: &str = "# API reference";

/// Who a package is for.
const AUDIENCES: &[(&str, &str)] = &[
    ("keevo.kv.v1", "Keys and values"),
    ("keevo.feeds.v1", "Feeds"),
    ("keevo.chat.v1", "Chat"),
    ("keevo.admin.v1", "Administration"),
    ("keevo.moderation.v1", "The moderation sidecar"),
    ("keevo.raft.v1", "Between nodes; not for clients"),
];

/// A `.proto` file and the page that is made of it.
struct Source {
    path: String,
    page: String,
    file: File,
}

/// All pages, by their path in the tree.
///
/// # Errors
/// Names the file and the line that can't be read.
pub fn pages(protos: &[(String, String)]) -> Result<BTreeMap<String, String>, String> {
    let mut sources = Vec::new();
    for (path, text) in protos {
        let file = proto::read(text).map_err(|error| format!("{path}: {error}"))?;
        sources.push(Source { page: page_name(path), path: path.clone(), file });
    }
    let rank = |source: &Source| AUDIENCES.iter().position(|(package, _)| *package == source.file.package);
    sources.sort_by(|a, b| (rank(a), &a.page).cmp(&(rank(b), &b.page)));
    let mut pages = BTreeMap::new();
    for source in &sources {
        pages.insert(format!("{PAGES}{}", source.page), page(source, &sources));
    }
    pages.insert(format!("{PAGES}README.md"), index(&sources));
    Ok(pages)
}

/// `summary` with the list of the pages below [`HEADING`].
///
/// # Errors
/// Where there is no such heading.
pub fn summary(summary: &str, pages: &BTreeMap<String, String>) -> Result<String, String> {
    let (before, after) =
        summary.split_once(&format!("{HEADING}\n")).ok_or_else(|| format!("SUMMARY.md lacks `{HEADING}`"))?;
    let rest = after.find("\n# ").and_then(|at| after.get(at..)).unwrap_or_default();
    let index = format!("{PAGES}README.md");
    let mut list = "- [All services](api/README.md)\n".to_owned();
    for (path, text) in pages.iter().filter(|(path, _)| **path != index) {
        let title = text.lines().next().unwrap_or_default().trim_start_matches("# ");
        let path = path.strip_prefix("docs/").unwrap_or(path);
        writeln!(list, "  - [{title}]({path})").expect(GROWS);
    }
    Ok(format!("{before}{HEADING}\n\n{list}{rest}"))
}

/// `keevo/kv/v1/types.proto` becomes `kv-types.md`, `keevo/kv/v1/kv.proto` becomes `kv.md`.
fn page_name(path: &str) -> String {
    let parts: Vec<&str> = path.strip_prefix(PROTOS).unwrap_or(path).trim_end_matches(".proto").split('/').collect();
    match (parts.get(1), parts.last()) {
        (Some(package), Some(file)) if package == file => format!("{file}.md"),
        (Some(package), Some(file)) => format!("{package}-{file}.md"),
        _ => "other.md".to_owned(),
    }
}

fn title(source: &Source) -> String {
    let file = source.path.strip_prefix(PROTOS).unwrap_or(&source.path);
    file.strip_prefix("keevo/").unwrap_or(file).to_owned()
}

fn index(sources: &[Source]) -> String {
    let mut out = "# API reference\n\nMade from the comments of the [.proto files](../../keevo-server/proto/proto); \
                   `make reference` makes it anew. A node tells the same over gRPC reflection.\n\
                   The HTTP APIs describe themselves: `GET /openapi.json` (feeds, [FEEDS-REST](../FEEDS-REST.md)) and \
                   `GET /chat/v1/openapi.json` ([CHAT-API](../CHAT-API.md)).\n"
        .to_owned();
    for (package, audience) in AUDIENCES {
        let of_package = || sources.iter().filter(|source| source.file.package == *package);
        if of_package().next().is_none() {
            continue;
        }
        write!(out, "\n## {audience}\n\nPackage `{package}`.\n\n| call | what it does |\n| --- | --- |\n")
            .expect(GROWS);
        for source in of_package() {
            for service in &source.file.services {
                for call in &service.calls {
                    let name = format!("{}.{}", service.name, call.name);
                    let first = first_sentence(&call.about);
                    writeln!(out, "| [{name}]({}#{}) | {first} |", source.page, anchor(&name)).expect(GROWS);
                }
            }
        }
        let pages: Vec<String> = of_package().map(|source| format!("[{}]({})", title(source), source.page)).collect();
        writeln!(out, "\nPages: {}.", pages.join(", ")).expect(GROWS);
    }
    out
}

fn page(source: &Source, all: &[Source]) -> String {
    let file = &source.file;
    let mut out = format!("# {}\n\n", title(source));
    paragraphs(&mut out, &file.about);
    writeln!(out, "Package `{}`, [{}](../../{}).", file.package, title(source), source.path).expect(GROWS);
    for service in &file.services {
        write!(out, "\n## Service {}\n\n", service.name).expect(GROWS);
        paragraphs(&mut out, &service.about);
        for call in &service.calls {
            let side = |(stream, name): &(bool, String)| {
                let of = if *stream { "a stream of " } else { "" };
                format!("{of}{}", linked(name, "", source, all))
            };
            write!(out, "### {}.{}\n\n", service.name, call.name).expect(GROWS);
            write!(out, "Takes {}, gives {}.\n\n", side(&call.takes), side(&call.gives)).expect(GROWS);
            paragraphs(&mut out, &call.about);
        }
    }
    if !file.types.is_empty() {
        out.push_str("\n## Types\n");
    }
    for one in &file.types {
        write!(out, "\n### {}\n\n", heading(one)).expect(GROWS);
        paragraphs(&mut out, &one.about);
        table(&mut out, one, source, all);
    }
    let mut text = out.trim_end().to_owned();
    while text.contains("\n\n\n") {
        text = text.replace("\n\n\n", "\n\n");
    }
    text.push('\n');
    text
}

fn table(out: &mut String, one: &Type, source: &Source, all: &[Source]) {
    if one.fields.is_empty() {
        return;
    }
    out.push_str(if one.is_enum {
        "| value | number | meaning |\n| --- | --- | --- |\n"
    } else {
        "| field | type | number | meaning |\n| --- | --- | --- | --- |\n"
    });
    for field in &one.fields {
        let Field { name, label, kind, number, one_of, about } = field;
        let mut meaning = escaped(&about.join(" "));
        if let Some(which) = one_of {
            meaning = format!("One of `{which}`. {meaning}");
        }
        if one.is_enum {
            writeln!(out, "| `{name}` | {number} | {meaning} |").expect(GROWS);
            continue;
        }
        let kind = linked(kind, &one.name, source, all);
        let label = if label.is_empty() { String::new() } else { format!("{label} ") };
        writeln!(out, "| `{name}` | {label}{kind} | {number} | {meaning} |").expect(GROWS);
    }
}

/// A type as a link to where it is described; as code where it is one of protobuf's own.
fn linked(kind: &str, within: &str, source: &Source, all: &[Source]) -> String {
    if let Some((key, value)) = kind.strip_prefix("map<").and_then(|rest| rest.strip_suffix('>')?.split_once(", ")) {
        return format!("map of {} to {}", linked(key, within, source, all), linked(value, within, source, all));
    }
    let found = |wanted: &str, package: &str| {
        let mut of_package = all.iter().filter(|one| one.file.package == package);
        of_package.find_map(|one| Some((one, one.file.types.iter().find(|known| known.name == wanted)?)))
    };
    let package = source.file.package.as_str();
    let mut scope = within;
    let mut target = None;
    while target.is_none() && !scope.is_empty() {
        target = found(&format!("{scope}.{kind}"), package);
        scope = scope.rsplit_once('.').map_or("", |(outer, _)| outer);
    }
    let qualified = || kind.rsplit_once('.').and_then(|(package, name)| found(name, package));
    match target.or_else(|| found(kind, package)).or_else(qualified) {
        Some((home, known)) => {
            let page = if home.page == source.page { "" } else { &home.page };
            format!("[{}]({page}#{})", known.name, anchor(&heading(known)))
        }
        None => format!("`{kind}`"),
    }
}

fn heading(one: &Type) -> String {
    format!("{} {}", if one.is_enum { "enum" } else { "message" }, one.name)
}

/// The anchor that code hosts make of a heading.
fn anchor(heading: &str) -> String {
    crate::markdown::anchors(&format!("# {heading}\n")).pop().unwrap_or_default()
}

fn paragraphs(out: &mut String, about: &[String]) {
    for line in about {
        out.push_str(&escaped(line));
        out.push('\n');
    }
    if !about.is_empty() {
        out.push('\n');
    }
}

fn first_sentence(about: &[String]) -> String {
    let text = about.join(" ");
    let end = text.find(". ").map_or(text.len(), |at| at + 1);
    escaped(text.get(..end).unwrap_or(&text))
}

/// Text as it is, whatever Markdown would read into it; what is in backquotes stays code.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split('`').enumerate() {
        let is_code = at % 2 == 1;
        if at > 0 {
            out.push('`');
        }
        for c in part.chars() {
            match c {
                '|' => out.push_str("\\|"),
                '<' if !is_code => out.push_str("&lt;"),
                '*' | '[' | ']' if !is_code => {
                    out.push('\\');
                    out.push(c);
                }
                _ => out.push(c),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> BTreeMap<String, String> {
        let types = "// T.\nsyntax = \"proto3\";\npackage keevo.kv.v1;\n// A <b> | c.\nmessage Key {\n  // Of.\n  enum Of {\n    // No.\n    NO = 0;\n  }\n  // Its kind.\n  Of of = 1;\n}\n";
        let kv = "// K.\nsyntax = \"proto3\";\npackage keevo.kv.v1;\nimport \"keevo/kv/v1/types.proto\";\n// The service.\nservice Kv {\n  // Reads. More.\n  rpc Get(Key) returns (stream keevo.kv.v1.Key);\n}\n";
        let protos = [("kv/v1/types", types), ("kv/v1/kv", kv)];
        let protos = protos.map(|(path, text)| (format!("{PROTOS}keevo/{path}.proto"), text.to_owned()));
        pages(&protos).expect("they are made")
    }

    #[test]
    fn types_are_linked_to_where_they_are_described() {
        let pages = made();
        let kv = &pages["docs/api/kv.md"];
        assert!(kv.contains("Takes [Key](kv-types.md#message-key), gives a stream of [Key](kv-types.md#message-key)."));
        let types = &pages["docs/api/kv-types.md"];
        assert!(types.contains("| `of` | [Key.Of](#enum-keyof) | 1 | Its kind. |"), "{types}");
        assert!(types.contains("A &lt;b> \\| c."), "{types}");
        assert!(pages["docs/api/README.md"].contains("| [Kv.Get](kv.md#kvget) | Reads. |"));
    }

    #[test]
    fn the_summary_lists_every_page_and_keeps_the_rest() {
        let made = summary("# Summary\n\n# API reference\n\n- [old](old.md)\n\n# More\n", &made()).expect("made");
        assert_eq!(
            made,
            "# Summary\n\n# API reference\n\n- [All services](api/README.md)\n  - [kv/v1/types.proto](api/kv-types.md)\n  \
             - [kv/v1/kv.proto](api/kv.md)\n\n# More\n"
        );
        assert!(summary("# Summary\n", &BTreeMap::new()).is_err());
    }
}
