//! A policy with all its lists in one automaton: judges a text in one pass.

use std::collections::BTreeMap;
use std::ops::Range;

use keevo_core::{Error, Result};

use crate::blocklist::{Blocklist, Term};
use crate::mask::mask;
use crate::normalize::Normalizer;
use crate::policy::{Action, Judgement, Policy, Reason, Scope};

/// The most listed terms that a judgement names.
const TERMS_NAMED_MAX: usize = 16;

/// A policy, ready to judge.
#[derive(Debug)]
pub struct Compiled {
    policy: Policy,
    /// All terms of all lists, in the order of `owners`.
    automaton: Blocklist,
    terms: Vec<String>,
    /// Each list's name and the number of its first term.
    owners: Vec<(String, usize)>,
}

/// Refuses terms that cannot be compiled.
pub(super) fn check(terms: &[Term]) -> Result<()> {
    compile(terms.to_vec()).map(drop)
}

fn compile(terms: Vec<Term>) -> Result<Blocklist> {
    Blocklist::compile(terms, Normalizer::default()).map_err(|error| Error::invalid(error.to_string()))
}

impl Compiled {
    /// Compiles a policy and the lists that it uses.
    pub fn new(policy: Policy, lists: Vec<(String, Vec<Term>)>) -> Result<Self> {
        let (mut owners, mut all) = (Vec::new(), Vec::new());
        for (name, terms) in lists {
            owners.push((name, all.len()));
            all.extend(terms);
        }
        let terms = all.iter().map(|term: &Term| term.text.clone()).collect();
        Ok(Self { policy, automaton: compile(all)?, terms, owners })
    }

    /// What holds for a scope.
    pub fn scope(&self, name: &str) -> &Scope {
        self.policy.scope(name)
    }

    /// Whether what the model says of a text of this scope can change anything.
    pub fn needs_scores(&self, scope: &str) -> bool {
        !self.scope(scope).rules.is_empty()
    }

    /// Judges a text by the lists and by the scores that there are.
    ///
    /// ```
    /// use keevo_moderation_policy::{Action, Compiled, Policy, Term};
    /// let policy = Policy::from_json(r#"{"default": {"blocklists": [{"name": "swear", "action": "mask"}]}}"#)?;
    /// let compiled = Compiled::new(policy, vec![("swear".into(), vec![Term::word("darn")])])?;
    /// let judged = compiled.judge("chat:messaging", "D4rn it!", &Default::default());
    /// assert_eq!((judged.action, judged.masked.as_deref()), (Action::Mask, Some("**** it!")));
    /// # Ok::<(), keevo_core::Error>(())
    /// ```
    pub fn judge(&self, scope: &str, text: &str, scores: &BTreeMap<String, f32>) -> Judgement {
        let scope = self.scope(scope);
        let mut judged = Judgement::default();
        for rule in &scope.rules {
            if let Some(&score) = scores.get(&rule.label).filter(|score| **score >= rule.threshold) {
                judged.action = judged.action.max(rule.action);
                judged.reasons.push(Reason::Label { label: rule.label.clone(), score, action: rule.action });
            }
        }
        let mut covered: Vec<Range<usize>> = Vec::new();
        if !scope.blocklists.is_empty() {
            for found in self.automaton.find(text) {
                let Some((list, action)) = self.use_of(scope, found.term) else { continue };
                judged.action = judged.action.max(action);
                if action == Action::Mask {
                    covered.push(found.range);
                }
                if judged.reasons.len() < scope.rules.len() + TERMS_NAMED_MAX {
                    let term = self.terms.get(found.term).cloned().unwrap_or_default();
                    judged.reasons.push(Reason::Listed { list: list.to_owned(), term, action });
                }
            }
        }
        if judged.action == Action::Mask {
            judged.masked = Some(mask(text, &covered));
        }
        judged
    }

    /// The list of a term, and what the scope says of it.
    fn use_of(&self, scope: &Scope, term: usize) -> Option<(&str, Action)> {
        let owner = self.owners.partition_point(|(_, first)| *first <= term).checked_sub(1)?;
        let (name, _) = self.owners.get(owner)?;
        let used = scope.blocklists.iter().filter(|one| one.name == *name).map(|one| one.action).max()?;
        Some((name, used))
    }
}
