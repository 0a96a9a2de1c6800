//! The lists of `.deny.toml`, so that the rules stand in one place and hold where cargo-deny is not installed.
//!
//! Reads the shape in which that file is written, not TOML as a whole: a list opens with `name = [` and ends with
//! a line `]`, and the quoted strings in it count.

/// The quoted strings of the list `name` in `[section]`; empty where there is no such list.
pub fn list(config: &str, section: &str, name: &str) -> Vec<String> {
    let mut here = String::new();
    let mut inside = false;
    let mut found = Vec::new();
    for line in config.lines() {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        if !inside {
            if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                title.clone_into(&mut here);
            }
            let opens = line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with("= ["));
            inside = here == section && opens;
        }
        if inside {
            found.extend(line.split('"').skip(1).step_by(2).map(str::to_owned));
            inside = !line.ends_with(']');
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::list;

    const CONFIG: &str =
        "[a]\nallow = [\n  # \"no\"\n  \"x\",\n  \"y\",\n]\n[b]\nallow = [\"z\"]\ndeny = [\n { crate = \"q\" },\n]\n";

    #[test]
    fn lists_are_read_by_section() {
        assert_eq!(list(CONFIG, "a", "allow"), ["x", "y"]);
        assert_eq!(list(CONFIG, "b", "allow"), ["z"]);
        assert_eq!(list(CONFIG, "b", "deny"), ["q"]);
        assert!(list(CONFIG, "a", "deny").is_empty());
    }
}
