//! What the links of a Markdown text point to, and the anchors of its headings.
//!
//! Invariant: code, fenced or inline, holds no links and no headings.

/// The targets of the links in `text`, in order: inline ones, pictures and reference definitions.
pub fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        if let Some((_, target)) = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
            found.extend(target.split_whitespace().next().map(str::to_owned));
        }
        let mut rest = line.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, next)) = after.split_once(')') else { break };
            found.extend(target.split_whitespace().next().map(|one| one.trim_matches(['<', '>']).to_owned()));
            rest = next;
        }
    }
    found
}

/// The inline links in `text`, in order: what they are called, and where they lead.
pub fn named_links(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in prose(text) {
        let mut rest = line.as_str();
        while let Some((before, after)) = rest.split_once("](") {
            let Some((target, next)) = after.split_once(')') else { break };
            let name = before.rsplit_once('[').map_or(before, |(_, name)| name);
            found.push((name.to_owned(), target.trim().to_owned()));
            rest = next;
        }
    }
    found
}

/// The anchors of the headings in `text`, as code hosts make them.
pub fn anchors(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() < line.len() && title.starts_with(' ') {
            let anchor = anchor(title.trim());
            let twins = found.iter().filter(|one| **one == anchor).count();
            found.push(if twins == 0 { anchor } else { format!("{anchor}-{twins}") });
        }
    }
    found
}

fn anchor(title: &str) -> String {
    title
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// The lines outside fenced code, without their inline code.
fn prose(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let is_heading = line.starts_with('#');
            // A heading's code is part of its anchor.
            let kept = line.split('`').enumerate().filter(|(at, _)| is_heading || at % 2 == 0);
            lines.push(kept.map(|(_, part)| part).collect());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A `b` title, 1.2!\n[x](a.md) and ![y](<p.png> \"t\") `[no](no.md)`\n```\n[no](no.md)\n# no\n```\n## Same\n## Same\n[ref]: d/e.md#f\n";

    #[test]
    fn links_outside_code_are_found() {
        assert_eq!(links(TEXT), ["a.md", "p.png", "d/e.md#f"]);
    }

    #[test]
    fn links_have_names() {
        let names: Vec<(String, String)> = named_links(TEXT);
        assert_eq!(names, [("x".into(), "a.md".into()), ("y".into(), "<p.png> \"t\"".into())]);
    }

    #[test]
    fn anchors_are_as_code_hosts_make_them() {
        assert_eq!(anchors(TEXT), ["a-b-title-12", "same", "same-1"]);
    }
}
