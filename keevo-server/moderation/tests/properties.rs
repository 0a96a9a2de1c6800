//! Whatever the text, positions are valid and terms find themselves.

use keevo_moderation_policy::{Blocklist, Normalizer, Term};
use proptest::prelude::*;

/// Texts of every script, with more of what the tables know than chance would give.
fn any_text() -> impl Strategy<Value = String> {
    let one = prop_oneof![
        any::<char>(),
        prop::sample::select("aIl1!|05$@ßæĲİ ёαηС\u{200b}\u{301}\u{20dd}\u{fe0f}🅐🇦ﷺ\n が".chars().collect::<Vec<_>>()),
        prop::char::range('a', 'e'),
    ];
    prop::collection::vec(one, 0..40).prop_map(|chars| chars.into_iter().collect())
}

fn any_normalizer() -> impl Strategy<Value = Normalizer> {
    (any::<bool>(), any::<bool>()).prop_map(|(leet, look_alikes)| Normalizer { leet, look_alikes })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn positions_are_character_boundaries(text in any_text(), normalizer in any_normalizer()) {
        let normal = normalizer.normalize(&text);
        let starts: Vec<usize> = normal.text().char_indices().map(|(at, _)| at).collect();
        for &start in &starts {
            let range = normal.original(start..normal.text().len()).expect("a range within the text");
            prop_assert!(text.get(range).is_some());
        }
        prop_assert_eq!(normal.original(0..normal.text().len()).is_some(), !normal.text().is_empty());
    }

    #[test]
    fn normalizing_twice_changes_nothing(text in any_text(), normalizer in any_normalizer()) {
        let once = normalizer.normalize(&text);
        let twice = normalizer.normalize(once.text());
        prop_assert_eq!(twice.text(), once.text());
    }

    #[test]
    fn a_term_finds_itself_anywhere(term in any_text(), before in any_text(), after in any_text()) {
        let normalizer = Normalizer::default();
        let Ok(list) = Blocklist::compile([Term::part(term.clone())], normalizer) else {
            prop_assert!(normalizer.normalize(&term).text().trim().is_empty());
            return Ok(());
        };
        let text = format!("{before} {term} {after}");
        let found = list.find(&text);
        prop_assert!(!found.is_empty(), "{term:?} is not found in {text:?}");
        for one in found {
            let part = text.get(one.range).expect("a range at character boundaries");
            prop_assert!(list.matches(part), "{part:?} does not hold {term:?}");
        }
    }
}

/// Every character there is: what one becomes, it stays.
#[test]
fn no_single_character_changes_twice() {
    for normalizer in [Normalizer::default(), Normalizer { leet: false, look_alikes: false }] {
        for c in '\0'..=char::MAX {
            let once = normalizer.normalize(c.encode_utf8(&mut [0; 4]));
            let twice = normalizer.normalize(once.text());
            assert_eq!(twice.text(), once.text(), "U+{:04X}", u32::from(c));
        }
    }
}
