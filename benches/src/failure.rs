//! Why the program ends without a result, and with which exit code.

use std::fmt;

use keevo_core::Error;

/// Why there is no result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something that the work needs is not installed: one sentence that says what to do. Exit code 2.
    Missing(String),
    /// A signal asked the program to end. Exit code 130.
    Interrupted,
    /// What Keevo's own error says, with the exit code of its kind.
    Failed(Error),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Missing(_) => 2,
            Self::Interrupted => 130,
            Self::Failed(error) => error.kind().row().exit_code,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(sentence) => f.write_str(sentence),
            Self::Interrupted => f.write_str("interrupted; what was started has been ended and removed"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}
