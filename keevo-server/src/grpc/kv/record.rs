//! The API log at the door of keys and values.
//!
//! Invariant: a write and a fan-out are their own record: the command of their entry says what was asked, so that nothing is
//! kept twice.

use std::future::Future;

use keevo_core::call::{self, CallDoor, CallRequest, NewCall};
use keevo_core::{ErrorKind, Result};

use super::KvService;
use crate::host::Host;

/// Who asks where nobody is asked who they are.
pub(crate) const NOBODY: &str = "nobody";
/// The methods that are recorded.
pub(super) const WRITE: &str = "keevo.kv.v1.Kv/Write";
pub(super) const FAN_OUT: &str = "keevo.kv.v1.Kv/FanOut";
pub(super) const KEYSPACE: &str = "keevo.kv.v1.Kv/Keyspace";

impl<H: Host> KvService<H> {
    /// Answers a request as a call of the log, where there is one.
    pub(super) async fn recorded<T>(
        &self,
        method: &'static str,
        request: CallRequest,
        answer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let Some(log) = self.log.as_ref().filter(|log| log.is_on() && call::current().is_none()) else {
            return answer.await;
        };
        let principal = self.pass.as_ref().map_or_else(|| NOBODY.to_owned(), crate::auth::Pass::principal);
        let method = method.to_owned();
        let new = NewCall { door: CallDoor::Grpc, app: None, principal, method, request, redacted: false };
        let Some(call) = log.begin(new) else { return answer.await };
        let answered = call.run(answer).await;
        if let Err(error) = &answered
            && !is_in_doubt(error.kind())
        {
            log.failed(&call, error);
        }
        answered
    }
}

/// Whether a call that ended so may have taken place.
pub(crate) fn is_in_doubt(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded)
}
