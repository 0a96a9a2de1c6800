//! Who has logged in: a random token in a cookie, and here its hash with what the key may do.
//!
//! Invariant: neither a key nor a token is kept, only the SHA-256 of the token and the [`Pass`] that the key gave, which
//! looks at the table of keys in every call. So a revoked key ends its sessions, and who reads this node's memory later
//! finds nothing to log in with. Sessions are this node's own: after a restart people log in again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use keevo_core::{Clock, Random};

use super::bytes::hex;
use crate::auth::Pass;

/// The most sessions of a node; a further one ends the one that was used least recently.
const SESSIONS_MAX: usize = 256;
/// How long a session lasts.
pub(super) const AGE_MAX: Duration = Duration::from_hours(12);
/// How long a session lasts that nobody uses.
const IDLE_MAX: Duration = Duration::from_hours(1);
/// How many times 64 random bits a token has.
const TOKEN_WORDS: usize = 4;

struct Session {
    pass: Pass,
    began: Duration,
    used: Duration,
}

impl Session {
    fn has_ended(&self, now: Duration) -> bool {
        now.saturating_sub(self.began) >= AGE_MAX || now.saturating_sub(self.used) >= IDLE_MAX
    }
}

/// The sessions of one node.
pub(super) struct Sessions {
    /// By the hash of the token.
    open: Mutex<BTreeMap<Vec<u8>, Session>>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Sessions {
    pub(super) fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { open: Mutex::default(), clock, random }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session: its token, which is told once.
    pub(super) fn begin(&self, pass: Pass) -> String {
        let words: Vec<[u8; 8]> = (0..TOKEN_WORDS).map(|_| self.random.next_u64().to_be_bytes()).collect();
        let token = hex(&words.concat());
        let now = self.clock.monotonic();
        let mut open = self.open();
        open.retain(|_, session| !session.has_ended(now));
        if open.len() >= SESSIONS_MAX
            && let Some(oldest) = open.iter().min_by_key(|(_, session)| session.used).map(|(hash, _)| hash.clone())
        {
            open.remove(&oldest);
        }
        open.insert(hash(&token), Session { pass, began: now, used: now });
        token
    }

    /// What the holder of a token may do; `None` where there is no such session, or not any more.
    pub(super) fn find(&self, token: &str) -> Option<Pass> {
        let now = self.clock.monotonic();
        let mut open = self.open();
        let session = open.get_mut(&hash(token)).filter(|session| !session.has_ended(now))?;
        session.used = now;
        Some(session.pass.clone())
    }

    /// Ends a session.
    pub(super) fn end(&self, token: &str) {
        self.open().remove(&hash(token));
    }
}

/// A look-up by hash takes no time that tells anything of the token.
fn hash(token: &str) -> Vec<u8> {
    digest(&SHA256, token.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Authority;
    use keevo_core::{ManualClock, MemoryEngine, SeededRandom};
    use keevo_gateway::apps::EngineMeta;

    const KEY: &str = "an-administrators-key-of-this-test-0123456789";

    /// Sessions, their clock, and what somebody may do.
    async fn fixture() -> (Sessions, Arc<ManualClock>, Pass) {
        let clock = Arc::new(ManualClock::new(0));
        let meta = EngineMeta::open(MemoryEngine::new()).await.expect("a meta store");
        let random = Arc::new(SeededRandom::new(7));
        let authority = Authority::new(meta, 1, Some(KEY), Arc::clone(&clock) as _, random).expect("an authority");
        let header = format!("Bearer {KEY}");
        let pass = authority.identify(None, Some(header.as_bytes())).expect("let in");
        (Sessions::new(Arc::clone(&clock) as _, Arc::new(SeededRandom::new(1))), clock, pass)
    }

    #[tokio::test]
    async fn a_session_ends_by_idleness_age_and_word() {
        let (sessions, clock, pass) = fixture().await;
        let idle = sessions.begin(pass.clone());
        clock.advance_ms(59 * 60_000);
        assert!(sessions.find(&idle).is_some() && sessions.find("").is_none() && sessions.find("00").is_none());
        clock.advance_ms(60 * 60_000);
        assert!(sessions.find(&idle).is_none(), "nobody used it for an hour");
        let used = sessions.begin(pass.clone());
        assert_eq!(used.len(), 64);
        for _ in 0..14 {
            clock.advance_ms(50 * 60_000);
            assert!(sessions.find(&used).is_some(), "it is used");
        }
        clock.advance_ms(50 * 60_000);
        assert!(sessions.find(&used).is_none(), "it is twelve hours old");
        let ended = sessions.begin(pass);
        sessions.end(&ended);
        assert!(sessions.find(&ended).is_none());
    }

    #[tokio::test]
    async fn there_are_so_many_sessions_and_the_idlest_makes_room() {
        let (sessions, clock, pass) = fixture().await;
        let first = sessions.begin(pass.clone());
        clock.advance_ms(1);
        let second = sessions.begin(pass.clone());
        clock.advance_ms(1);
        assert!(sessions.find(&first).is_some());
        clock.advance_ms(1);
        for _ in 0..SESSIONS_MAX - 1 {
            sessions.begin(pass.clone());
        }
        assert_eq!(sessions.open().len(), SESSIONS_MAX);
        assert!(sessions.find(&first).is_some() && sessions.find(&second).is_none());
    }
}
