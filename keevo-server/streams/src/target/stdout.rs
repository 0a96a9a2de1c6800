//! JSON lines on the standard output of the process.

use std::io::Write;

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::{Error, ErrorKind, Result};
use serde_json::Value;

use super::{Recovered, Target, blocking};
use crate::format::Outgoing;

struct Stdout;

pub(super) fn open() -> (Box<dyn Target>, Recovered) {
    // A batch is written before it is noted that it was staged.
    (Box::new(Stdout), Recovered { has_staged: true, seen: Vec::new() })
}

impl Target for Stdout {
    fn stage<'a>(&'a mut self, batch: &'a [Outgoing]) -> BoxFuture<'a, Result<Value>> {
        async move {
            let mut lines = Vec::new();
            for one in batch {
                lines.extend_from_slice(one.value.as_deref().unwrap_or_default());
                lines.push(b'\n');
            }
            blocking(move || {
                let mut out = std::io::stdout().lock();
                let written = out.write_all(&lines).and_then(|()| out.flush());
                written.map_err(|source| {
                    Error::new(ErrorKind::Io, "the standard output takes no changes").with_source(source)
                })
            })
            .await?;
            Ok(Value::Null)
        }
        .boxed()
    }

    fn commit(&mut self) -> BoxFuture<'_, Result<()>> {
        futures::future::ready(Ok(())).boxed()
    }
}
