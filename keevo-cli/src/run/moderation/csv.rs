//! Labelled data as CSV, in the form that `moderation/train/train.py` reads: a column `text`, and one a label with 1, 0,
//! or nothing where nobody said.

use std::collections::BTreeSet;

use keevo_proto::admin::v1::list_labels_response::Label;

/// The table. Its labels are all that people gave, and all that the models of the verdicts know.
///
/// A text that may stand has none of the labels, unless its reviewer says otherwise. One that was taken away without
/// saying why has no value in any column.
pub(super) fn written(labels: &[Label]) -> String {
    let given = labels.iter().flat_map(|one| one.labels.iter().map(String::as_str));
    let scored = labels.iter().filter_map(|one| one.verdict.as_ref()).flat_map(|verdict| verdict.scores.keys());
    // OpenAI's categories stand beside a model's own labels, and are no labels to learn.
    let scored = scored.map(String::as_str).filter(|name| !name.contains(['/', '-']) && !CATEGORIES.contains(name));
    let names: BTreeSet<&str> = given.chain(scored).collect();
    let mut out = String::from("text");
    for name in &names {
        out.push(',');
        out.push_str(&quoted(name));
    }
    out.push('\n');
    for one in labels {
        let Some(verdict) = &one.verdict else { continue };
        out.push_str(&quoted(&verdict.text));
        let says_nothing = one.labels.is_empty() && one.decision != "allow";
        for name in &names {
            let holds = one.labels.iter().any(|label| label == name);
            out.push_str(if holds {
                ",1"
            } else if says_nothing {
                ","
            } else {
                ",0"
            });
        }
        out.push('\n');
    }
    out
}

/// OpenAI's categories without a sign in their names.
const CATEGORIES: [&str; 5] = ["harassment", "hate", "illicit", "sexual", "violence"];

/// A field as RFC 4180 says.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) || field.trim() != field {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_proto::admin::v1::Verdict;

    fn label(text: &str, decision: &str, labels: &[&str]) -> Label {
        let scores = [("toxic", 0.9), ("harassment", 0.9), ("hate/threatening", 0.1)];
        let scores = scores.map(|(name, score)| (name.to_owned(), score)).into();
        let verdict = Verdict { text: text.into(), scores, ..Verdict::default() };
        let labels = labels.iter().map(|one| (*one).to_owned()).collect();
        Label { verdict: Some(verdict), decision: decision.into(), labels, ..Label::default() }
    }

    #[test]
    fn decisions_become_rows_to_train_on() {
        let labels = [
            label("fine", "allow", &[]),
            label("you \"x\",\ny", "remove", &["toxic", "insult"]),
            label("away", "ban", &[]),
            label(" padded", "allow", &["insult"]),
        ];
        let expected = "text,insult,toxic\nfine,0,0\n\"you \"\"x\"\",\ny\",1,1\naway,,\n\" padded\",1,0\n";
        assert_eq!(written(&labels), expected);
        assert_eq!(written(&[]), "text\n");
    }
}
