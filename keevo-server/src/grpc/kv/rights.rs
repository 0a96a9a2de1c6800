//! What a caller with limited rights may touch: checked for each request, unary or of a pipe, once it is decoded.
//!
//! Invariant: where nobody is asked who they are, nothing of this costs more than a look at an empty field. A pipe that was
//! opened with a key that is revoked is refused request by request.

use keevo_core::{Engine, Error, ErrorKind, Keyspace, KeyspaceKind, Result, ScanRange, WatchRange, prefix_end};
use serde_json::json;
use tonic::Request;

use super::KvService;
use crate::auth::grant::{Action, Target};
use crate::auth::{Pass, while_allowed};
use crate::grpc::kv::watch::Messages;
use crate::host::Host;

/// As what the making of a keyspace is audited.
const MAKING: &str = "keevo.kv.v1.Kv/Keyspace";

impl<H: Host> KvService<H> {
    /// The service as the caller of a request may use it.
    pub(super) fn of_caller<T>(&self, request: &Request<T>) -> Self {
        Self { pass: request.extensions().get::<Pass>().cloned(), ..self.clone() }
    }

    /// Refuses an action on any of some partitions that the caller may not do.
    pub(super) async fn allow<P: AsRef<[u8]>>(
        &self,
        action: Action,
        keyspace: Keyspace,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<()> {
        let Some(pass) = &self.pass else { return Ok(()) };
        let name = self.keyspaces.name(self.host.as_ref(), keyspace.id).await?;
        for partition in partitions {
            pass.check(action, Target::Partition(&name, partition.as_ref()))?;
        }
        Ok(())
    }

    /// Refuses a scan of what the caller may not read.
    pub(super) async fn allow_scan(&self, range: &ScanRange) -> Result<()> {
        match range {
            ScanRange::Partition { keyspace, partition, .. } => self.allow(Action::Read, *keyspace, [partition]).await,
            ScanRange::Ordered { keyspace, start, end } => {
                let Some(pass) = &self.pass else { return Ok(()) };
                let name = self.keyspaces.name(self.host.as_ref(), keyspace.id).await?;
                pass.check(Action::Read, Target::Prefix(&name, common_prefix(*keyspace, start, end)))
            }
        }
    }

    /// Refuses to open a session to a caller that writes nowhere.
    pub(super) fn allow_session(&self) -> Result<()> {
        let Some(pass) = &self.pass else { return Ok(()) };
        let access = pass.access()?;
        if access.grants().iter().any(|grant| grant.touches_keys(Action::Write)) {
            return Ok(());
        }
        let message = format!("the role {} writes no keys, so it needs no session", access.role);
        Err(Error::new(ErrorKind::PermissionDenied, message))
    }

    /// Refuses a watch of what the caller may not follow, and gives what ends it once it may not any more.
    pub(super) async fn allow_watch(&self, range: &WatchRange) -> Result<impl FnOnce(Messages) -> Messages + use<H>> {
        let (WatchRange::Partition { keyspace, .. } | WatchRange::Keyspace(keyspace)) = range;
        let partition = match range {
            WatchRange::Partition { partition, .. } => Some(partition.clone()),
            WatchRange::Keyspace(_) => None,
        };
        let pass = self.pass.clone();
        let name = match &pass {
            Some(_) => self.keyspaces.name(self.host.as_ref(), keyspace.id).await?,
            None => "".into(),
        };
        let check = move |pass: &Pass| match &partition {
            Some(partition) => pass.check(Action::Watch, Target::Partition(&name, partition)),
            None => pass.check(Action::Watch, Target::Prefix(&name, b"")),
        };
        if let Some(pass) = &pass {
            check(pass)?;
        }
        Ok(move |messages| while_allowed(messages, pass, check))
    }

    /// A keyspace by its name, made if it is new, for a caller with limited rights. What it may not know of does not
    /// exist for it.
    pub(super) async fn limited_keyspace(
        &self,
        pass: &Pass,
        name: &str,
        create: Option<KeyspaceKind>,
    ) -> Result<Keyspace> {
        let access = pass.access()?;
        if !access.grants().iter().any(|grant| grant.knows(name)) {
            access.check(Action::Read, Target::Keyspace(name))?;
        }
        let found = self.host.engine().find_keyspace(name).await;
        let kind = match (&found, create) {
            (Ok(_), Some(kind)) => return self.host.engine().keyspace(name, kind).await,
            (Err(error), Some(kind)) if error.kind() == ErrorKind::UnknownKeyspace => kind,
            _ => return found,
        };
        access.check(Action::Admin, Target::Keyspace(name))?;
        let (who, audit) = (pass.principal(), pass.authority().audit());
        let number = audit.begin(&who, MAKING, json!({ "name": name, "create": kind.to_string() })).await?;
        let made = self.host.engine().keyspace(name, kind).await;
        let outcome = made.as_ref().err().map_or("OK", |error| error.kind().row().name);
        if let Err(error) = audit.end(number, &who, MAKING, outcome).await {
            tracing::error!(%error, number, outcome, "the outcome could not be written to the audit log");
        }
        made
    }
}

/// The longest prefix that all partitions between `start` and `end` (empty = the end of the keyspace) have.
fn common_prefix<'a>(keyspace: Keyspace, start: &'a [u8], end: &[u8]) -> &'a [u8] {
    let whole = match keyspace.kind {
        KeyspaceKind::Ordered { partition_bytes } => start.get(..usize::from(partition_bytes)).unwrap_or(start),
        KeyspaceKind::Hashed => start,
    };
    let fits = |prefix: &[u8]| !end.is_empty() && end <= prefix_end(prefix).as_ref();
    (1..=whole.len()).rev().filter_map(|length| whole.get(..length)).find(|prefix| fits(prefix)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::KeyspaceId;

    #[test]
    fn a_range_has_the_prefix_that_all_of_it_has() {
        let ordered = Keyspace { id: KeyspaceId(1), kind: KeyspaceKind::Ordered { partition_bytes: 4 } };
        let prefix = |start: &'static str, end: &str| common_prefix(ordered, start.as_bytes(), end.as_bytes());
        assert_eq!(prefix("eu-1", "eu-2"), b"eu-1", "one partition");
        assert_eq!(prefix("eu-1", "eu-3"), b"eu-");
        assert_eq!(prefix("eu-", "eu."), b"eu-", "up to the prefix after it");
        assert_eq!(prefix("eu-1sort", "eu-1sorz"), b"eu-1", "a sort key is no part of it");
        assert_eq!(prefix("eu-1", "us"), b"");
        assert_eq!(prefix("eu-1", ""), b"", "to the end of the keyspace");
        assert_eq!(prefix("", ""), b"");
        assert_eq!(common_prefix(ordered, &[0xff, 1], &[]), b"", "the end of the keyspace is not the prefix's");
    }
}
