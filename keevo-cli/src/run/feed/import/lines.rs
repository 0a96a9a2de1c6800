//! The lines of a file, each with its number, whatever they hold.

use std::io::{BufRead, BufReader, Read};

use crate::failure::Failure;
use crate::run::feed::records::LINE_BYTES_MAX;

/// A line with its number; its text is a reason instead where it is too long or no text.
pub(in crate::run) type Line = (u64, Result<String, String>);

/// The lines of a file, each with its number from 1.
pub(in crate::run) struct Lines<R> {
    input: BufReader<R>,
    line: u64,
    /// How many bytes were read.
    pub(in crate::run) bytes: u64,
}

impl<R: Read> Lines<R> {
    /// The lines of what is read.
    pub(in crate::run) fn new(input: R) -> Self {
        Self { input: BufReader::new(input), line: 0, bytes: 0 }
    }

    /// The next line; `None` at the end.
    pub(in crate::run) fn next(&mut self) -> Result<Option<Line>, Failure> {
        let mut text = Vec::new();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let failed = |error| Failure::io("the file cannot be read", error);
        let read = self.input.by_ref().take(limit).read_until(b'\n', &mut text).map_err(failed)?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        self.bytes += u64::try_from(read).unwrap_or_default();
        if read == LINE_BYTES_MAX && text.last() != Some(&b'\n') {
            self.skip_rest().map_err(failed)?;
            return Ok(Some((self.line, Err(format!("it is longer than {LINE_BYTES_MAX} bytes")))));
        }
        let text = String::from_utf8(text).map_err(|_not_text| "it is not UTF-8".to_owned());
        Ok(Some((self.line, text)))
    }

    fn skip_rest(&mut self) -> std::io::Result<()> {
        loop {
            let buffer = self.input.fill_buf()?;
            let end = buffer.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let length = end.unwrap_or(buffer.len());
            self.input.consume(length);
            self.bytes += u64::try_from(length).unwrap_or_default();
            if end.is_some() || length == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_numbers_whatever_they_hold() {
        let long = vec![b'x'; LINE_BYTES_MAX + 10];
        let file = [b"one\n".as_slice(), &long, b"\n\xff\nlast"].concat();
        let mut lines = Lines::new(file.as_slice());
        let mut next = || lines.next().expect("read");
        assert_eq!(next(), Some((1, Ok("one\n".to_owned()))));
        assert_eq!(next(), Some((2, Err(format!("it is longer than {LINE_BYTES_MAX} bytes")))));
        assert_eq!(next(), Some((3, Err("it is not UTF-8".to_owned()))));
        assert_eq!(next(), Some((4, Ok("last".to_owned()))));
        assert_eq!(next(), None);
        assert_eq!(lines.bytes, u64::try_from(file.len()).expect("fits"));
    }
}
