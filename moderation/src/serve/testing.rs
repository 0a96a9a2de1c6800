//! A model for tests: it knows three bad words, and does as its texts say.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use keevo_core::{Error, Result};

use crate::classify::{Classify, ModelInfo, Tokens};

const START: u32 = 1;
const END: u32 = 2;
const IDIOT: u32 = 10;
const THREAT: u32 = 11;
const NAN: u32 = 12;
const PANIC: u32 = 13;
const OTHER: u32 = 20;

/// Holds batches back while it is shut.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
    /// Batches that came to it.
    pub(crate) met: AtomicUsize,
}

impl Gate {
    pub(crate) fn shut(&self) {
        *self.shut.lock().expect("not poisoned") = true;
    }

    pub(crate) fn open(&self) {
        *self.shut.lock().expect("not poisoned") = false;
        self.opened.notify_all();
    }

    fn pass(&self) {
        self.met.fetch_add(1, Ordering::SeqCst);
        let shut = self.shut.lock().expect("not poisoned");
        drop(self.opened.wait_while(shut, |shut| *shut).expect("not poisoned"));
    }
}

/// The model: words are tokens; 16 fit.
#[derive(Debug)]
pub(crate) struct WordModel {
    info: ModelInfo,
    pub(crate) gate: Arc<Gate>,
}

impl WordModel {
    pub(crate) fn new() -> Self {
        let labels = ["toxic", "threat"].map(str::to_owned).to_vec();
        let info = ModelInfo {
            name: "words".into(),
            version: "1".into(),
            labels,
            tokens_max: 16,
            multi_label: true,
            device: "cpu".into(),
            dtype: "float32".into(),
        };
        Self { info, gate: Arc::default() }
    }
}

impl Classify for WordModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn encode(&self, text: &str, pair: Option<&str>) -> Result<Tokens> {
        let word = |word: &str| match word {
            "idiot" => IDIOT,
            "kill" => THREAT,
            "nan" => NAN,
            "panic" => PANIC,
            _ => OTHER,
        };
        let mut ids = vec![START];
        ids.extend(text.split_whitespace().map(word));
        ids.push(END);
        let mut types = vec![0; ids.len()];
        if let Some(pair) = pair {
            ids.extend(pair.split_whitespace().map(word));
            ids.push(END);
            types.resize(ids.len(), 1);
        }
        Ok(Tokens { ids, types })
    }

    fn classify(&self, batch: &[Tokens]) -> Result<Vec<Vec<f32>>> {
        self.gate.pass();
        let score = |tokens: &Tokens, word: u32| if tokens.ids.contains(&word) { 4.0 } else { -4.0 };
        let mut rows = Vec::new();
        for tokens in batch {
            if tokens.ids.len() > self.info.tokens_max || tokens.ids.len() != tokens.types.len() {
                return Err(Error::invalid(format!("a text of {} tokens", tokens.ids.len())));
            }
            assert!(!tokens.ids.contains(&PANIC), "as the text says");
            let toxic = if tokens.ids.contains(&NAN) { f32::NAN } else { score(tokens, IDIOT) };
            rows.push(vec![toxic, score(tokens, THREAT)]);
        }
        Ok(rows)
    }
}
