//! A policy: which scores and which blocklists lead to which action, by where a text stands.
//!
//! Invariant: a policy that passed [`Policy::check`] is bounded in every part, and judging by it is a pure function of
//! the text, its scores and the compiled lists.

use std::collections::{BTreeMap, BTreeSet};

use keevo_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The most scopes of a policy.
pub const SCOPES_MAX: usize = 100;
/// The most rules of a scope.
pub const RULES_MAX: usize = 64;
/// The most blocklists of an app.
pub const BLOCKLISTS_MAX: usize = 20;
/// The most blocklists that a scope uses.
pub const LISTS_IN_SCOPE_MAX: usize = BLOCKLISTS_MAX;
/// The most terms of a blocklist.
pub const TERMS_MAX: usize = 20_000;
/// The longest term of a blocklist, in bytes.
pub const TERM_BYTES_MAX: usize = 256;
/// The longest that a caller may wait for a verdict, in milliseconds.
pub const BUDGET_MS_MAX: u64 = 5_000;
/// How long a caller waits for a verdict unless the scope says otherwise, in milliseconds.
const BUDGET_MS: u64 = 250;
/// The longest name of a label, a scope or a blocklist, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// What happens to a text; the strictest of those that apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It stands.
    #[default]
    Allow,
    /// It stands, and a person looks at it.
    Flag,
    /// It stands with what a blocklist found covered.
    Mask,
    /// It is kept back until a person decides: its author and those who review see it, nobody else.
    Hold,
    /// Its author is told that it stands, but nobody sees it.
    Shadow,
    /// It is refused, and its author may put it otherwise.
    Bounce,
    /// It is refused.
    Block,
}

impl Action {
    /// All of them, mildest first.
    pub const ALL: [Self; 7] =
        [Self::Allow, Self::Flag, Self::Mask, Self::Hold, Self::Shadow, Self::Bounce, Self::Block];

    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Flag => "flag",
            Self::Mask => "mask",
            Self::Hold => "hold",
            Self::Shadow => "shadow",
            Self::Bounce => "bounce",
            Self::Block => "block",
        }
    }

    /// Whether a text with it reaches others, possibly masked.
    pub fn lets_through(self) -> bool {
        self <= Self::Mask
    }
}

/// What happens to a text whose verdict does not come within the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenLate {
    /// It is sent, judged later, and taken back where the verdict says so.
    #[default]
    Send,
    /// It is kept back until its verdict comes, which lets it go or refuses it.
    Hold,
    /// It is refused for the moment: its author may send it again.
    Refuse,
}

/// A score of a label from which on an action applies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The label, as the model names it.
    pub label: String,
    /// The least score, above 0 and at most 1.
    pub threshold: f32,
    /// What then happens; not `mask`, since a score names no place in the text.
    pub action: Action,
}

/// A blocklist and what a match in it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlocklistUse {
    /// The list's name.
    pub name: String,
    /// What a match leads to.
    pub action: Action,
}

/// How texts of one kind of place are judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scope {
    /// Scores and their actions.
    pub rules: Vec<Rule>,
    /// Lists and their actions.
    pub blocklists: Vec<BlocklistUse>,
    /// What happens when no verdict comes in time.
    pub when_late: WhenLate,
    /// How long a caller waits for a verdict, in milliseconds.
    pub budget_ms: u64,
}

impl Default for Scope {
    /// What an app without a policy has: what the model is sure of is flagged, nothing is refused.
    fn default() -> Self {
        let flag = |label: &str| Rule { label: label.to_owned(), threshold: 0.8, action: Action::Flag };
        Self {
            rules: ["toxic", "severe_toxic", "obscene", "insult"].map(flag).to_vec(),
            blocklists: Vec::new(),
            when_late: WhenLate::default(),
            budget_ms: BUDGET_MS,
        }
    }
}

/// The policy of an app.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What holds where no scope does.
    #[serde(default)]
    pub default: Scope,
    /// What holds for a channel type (`chat:messaging`) or a feed group (`feeds:user`), instead of the default.
    #[serde(default)]
    pub scopes: BTreeMap<String, Scope>,
}

impl Policy {
    /// The policy in a JSON text, checked.
    pub fn from_json(text: &str) -> Result<Self> {
        let bad = |error: serde_json::Error| {
            Error::invalid(format!("the policy is not as it must be: {error}")).with_source(error)
        };
        // A list would be taken for the fields in their order, and an empty one for the default.
        let value: serde_json::Value = serde_json::from_str(text).map_err(bad)?;
        let scopes = value.get("scopes").and_then(serde_json::Value::as_object);
        let parts = scopes.into_iter().flat_map(serde_json::Map::values).chain(value.get("default"));
        if !value.is_object() || parts.into_iter().any(|part| !part.is_object()) {
            return Err(Error::invalid("a policy, and each of its scopes, is a JSON object"));
        }
        let policy: Self = serde_json::from_value(value).map_err(bad)?;
        policy.check()?;
        Ok(policy)
    }

    /// What holds for a scope.
    pub fn scope(&self, name: &str) -> &Scope {
        self.scopes.get(name).unwrap_or(&self.default)
    }

    /// Checks every bound.
    pub fn check(&self) -> Result<()> {
        if self.scopes.len() > SCOPES_MAX {
            return Err(Error::invalid(format!("a policy has at most {SCOPES_MAX} scopes, not {}", self.scopes.len())));
        }
        self.default.check("default")?;
        for (name, scope) in &self.scopes {
            check_name("a scope", name)?;
            if !(name.starts_with("chat:") || name.starts_with("feeds:")) {
                return Err(Error::invalid(format!(
                    "a scope is chat:CHANNEL_TYPE or feeds:FEED_GROUP, unlike '{}'",
                    name.escape_debug()
                )));
            }
            scope.check(name)?;
        }
        Ok(())
    }

    /// The names of all lists that it uses.
    pub fn lists(&self) -> BTreeSet<&str> {
        let scopes = std::iter::once(&self.default).chain(self.scopes.values());
        scopes.flat_map(|scope| &scope.blocklists).map(|one| one.name.as_str()).collect()
    }
}

impl Scope {
    fn check(&self, name: &str) -> Result<()> {
        let refuse = |what: String| Err(Error::invalid(format!("scope {name}: {what}")));
        if self.rules.len() > RULES_MAX {
            return refuse(format!("there are at most {RULES_MAX} rules, not {}", self.rules.len()));
        }
        if self.blocklists.len() > LISTS_IN_SCOPE_MAX {
            return refuse(format!("there are at most {LISTS_IN_SCOPE_MAX} blocklists, not {}", self.blocklists.len()));
        }
        if !(1..=BUDGET_MS_MAX).contains(&self.budget_ms) {
            return refuse(format!("budget_ms is 1 to {BUDGET_MS_MAX}, not {}", self.budget_ms));
        }
        for rule in &self.rules {
            check_name("a label", &rule.label)?;
            if !(rule.threshold > 0.0 && rule.threshold <= 1.0) {
                return refuse(format!("a threshold is above 0 and at most 1, not {}", rule.threshold));
            }
            if rule.action == Action::Mask {
                return refuse(format!(
                    "label {}: a score names no place in the text to mask; use flag, or a blocklist",
                    rule.label
                ));
            }
        }
        self.blocklists.iter().try_for_each(|one| check_name("a blocklist", &one.name))
    }
}

/// Refuses a name that is empty, long, or has characters that do not show.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Error::invalid(format!(
            "the name of {what} has 1 to {NAME_BYTES_MAX} bytes and no white space, unlike '{}'",
            name.escape_debug()
        )));
    }
    Ok(())
}

/// Why a text was judged as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A label's score reached a rule's threshold.
    Label {
        /// The label.
        label: String,
        /// Its score.
        score: f32,
        /// What the rule says.
        action: Action,
    },
    /// A term of a list stands in the text.
    Listed {
        /// The list.
        list: String,
        /// The term, as it is listed.
        term: String,
        /// What the use of the list says.
        action: Action,
    },
    /// It could not be judged, for this reason; a person has to.
    Unjudged(String),
    /// It is another version with its listed terms covered.
    Masked,
}

/// What a policy says of a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgement {
    /// The strictest action that applies.
    pub action: Action,
    /// Why; at most a rule's worth each, and the first terms found.
    pub reasons: Vec<Reason>,
    /// The text with what was found covered, where the action is `mask`.
    pub masked: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_policy_reads_as_documented() {
        let policy = Policy::from_json(
            r#"{"default": {"rules": [{"label": "toxic", "threshold": 0.9, "action": "flag"}]},
                "scopes": {"chat:livestream": {"rules": [], "blocklists": [{"name": "swear", "action": "mask"}],
                                               "when_late": "refuse", "budget_ms": 100},
                           "chat:kids": {"rules": [{"label": "toxic", "threshold": 0.5, "action": "hold"}],
                                         "when_late": "hold"}}}"#,
        )
        .expect("valid");
        assert_eq!(policy.scope("chat:other").rules.len(), 1);
        assert_eq!(policy.scope("chat:livestream").when_late, WhenLate::Refuse);
        let kids = policy.scope("chat:kids");
        assert_eq!((kids.when_late, kids.rules[0].action), (WhenLate::Hold, Action::Hold));
        assert_eq!(policy.default.budget_ms, BUDGET_MS);
        assert_eq!(policy.lists().into_iter().collect::<Vec<_>>(), ["swear"]);
        assert_eq!(Policy::from_json("{}").expect("valid"), Policy::default());
    }

    #[test]
    fn what_no_policy_may_say_is_refused_with_the_reason() {
        let refused = |text: &str| Policy::from_json(text).expect_err(text).message().to_owned();
        let rule = |threshold: &str, action: &str| {
            format!(r#"{{"default":{{"rules":[{{"label":"x","threshold":{threshold},"action":"{action}"}}]}}}}"#)
        };
        for (text, part) in [
            ("[]".to_owned(), "is a JSON object"),
            (r#"{"default":[]}"#.to_owned(), "is a JSON object"),
            (r#"{"defaults":{}}"#.to_owned(), "unknown field `defaults`"),
            (rule("0", "flag"), "above 0"),
            (rule("1.5", "flag"), "above 0"),
            (rule("0.5", "mask"), "no place in the text"),
            (rule("0.5", "delete"), "unknown variant"),
            (r#"{"default":{"budget_ms":0}}"#.to_owned(), "budget_ms"),
            (r#"{"scopes":{"mail:x":{}}}"#.to_owned(), "chat:CHANNEL_TYPE"),
            (r#"{"default":{"blocklists":[{"name":"","action":"mask"}]}}"#.to_owned(), "a blocklist"),
        ] {
            let message = refused(&text);
            assert!(message.contains(part), "{text}: {message}");
        }
        let many: Vec<String> = (0..=SCOPES_MAX).map(|n| format!(r#""chat:{n}":{{}}"#)).collect();
        expect!["a policy has at most 100 scopes, not 101"]
            .assert_eq(&refused(&format!(r#"{{"scopes":{{{}}}}}"#, many.join(","))));
    }

    #[test]
    fn actions_are_ordered_by_strictness() {
        assert!(Action::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        for action in Action::ALL {
            assert_eq!(serde_json::to_string(&action).expect("a name"), format!("\"{}\"", action.name()));
        }
        assert!(Action::Mask.lets_through() && !Action::Hold.lets_through() && !Action::Shadow.lets_through());
    }
}
