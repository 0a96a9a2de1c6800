//! The beginning of a session: who it is, and what it resumes.

use std::sync::Arc;

use keevo_chat::{Position, ResumeToken};
use keevo_gateway::shared::{Bearer, Limit, Principal};
use serde_json::{Value, json};

use super::{Closing, Session, Who};
use crate::error::{Answered, Refusal};
use crate::resume;
use crate::socket::FRAME_BYTES_MAX;
use crate::socket::frame::{self, Hello};

impl Session {
    /// Takes a hello: welcomes the user and gives it what it missed, or says why not and ends the socket.
    pub(super) async fn hello(&mut self, id: &Value, hello: Hello) -> Result<(), Closing> {
        let resume = hello.resume.clone();
        let who = match self.know(&hello).await {
            Ok(who) => who,
            Err(refusal) => {
                self.refuse(id, &refusal);
                return Err(closing(&refusal));
            }
        };
        let now_ms = self.gateway.inner.shared.now_ms();
        let places =
            match resume.map_or_else(|| Ok(Vec::new()), |text| resume::open(&who.app, &who.user, &text, now_ms)) {
                Ok(places) => places,
                Err(refusal) => {
                    self.refuse(id, &refusal);
                    return Err(Closing::BAD_RESUME);
                }
            };
        let (app, user, admin) = (who.app.id, who.user.to_string(), who.admin);
        let watched = match self.hub.watch_user(app, &user).await {
            Ok(watched) => watched,
            Err(error) => {
                let refusal = Refusal::from(error);
                self.refuse(id, &refusal);
                return Err(closing(&refusal));
            }
        };
        self.who = Some(who);
        let wanted: Vec<(String, Option<ResumeToken>, Option<Position>)> = places
            .into_iter()
            .map(|place| {
                let cid = place.channel().to_string();
                let seen = hello.seen.get(&cid).copied();
                (cid, Some(place), seen)
            })
            .collect();
        let checked = self.check(wanted).await;
        let channels: Vec<Value> = checked.iter().map(|one| frame::status(&one.cid, &one.outcome)).collect();
        let token = self.token(&checked);
        let options = &self.gateway.inner.options;
        let (max, socket) = (options.user_sockets_max, self.seat.number);
        if !self.hub.inner.users.enter((app, &user, &watched), socket, &self.outbox, admin, max) {
            return Err(Closing::FULL);
        }
        self.watched = Some(watched);
        self.say(&json!({
            "type": "welcome",
            "id": id,
            "connection_id": format!("{:x}-{socket:x}", self.gateway.inner.shared.options().random.next_u64()),
            "user_id": user,
            "heartbeat_ms": u64::try_from(options.heartbeat.as_millis()).unwrap_or(u64::MAX),
            "time": now_ms,
            "limits": { "channels": options.channels_max, "frame_bytes": FRAME_BYTES_MAX, "sockets": max },
            "channels": channels,
            "resume": token,
        }));
        self.watch(checked).await;
        // A ban from before the socket was entered was told to nobody.
        let chats = self.gateway.inner.chats.of(app);
        chats.live(&user).await.map_err(|refusal| closing(&refusal))
    }

    /// Who says hello, if it may.
    async fn know(&self, hello: &Hello) -> Answered<Who> {
        let shared = &self.gateway.inner.shared;
        let app = shared.app_of_key(&hello.api_key).await?;
        shared.take(&app, Limit::ChatConnect).1?;
        let Bearer { principal, expires_ms } = shared.bearer(&app, &hello.api_key, &hello.token)?;
        let Principal::User(user) = principal else {
            return Err(Refusal::denied("another-user", "a socket is a user's: connect with a user's token"));
        };
        let chats = self.gateway.inner.chats.of(app.id);
        chats.live(&user).await?;
        let admin = chats.is_admin(&user).await?;
        let (key, user) = (hello.api_key.clone(), Arc::from(user));
        Ok(Who { app, key, user, admin, invisible: hello.invisible, expires_ms })
    }

    /// Goes on with a fresh token of the same user.
    pub(super) fn renew(&mut self, token: &str) -> Answered<()> {
        let Some(who) = &mut self.who else { return Ok(()) };
        let Bearer { principal, expires_ms } = self.gateway.inner.shared.bearer(&who.app, &who.key, token)?;
        match principal {
            Principal::User(user) if *user == *who.user => {
                who.expires_ms = expires_ms;
                Ok(())
            }
            _ => Err(Refusal::denied("another-user", "the token is of another user: open another socket")),
        }
    }
}

/// How a socket ends whose hello is refused.
fn closing(refusal: &Refusal) -> Closing {
    match refusal.code() {
        2 | 40..=43 => Closing::TOKEN,
        7 | 17 => Closing::DENIED,
        9 => Closing::FULL,
        4 => Closing::BAD_FRAME,
        _ => Closing::FAILED,
    }
}
