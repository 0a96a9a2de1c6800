//! The shell as a script runs it, and contexts from the terminal: the program, without a node but where it is one.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A user of the program, with a home and nothing from the environment of the test.
struct User {
    home: TempDir,
}

impl User {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a folder") }
    }

    /// Runs the program with `input` on its standard input: exit code, standard output, standard error.
    fn run(&self, variables: &[(&str, &str)], args: &[&str], input: &str) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keevo-cli"));
        command.env_clear().env("HOME", self.home.path()).envs(variables.iter().copied()).args(args);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.current_dir(self.home.path()).spawn().expect("the program starts");
        // A command that reads nothing may have ended before.
        drop(child.stdin.take().expect("piped").write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    #[track_caller]
    fn done(&self, args: &[&str]) -> String {
        let (code, out, said) = self.run(&[], args, "");
        assert_eq!(code, Some(0), "{args:?}: {said}");
        out
    }

    fn path(&self, name: &str) -> String {
        Path::new(self.home.path()).join(name).display().to_string()
    }
}

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

#[test]
fn a_script_goes_on_after_errors_and_ends_with_the_first() {
    let user = User::new();
    let script = "\
# makes certificates, and calls nobody
cert init certs --nodes 0
kv get a/b
kv gte a/b
keevo-cli cert show 'certs/ca.crt' --output jsonl
exit
cert init never
";
    let address = nobody();
    let (code, out, said) = user.run(&[("KEEVO_ENDPOINTS", &address)], &["shell"], script);
    assert_eq!(code, Some(6), "that of the first failure: {said}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("made certs/ca.crt"), "{out}");
    let shown: serde_json::Value = serde_json::from_str(lines[1]).expect("a row a line");
    assert_eq!((&shown["ca"], &shown["file"]), (&true.into(), &"certs/ca.crt".into()));
    let said: Vec<&str> = said.lines().collect();
    assert!(said[0].starts_with("keevo-cli: line 3: UNAVAILABLE: no node can be reached at"), "{said:?}");
    assert!(said[1].starts_with("keevo-cli: line 4: INVALID: unrecognized subcommand 'gte'"), "{said:?}");
    assert!(!said.iter().any(|line| line.starts_with("keevo-cli: UNAVAILABLE")), "nothing is told twice: {said:?}");
    assert!(!Path::new(&user.path("never")).exists(), "nothing behind exit");
    assert!(!Path::new(&user.path(".local")).exists(), "a script leaves no history");
}

#[test]
fn a_script_can_stop_at_the_first_error() {
    let user = User::new();
    let script = "kv get 'a\ncert init certs --nodes 0\n";
    let (code, out, said) = user.run(&[], &["shell", "--stop-on-error"], script);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{said}");
    assert!(said.starts_with("keevo-cli: line 1: INVALID: the quote ' has no end."), "{said}");
    assert!(!Path::new(&user.path("certs")).exists());
    assert_eq!(user.run(&[], &["shell"], "").0, Some(0), "an empty script");
}

#[test]
fn flags_of_the_shell_hold_for_its_lines_and_theirs_come_first() {
    let (user, one, two) = (User::new(), nobody(), nobody());
    let script = format!("info\ninfo --endpoints {two}\n");
    let (_, _, said) = user.run(&[("KEEVO_ENDPOINTS", "c:1")], &["--endpoints", &one, "shell"], &script);
    let said: Vec<&str> = said.lines().collect();
    assert!(said.len() == 2 && said[0].contains(&one) && said[1].contains(&two), "{said:?}");
    let (code, out, _) = user.run(&[], &["--output", "json", "shell"], "cert init certs --nodes 0");
    assert_eq!(code, Some(0));
    assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{out}");
}

#[test]
fn contexts_are_kept_used_shown_and_forgotten() {
    let user = User::new();
    assert!(user.done(&["context", "list"]).contains("no contexts"));
    let (a, b) = (nobody(), nobody());
    user.done(&["context", "add", "dev", "--endpoints", &a, "--use"]);
    std::fs::write(user.path("prod.key"), "keevo_1_2\n").expect("written");
    let add = ["context", "add", "prod", "--endpoints", &b, "--api-key-file", "prod.key", "--keyspace", "orders"];
    user.done(&add);
    let (code, _, said) = user.run(&[], &add, "");
    assert!(code == Some(5) && said.contains("--replace"), "{said}");
    let file = user.path(".config/keevo/contexts.toml");
    let kept = std::fs::read_to_string(&file).expect("kept");
    assert!(kept.contains("prod.key") && !kept.contains("keevo_1_2"), "{kept}");
    assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);

    let called = |variables: &[(&str, &str)], args: &[&str]| user.run(variables, args, "").2;
    assert!(called(&[], &["info"]).contains(&a), "the one in use");
    assert!(called(&[], &["--context", "prod", "info"]).contains(&b));
    assert!(called(&[("KEEVO_CONTEXT", "prod")], &["info"]).contains(&b));
    assert!(called(&[("KEEVO_CONTEXT", "")], &["info"]).contains("127.0.0.1:7101"));
    assert!(called(&[("KEEVO_ENDPOINTS", &b)], &["info"]).contains(&b));
    user.done(&["context", "use", "prod"]);
    assert!(called(&[], &["info"]).contains(&b));

    let shown = user.run(&[("KEEVO_CA", "ca.crt")], &["context", "show", "--origin", "--output", "json"], "").1;
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    for (part, value, origin) in [
        ("context", "prod", "default"),
        ("endpoints", b.as_str(), "context prod"),
        ("ca", "ca.crt", "KEEVO_CA"),
        ("keyspace", "orders", "context prod"),
    ] {
        assert_eq!((&shown[part]["value"], &shown[part]["origin"]), (&value.into(), &origin.into()), "{part}");
    }
    assert!(shown["api_key"]["value"].as_str().is_some_and(|at| at.ends_with("prod.key")), "{shown}");
    assert!(!shown.to_string().contains("keevo_1_2"), "no key is shown");
    assert_eq!(user.done(&["context", "list", "--output", "jsonl"]).lines().count(), 2);

    user.done(&["context", "remove", "prod"]);
    assert!(called(&[], &["info"]).contains("127.0.0.1:7101"), "what is forgotten is not in use");
    assert_eq!(user.run(&[], &["context", "use", "prod"], "").0, Some(4));
    assert_eq!(user.run(&[], &["--context", "prod", "info"], "").0, Some(4));
}

#[test]
fn a_key_in_place_of_its_file_is_refused_and_not_shown() {
    let user = User::new();
    for args in [
        ["context", "add", "x", "--api-key-file", "keevo_3f62_9a"],
        ["context", "add", "x", "--api-key-variable", "keevo_3f62_9a"],
        ["context", "add", "x", "--endpoints", "nowhere"],
        ["context", "add", "a/b", "--endpoints", "a:1"],
    ] {
        let (code, out, said) = user.run(&[], &args, "");
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {said}");
        assert!(!said.contains("3f62"), "{said}");
    }
    user.done(&["context", "add", "x", "--endpoints", "a:1", "--api-key-variable", "OWN_KEY", "--use"]);
    let (code, _, said) = user.run(&[], &["info"], "");
    assert!(code == Some(2) && said.contains("OWN_KEY, which is not set"), "{said}");
    let (_, _, said) = user.run(&[("OWN_KEY", "keevo_5_5"), ("KEEVO_CA", "")], &["info"], "");
    assert!(said.contains("in the clear") && !said.contains("keevo_5_5"), "a key goes to no foreign node: {said}");
}

#[test]
fn man_pages_are_written_and_hold_the_examples() {
    let user = User::new();
    let told = user.done(&["man", "--out", "man", "--output", "json"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let pages: Vec<_> =
        std::fs::read_dir(user.path("man")).expect("a folder").map(|one| one.expect("a page").path()).collect();
    assert_eq!(told["pages"], pages.len(), "each is counted");
    assert!(pages.len() > 60, "{}", pages.len());
    let page = std::fs::read_to_string(user.path("man/keevo-cli-kv-get.1")).expect("a page of a command below others");
    assert!(page.contains("keevo\\-cli kv get user/alice") || page.contains("keevo-cli kv get user/alice"), "{page}");
    let whole = std::fs::read_to_string(user.path("man/keevo-cli.1")).expect("the first page");
    assert!(whole.contains("Exit codes:") && whole.contains("UNAUTHENTICATED"), "{whole}");
    // With a formatter at hand each page is formatted, without a word of complaint.
    for (program, args) in
        [("mandoc", &["-T", "lint", "-W", "error"][..]), ("groff", &["-Kutf8", "-man", "-Tutf8", "-ww", "-z"])]
    {
        if Command::new(program).arg("--version").output().is_err() {
            continue;
        }
        let formatted = Command::new(program).args(args).args(&pages).output().expect("it starts");
        let said = String::from_utf8_lossy(&formatted.stderr);
        assert!(formatted.status.success() && said.is_empty(), "{program}: {said}");
    }
}

#[test]
fn colours_are_for_terminals_alone() {
    let user = User::new();
    let escape = |text: &str| text.contains('\u{1b}');
    for args in [&["--help"][..], &["kv", "get", "--help"], &["kv"], &["kv", "gte"], &["info"]] {
        let (_, out, said) = user.run(&[("TERM", "xterm-256color"), ("CLICOLOR_FORCE", "1")], args, "");
        assert!(!escape(&out) && !escape(&said), "{args:?}");
    }
}
