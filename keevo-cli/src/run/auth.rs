//! `keevo-cli auth` and `keevo-cli audit`, over `keevo.admin.v1.Auth`.
//!
//! Invariant: the chain of the audit log is computed here, from the bytes of the entries, so that a node's word is not
//! needed.

use bytes::Bytes;
use keevo_client::Connection;
use keevo_core::{Error, ErrorKind};
use keevo_proto::MESSAGE_BYTES_MAX;
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::auth_client::AuthClient;
use keevo_tls::sha256;
use serde_json::{Value, json};

use super::incomplete;
use crate::args::auth::{Audit, Auth, Key, Role};
use crate::confirm::{Plan, confirmed};
use crate::connect::{Context, Effect, QUICK, SLOW};
use crate::duration::millis;
use crate::failure::Failure;
use crate::output::show;
use crate::render::Done;
use crate::render::auth::{AuditPage, KeyMade};
use crate::text::{count, line};

/// The entries of a page that is verified.
const PAGE: u32 = 1_000;

async fn client(context: &Context) -> Result<AuthClient<Connection>, Failure> {
    Ok(AuthClient::new(context.channel().await?).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// Carries out a command on rights.
pub(crate) async fn run(context: &Context, command: Auth) -> Result<(), Failure> {
    let mut auth = client(context).await?;
    match command {
        Auth::Whoami => {
            let call = auth.who_am_i(pb::WhoAmIRequest {});
            show(context.output, &context.ask(Effect::Reads, QUICK, call).await?)
        }
        Auth::Role(Role::List) => {
            let call = auth.list_roles(pb::ListRolesRequest {});
            show(context.output, &context.ask(Effect::Reads, QUICK, call).await?)
        }
        Auth::Role(Role::Set { name, allow }) => {
            let call = auth.set_role(pb::SetRoleRequest { name: name.clone(), grants: allow });
            context.ask(Effect::Writes, QUICK, call).await?;
            let sentence = format!("the role {} is set", line(&name));
            show(context.output, &Done { sentence, json: json!({ "role": name }) })
        }
        Auth::Role(Role::Remove { name, sure }) => {
            if !confirmed(context, sure, without_role(context, &mut auth.clone(), &name)).await? {
                return Ok(());
            }
            let call = auth.remove_role(pb::RemoveRoleRequest { name: name.clone() });
            context.ask(Effect::Writes, QUICK, call).await?;
            let sentence = format!("the role {} was taken away", line(&name));
            show(context.output, &Done { sentence, json: json!({ "role": name }) })
        }
        Auth::Key(Key::Create { role, note, expires }) => {
            let call = auth.create_key(pb::CreateKeyRequest { role, note, ttl_ms: expires.map_or(0, millis) });
            let made = context.ask(Effect::Writes, QUICK, call).await?;
            let key = made.key.ok_or_else(|| incomplete("the key"))?;
            show(context.output, &KeyMade { key, secret: made.secret })
        }
        Auth::Key(Key::List) => {
            let call = auth.list_keys(pb::ListKeysRequest {});
            show(context.output, &context.ask(Effect::Reads, QUICK, call).await?)
        }
        Auth::Key(Key::Revoke { id, sure }) => {
            if !confirmed(context, sure, without_key(context, &mut auth.clone(), &id)).await? {
                return Ok(());
            }
            let call = auth.revoke_key(pb::RevokeKeyRequest { id: id.clone() });
            context.ask(Effect::Writes, QUICK, call).await?;
            let sentence = format!("the key {} is revoked", line(&id));
            show(context.output, &Done { sentence, json: json!({ "key": id }) })
        }
    }
}

/// What taking a role away would do.
async fn without_role(context: &Context, auth: &mut AuthClient<Connection>, name: &str) -> Result<Plan, Failure> {
    let roles = context.ask(Effect::Reads, QUICK, auth.list_roles(pb::ListRolesRequest {})).await?.roles;
    let role = roles.iter().find(|role| role.name == name);
    let role = role.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no role {}", line(name))))?;
    let keys = context.ask(Effect::Reads, QUICK, auth.list_keys(pb::ListKeysRequest {})).await?.keys;
    let (keys, grants) = (keys.iter().filter(|key| key.role == name).count(), role.grants.len());
    let what = format!(
        "take away the role {} with {}: {} and every certificate of this name could do nothing",
        line(name),
        count(grants, "grant"),
        count(keys, "API key"),
    );
    Ok(Plan { what, json: json!({ "role": name, "grants": grants, "keys": keys }) })
}

/// What revoking a key would do.
async fn without_key(context: &Context, auth: &mut AuthClient<Connection>, id: &str) -> Result<Plan, Failure> {
    let keys = context.ask(Effect::Reads, QUICK, auth.list_keys(pb::ListKeysRequest {})).await?.keys;
    let key = keys.iter().find(|key| key.id == id);
    let key = key.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no key {}", line(id))))?;
    let note = if key.note.is_empty() { String::new() } else { format!(", \"{}\"", line(&key.note)) };
    let what = format!("revoke the key {} of the role {}{note}", line(id), line(&key.role));
    Ok(Plan { what, json: json!({ "key": id, "role": key.role, "note": key.note }) })
}

/// Carries out a command on the audit log.
pub(crate) async fn audit(context: &Context, command: Audit) -> Result<(), Failure> {
    let mut auth = client(context).await?;
    match command {
        Audit::List { after, limit } => {
            let call = auth.list_audit(pb::ListAuditRequest { after, limit });
            let page = context.ask(Effect::Reads, SLOW, call).await?;
            let entries = page.entries.iter().map(decoded).collect::<Result<_, _>>()?;
            show(context.output, &AuditPage { entries, last: page.last })
        }
        Audit::Verify { head } => {
            let mut chain = Chain::default();
            loop {
                let call = auth.list_audit(pb::ListAuditRequest { after: chain.number, limit: PAGE });
                let page = context.ask(Effect::Reads, SLOW, call).await?;
                for bytes in &page.entries {
                    chain.follow(bytes)?;
                    if head.as_ref().is_some_and(|(number, noted)| *number == chain.number && *noted != chain.sha256) {
                        return Err(broken(chain.number, "is another than the one whose head was noted"));
                    }
                }
                if chain.number >= page.last {
                    if chain.sha256 != page.last_sha256 || chain.number > page.last {
                        return Err(broken(page.last, "does not have the SHA-256 that the log's head names"));
                    }
                    break;
                }
                if page.entries.is_empty() {
                    return Err(broken(chain.number.saturating_add(1), "is gone"));
                }
            }
            if let Some((number, _)) = head.filter(|(number, _)| *number > chain.number) {
                return Err(broken(number, "was noted and is gone"));
            }
            let sentence = if chain.number == 0 {
                "the log is empty".to_owned()
            } else {
                format!(
                    "{} entries, each as the one after it says; head {}:{}",
                    chain.number, chain.number, chain.sha256
                )
            };
            show(context.output, &Done { sentence, json: json!({ "entries": chain.number, "sha256": chain.sha256 }) })
        }
    }
}

/// How far the chain was followed.
#[derive(Debug, Default)]
struct Chain {
    number: u64,
    sha256: String,
}

impl Chain {
    fn follow(&mut self, bytes: &Bytes) -> Result<(), Failure> {
        let entry = decoded(bytes)?;
        let number = self.number.saturating_add(1);
        if entry.get("number").and_then(Value::as_u64) != Some(number) {
            return Err(broken(number, "is gone, or in another place"));
        }
        if entry.get("before").and_then(Value::as_str) != Some(&self.sha256) {
            return Err(broken(
                self.number.max(1),
                "is another than the one that the entry after it was written behind",
            ));
        }
        *self = Self { number, sha256: sha256(bytes) };
        Ok(())
    }
}

fn decoded(bytes: &Bytes) -> Result<Value, Failure> {
    serde_json::from_slice(bytes).map_err(|_error| Error::corrupt("an entry of the audit log is no JSON").into())
}

fn broken(number: u64, why: &str) -> Failure {
    let error = Error::new(ErrorKind::Corrupt, format!("the audit log was changed: entry {number} {why}"));
    Failure::with_advice(error, "Compare it with a backup, and find out who can write to the meta group.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, before: &str, who: &str) -> Bytes {
        json!({ "number": number, "before": before, "who": who }).to_string().into()
    }

    #[test]
    fn a_chain_is_followed_until_it_breaks() {
        let first = entry(1, "", "ann");
        let second = entry(2, &sha256(&first), "bob");
        let third = entry(3, &sha256(&second), "ann");
        let follow = |entries: &[&Bytes]| {
            let mut chain = Chain::default();
            entries.iter().try_for_each(|bytes| chain.follow(bytes)).map_err(|failure| failure.exit_code())
        };
        assert_eq!(follow(&[&first, &second, &third]), Ok(()));
        assert_eq!(follow(&[&first, &third]), Err(8), "one was taken out");
        assert_eq!(follow(&[&second]), Err(8), "the first is gone");
        let forged = entry(2, &sha256(&first), "eve");
        assert_eq!(follow(&[&first, &forged, &third]), Err(8), "one was changed");
        assert_eq!(follow(&[&"no JSON".into()]), Err(8));
    }
}
