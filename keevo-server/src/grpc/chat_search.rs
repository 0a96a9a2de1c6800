//! `keevo.chat.v1.ChatSearch` over the index of the node.
//!
//! Invariant: a caller finds messages of an app alone whose chat it may read.

use std::fmt;

use keevo_chat::{AppId, Chat, ChatOptions};
use keevo_core::{Error, ErrorKind, Result};
use keevo_gateway::Gateway;
use keevo_proto::chat::v1 as pb;
use keevo_proto::chat::v1::chat_search_server::{ChatSearch, ChatSearchServer};
use keevo_proto::{MESSAGE_BYTES_MAX, status_from_error};
use keevo_raft::ClusterEngine;
use keevo_search::{SearchIndex, Sort};
use tonic::{Request, Response, Status};

use super::chat::{APP, channel_named, message};
use crate::auth::Pass;
use crate::auth::grant::{Action, Target};
use crate::search::messages::{Question, find};

const LIMIT_DEFAULT: usize = 25;
const LIMIT_MAX: usize = 200;

/// The search service of one node.
pub struct ChatSearchService {
    engine: ClusterEngine,
    gateway: Gateway,
    /// `None` = search is off.
    index: Option<SearchIndex>,
}

impl fmt::Debug for ChatSearchService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChatSearchService")
    }
}

impl ChatSearchService {
    /// The service over an engine and the index of its node, for the apps of the gateway.
    pub fn server(engine: ClusterEngine, gateway: &Gateway, index: Option<&SearchIndex>) -> ChatSearchServer<Self> {
        let service = Self { engine, gateway: gateway.clone(), index: index.cloned() };
        ChatSearchServer::new(service).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    async fn find(
        &self,
        pass: Option<&Pass>,
        request: pb::SearchMessagesRequest,
    ) -> Result<pb::SearchMessagesResponse> {
        let app = if request.app == 0 { APP } else { AppId(request.app) };
        if let Some(pass) = pass {
            pass.check(Action::Read, Target::Chat(app.0))?;
        }
        if app != APP && !self.gateway.apps().list().await?.iter().any(|one| one.id == app.0) {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no app {}", app.0)));
        }
        let question = Question {
            app,
            sort: sort(request.order)?,
            query: request.query,
            channel: if request.channel.is_empty() { None } else { Some(channel_named(&request.channel)?) },
            author: request.user,
            after_ms: request.after_ms,
            before_ms: request.before_ms,
            after: Some(request.after).filter(|after| !after.is_empty()),
            limit: limit(request.limit)?,
        };
        let chat = Chat::new(self.engine.clone(), app, ChatOptions::default());
        let page = find(self.index.as_ref(), &chat, &question).await?;
        Ok(pb::SearchMessagesResponse {
            messages: page.found.into_iter().map(|found| message(&found.channel, found.message)).collect(),
            next: page.next.unwrap_or_default(),
            partial: page.partial,
            catching_up: page.state.catching_up,
        })
    }
}

fn limit(asked: u32) -> Result<usize> {
    match usize::try_from(asked).unwrap_or(usize::MAX) {
        0 => Ok(LIMIT_DEFAULT),
        limit if limit <= LIMIT_MAX => Ok(limit),
        limit => Err(Error::invalid(format!("limit is 1 to {LIMIT_MAX}, not {limit}"))),
    }
}

fn sort(order: i32) -> Result<Option<Sort>> {
    match pb::SearchOrder::try_from(order) {
        Ok(pb::SearchOrder::Unspecified) => Ok(None),
        Ok(pb::SearchOrder::Relevance) => Ok(Some(Sort::Relevance)),
        Ok(pb::SearchOrder::Newest) => Ok(Some(Sort::Newest)),
        Ok(pb::SearchOrder::Oldest) => Ok(Some(Sort::Oldest)),
        Err(error) => Err(Error::invalid(format!("there is no order {order}")).with_source(error)),
    }
}

#[tonic::async_trait]
impl ChatSearch for ChatSearchService {
    async fn search_messages(
        &self,
        request: Request<pb::SearchMessagesRequest>,
    ) -> Result<Response<pb::SearchMessagesResponse>, Status> {
        let pass = request.extensions().get::<Pass>().cloned();
        let found = self.find(pass.as_ref(), request.into_inner()).await;
        found.map(Response::new).map_err(|error| status_from_error(&error))
    }
}
