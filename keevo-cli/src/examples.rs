//! Examples at every command: those of a group are also shown at the commands that they are of.
//!
//! Invariant: an example stands in one place, the group's; a test parses each, and finds one for every command.

use clap::Command;

/// The heading of examples, at the beginning of a line.
const HEADING: &str = "Examples:";

/// Gives each command below `root` that has no words of its own the examples that call it, from the groups above it.
pub(crate) fn shared(root: Command) -> Command {
    let name = root.get_name().to_owned();
    let above = lines(&root);
    below(root, &name, &above)
}

fn below(mut command: Command, path: &str, above: &[String]) -> Command {
    let mut known = above.to_vec();
    known.extend(lines(&command));
    let names: Vec<String> = command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    for name in names {
        let path = format!("{path} {name}");
        command = command.mut_subcommand(name, |one| {
            let own = of(&known, &path);
            let bare = one.get_after_help().is_none() && !own.is_empty();
            let one = if bare { one.after_help(format!("{HEADING}\n{}", own.join("\n"))) } else { one };
            below(one, &path, &known)
        });
    }
    command
}

/// The examples in a command's own words.
pub(crate) fn lines(command: &Command) -> Vec<String> {
    let words = command.get_after_help().or_else(|| command.get_after_long_help());
    let words = words.map(ToString::to_string).unwrap_or_default();
    words.lines().filter(|line| line.starts_with("  keevo-cli ")).map(str::to_owned).collect()
}

/// Those of `known` that call the command at `path`, each once.
fn of(known: &[String], path: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in known.iter().filter(|line| calls(line, path)) {
        if !found.contains(line) {
            found.push(line.clone());
        }
    }
    found
}

/// Whether an example calls the command at `path`, or one below it: its words come in that order, with flags between them.
pub(crate) fn calls(example: &str, path: &str) -> bool {
    let example = example.split('#').next().unwrap_or_default();
    let mut words = example.split_whitespace();
    let mut names = path.split(' ');
    // The program's own name.
    if words.next() != names.next() {
        return false;
    }
    let mut wanted = names.next();
    let mut value = false;
    for word in words {
        let Some(name) = wanted else { return true };
        if std::mem::take(&mut value) {
            continue;
        }
        if word.starts_with("--") {
            value = !word.contains('=');
        } else if word == name {
            wanted = names.next();
        } else {
            return false;
        }
    }
    wanted.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_of_the_command_that_it_calls() {
        assert!(calls("  keevo-cli kv get a/b --raw", "keevo-cli kv get"));
        assert!(calls("  keevo-cli --endpoints a:1 cluster status", "keevo-cli cluster status"));
        assert!(calls("  keevo-cli backup create      # prints", "keevo-cli backup create"));
        assert!(calls("  keevo-cli app key revoke 1 k", "keevo-cli app key"), "a group has those of its commands");
        assert!(!calls("  keevo-cli kv scan get", "keevo-cli kv get"));
        assert!(!calls("  keevo-cli kv", "keevo-cli kv get"));
    }
}
