//! The `.proto` files of the tree, read as far as a reference needs it: what is declared, and what its comments say.
//!
//! It reads the style of this tree: a declaration a line, comments above it, no options.
//!
//! Invariant: every service, call, message, field, enum and value of a file is in what is read, in the file's order.

/// A file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct File {
    /// The package, such as `keevo.kv.v1`.
    pub package: String,
    /// What the file says of itself.
    pub about: Vec<String>,
    /// Its services.
    pub services: Vec<Service>,
    /// Its messages and enums, each outer one before those within it.
    pub types: Vec<Type>,
}

/// A service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// What it is.
    pub about: Vec<String>,
    /// Its calls.
    pub calls: Vec<Call>,
}

/// A call of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// What it does.
    pub about: Vec<String>,
    /// What it takes: whether it is a stream, and the type.
    pub takes: (bool, String),
    /// What it gives: whether it is a stream, and the type.
    pub gives: (bool, String),
}

/// A message or an enum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Type {
    /// Its name, with those around it: `Consistency.Level`.
    pub name: String,
    /// Whether it is an enum.
    pub is_enum: bool,
    /// What it is.
    pub about: Vec<String>,
    /// Its fields or values.
    pub fields: Vec<Field>,
}

/// A field of a message, or a value of an enum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// `optional`, `repeated`, or nothing.
    pub label: String,
    /// Its type; empty for a value.
    pub kind: String,
    /// Its number.
    pub number: String,
    /// The `oneof` that it belongs to, if any.
    pub one_of: Option<String>,
    /// What it means.
    pub about: Vec<String>,
}

/// What is open around a line.
enum Scope {
    Service,
    Type(usize),
    OneOf(String),
}

/// Reads a file; what is wrong, and in which line, where a line is none that it knows.
///
/// # Errors
/// Says the line.
pub fn read(text: &str) -> Result<File, String> {
    let mut file = File::default();
    let mut comment = Vec::new();
    let mut open: Vec<Scope> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(said) = line.strip_prefix("//") {
            comment.push(said.strip_prefix(' ').unwrap_or(said).to_owned());
            continue;
        }
        let about = std::mem::take(&mut comment);
        if line.is_empty() || line.starts_with("import ") {
            continue;
        }
        read_line(&mut file, &mut open, line, about).ok_or_else(|| format!("line {}: `{line}`", number + 1))?;
    }
    if open.is_empty() { Ok(file) } else { Err("the file ends within a declaration".to_owned()) }
}

fn read_line(file: &mut File, open: &mut Vec<Scope>, line: &str, about: Vec<String>) -> Option<()> {
    if line == "}" {
        return open.pop().map(|_| ());
    }
    if line.starts_with("syntax ") {
        file.about = about;
        return Some(());
    }
    if let Some(package) = line.strip_prefix("package ") {
        package.trim_end_matches(';').clone_into(&mut file.package);
        return Some(());
    }
    if let Some(rest) = line.strip_prefix("service ") {
        file.services.push(Service { name: opened(rest)?.0, about, calls: Vec::new() });
        open.push(Scope::Service);
        return Some(());
    }
    for (word, is_enum) in [("message ", false), ("enum ", true)] {
        if let Some(rest) = line.strip_prefix(word) {
            let (name, is_open) = opened(rest)?;
            let outer = open.iter().rev().find_map(|scope| match scope {
                Scope::Type(at) => file.types.get(*at),
                Scope::Service | Scope::OneOf(_) => None,
            });
            let name = outer.map_or_else(|| name.clone(), |outer| format!("{}.{name}", outer.name));
            file.types.push(Type { name, is_enum, about, fields: Vec::new() });
            if is_open {
                open.push(Scope::Type(file.types.len() - 1));
            }
            return Some(());
        }
    }
    if let Some(rest) = line.strip_prefix("oneof ") {
        open.push(Scope::OneOf(opened(rest)?.0));
        return Some(());
    }
    if let Some(rest) = line.strip_prefix("rpc ") {
        file.services.last_mut()?.calls.push(call(rest, about)?);
        return Some(());
    }
    let one_of = match open.last()? {
        Scope::OneOf(name) => Some(name.clone()),
        Scope::Service | Scope::Type(_) => None,
    };
    let at = open.iter().rev().find_map(|scope| if let Scope::Type(at) = scope { Some(*at) } else { None })?;
    file.types.get_mut(at)?.fields.push(field(line, one_of, about)?);
    Some(())
}

/// The name of `NAME {`, which is open, or of `NAME {}`, which is not.
fn opened(rest: &str) -> Option<(String, bool)> {
    match rest.strip_suffix("{}") {
        Some(name) => Some((name.trim().to_owned(), false)),
        None => Some((rest.strip_suffix('{')?.trim().to_owned(), true)),
    }
}

/// Reads `NAME(TYPE) returns (stream TYPE);`.
fn call(rest: &str, about: Vec<String>) -> Option<Call> {
    let side = |text: &str| match text.trim().strip_prefix("stream ") {
        Some(name) => (true, name.to_owned()),
        None => (false, text.trim().to_owned()),
    };
    let (name, rest) = rest.split_once('(')?;
    let (takes, rest) = rest.split_once(')')?;
    let gives = rest.trim().strip_prefix("returns (")?.strip_suffix(");")?;
    Some(Call { name: name.to_owned(), about, takes: side(takes), gives: side(gives) })
}

/// Reads `repeated TYPE NAME = 1;`, `map<A, B> NAME = 1;` or `VALUE = 0;`.
fn field(line: &str, one_of: Option<String>, about: Vec<String>) -> Option<Field> {
    let (declared, number) = line.strip_suffix(';')?.split_once(" = ")?;
    let number = number.split(' ').next()?.to_owned();
    let (kind, name) = declared.rsplit_once(' ').unwrap_or(("", declared));
    let (label, kind) = ["optional", "repeated"]
        .into_iter()
        .find_map(|label| Some((label, kind.strip_prefix(label)?.strip_prefix(' ')?)))
        .unwrap_or(("", kind));
    Some(Field { name: name.to_owned(), label: label.to_owned(), kind: kind.to_owned(), number, one_of, about })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "// About.\nsyntax = \"proto3\";\n\npackage a.v1;\n\n// S.\nservice S {\n  // Gets.\n  rpc Get(Q) returns (stream A);\n}\n\n// Q.\nmessage Q {\n  // Level.\n  enum Level {\n    // None.\n    NONE = 0;\n  }\n  // Id.\n  optional uint64 id = 1;\n  // Which.\n  oneof which {\n    // A map.\n    map<string, Level> levels = 2;\n  }\n}\n\nmessage A {}\n";

    #[test]
    fn everything_that_is_declared_is_read() {
        let file = read(TEXT).expect("it is read");
        assert_eq!((file.package.as_str(), file.about.as_slice()), ("a.v1", &["About.".to_owned()][..]));
        let call = &file.services[0].calls[0];
        assert_eq!((call.name.as_str(), &call.takes, &call.gives), ("Get", &(false, "Q".into()), &(true, "A".into())));
        let names: Vec<&str> = file.types.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["Q", "Q.Level", "A"]);
        let fields = &file.types[0].fields;
        assert_eq!(
            (fields[0].label.as_str(), fields[0].kind.as_str(), fields[0].number.as_str()),
            ("optional", "uint64", "1")
        );
        assert_eq!((fields[1].kind.as_str(), fields[1].one_of.as_deref()), ("map<string, Level>", Some("which")));
        assert_eq!((file.types[1].is_enum, file.types[1].fields[0].name.as_str()), (true, "NONE"));
    }

    #[test]
    fn a_line_that_is_not_known_is_told() {
        assert_eq!(read("message A {\n  what\n}\n").expect_err("refused"), "line 2: `what`");
        assert!(read("message A {\n").is_err());
    }
}
