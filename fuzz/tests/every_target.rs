//! Every decoder, some thousand damaged inputs each, under fixed seeds.

use keevo_core::SystemClock;
use keevo_fuzz::{Stop, run, targets};

#[test]
fn no_decoder_fails_and_each_accepts_something() {
    for target in &targets() {
        for seed in 0..4 {
            let tally = run(target, seed, Stop::Executions(5_000), &SystemClock::new());
            assert_eq!(tally.failure, None, "{} under seed {seed}", target.name);
            assert!(
                tally.accepted > 0,
                "{} accepts nothing: its samples don't reach past the first check",
                target.name
            );
        }
    }
}
