//! `tokenizer.json`: from a text to the numbers that the model reads.

use std::path::Path;

use keevo_core::{Error, Result};
use tokenizers::{EncodeInput, Tokenizer};

use super::config::{Config, refused};
use crate::classify::Tokens;

/// The largest text that is tokenised, in bytes: larger ones are refused, so that a request bounds its work.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// Cuts texts into tokens.
#[derive(Debug)]
pub(crate) struct Reader {
    tokenizer: Tokenizer,
}

impl Reader {
    /// Reads `tokenizer.json` of the folder `dir` and checks it against the model.
    pub(crate) fn read(dir: &Path, config: &Config) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let mut tokenizer = Tokenizer::from_file(&path)
            .map_err(|error| refused(format!("cannot read the tokenizer {}: {error}", path.display())))?;
        // Cutting and filling up are done elsewhere, whatever the file asks for.
        tokenizer
            .with_truncation(None)
            .map_err(|error| refused(format!("the tokenizer cannot be told not to truncate: {error}")))?;
        tokenizer.with_padding(None);
        let words = tokenizer.get_vocab_size(true);
        if words > config.vocab_size {
            let known = config.vocab_size;
            return Err(refused(format!(
                "the tokenizer knows {words} tokens, the model {known}: they do not belong together"
            )));
        }
        let reader = Self { tokenizer };
        let empty = reader.encode("", None)?;
        if empty.ids.len() != 2 {
            let found = empty.ids.len();
            return Err(refused(format!(
                "the tokenizer adds {found} marks to a text; a BERT model has 2, start and end"
            )));
        }
        Ok(reader)
    }

    /// All tokens of a text or a pair of texts, with the special ones.
    pub(crate) fn encode(&self, text: &str, pair: Option<&str>) -> Result<Tokens> {
        let bytes = text.len() + pair.map_or(0, str::len);
        if bytes > TEXT_BYTES_MAX {
            return Err(Error::invalid(format!("the text has {bytes} bytes; at most {TEXT_BYTES_MAX} are read")));
        }
        let input = match pair {
            Some(pair) => EncodeInput::Dual(text.into(), pair.into()),
            None => EncodeInput::Single(text.into()),
        };
        let encoding = self
            .tokenizer
            .encode_fast(input, true)
            .map_err(|error| Error::invalid(format!("the text cannot be cut into tokens: {error}")))?;
        Ok(Tokens { ids: encoding.get_ids().to_vec(), types: encoding.get_type_ids().to_vec() })
    }
}
