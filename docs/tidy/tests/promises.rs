//! Every test that docs/PROMISES.md and docs/SECURITY.md name is in the file that it links to.

use std::path::Path;

use keevo_tidy::{markdown, text};

/// What is wrong with a link from `docs/PROMISES.md` whose text is the name of a test.
fn complaint(name: &str, target: &str) -> Option<String> {
    let path = target.strip_prefix("../")?;
    let Ok(Some(source)) = text(path) else { return Some(format!("{path} cannot be read, where {name} should be")) };
    let is_there = ["(", "<"].iter().any(|next| source.contains(&format!("fn {name}{next}")));
    (!is_there).then(|| format!("{path} has no function {name}"))
}

#[test]
fn every_test_that_a_promise_names_is_there() {
    let promises = text("docs/PROMISES.md").expect("docs/PROMISES.md can be read").expect("it is UTF-8");
    let links = markdown::named_links(&promises);
    let tests = links.iter().filter(|(_, target)| Path::new(target).extension().is_some_and(|found| found == "rs"));
    let complaints: Vec<String> = tests.clone().filter_map(|(name, target)| complaint(name, target)).collect();
    assert!(tests.count() > 60, "the links to tests could not be read");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_test_that_the_threat_model_names_is_there() {
    let model = text("docs/SECURITY.md").expect("docs/SECURITY.md can be read").expect("it is UTF-8");
    let links = markdown::named_links(&model);
    let tests = links.iter().filter(|(_, target)| Path::new(target).extension().is_some_and(|found| found == "rs"));
    let complaints: Vec<String> = tests.clone().filter_map(|(name, target)| complaint(name, target)).collect();
    assert!(tests.count() > 20, "the links to tests could not be read");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_test_that_is_gone_is_noticed() {
    assert_eq!(complaint("every_test_that_a_promise_names_is_there", "../docs/tidy/tests/promises.rs"), None);
    assert!(complaint("every_test_that_a_promise", "../docs/tidy/tests/promises.rs").is_some());
    assert!(complaint("anything", "../docs/tidy/tests/gone.rs").is_some());
}
