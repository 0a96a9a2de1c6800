//! Chat over HTTP and WebSocket, under `/chat/v1`: docs/CHAT-API.md is the protocol, keevo-chat the library below.
//!
//! Start with [`ChatGateway`]: it stands beside a [`keevo_gateway::Gateway`], whose apps, tokens, limits, errors and files
//! it shares, and gives an [`axum::Router`]. A request goes through `serve` (key, token, rights, limits, body) → `route`
//! (one table of endpoints, with the fields that each takes) → `endpoints` → `render`. A socket goes through `socket`, and so does
//! whoever speaks its protocol over something else ([`ChatGateway::converse`]); what goes out to apps' own servers, through `hooks`.
//!
//! Invariants: whatever a client sends is answered by a code of the protocol and a sentence, never by a panic; a user's
//! token acts as that user under [`keevo_chat::Rights::Members`], and a server's is trusted; nothing of one app reaches
//! another. Deliberately absent: business rules of chat, which lie in keevo-chat, and judgements of texts, which come in
//! through [`Gatekeeper`].

mod call;
mod chats;
mod endpoints;
mod error;
mod field;
mod gate;
mod gateway;
mod hooks;
mod members;
mod openapi;
mod render;
mod resume;
mod route;
mod serve;
mod socket;
mod table;
mod users_limit;
mod watches;

pub use gate::{Gatekeeper, Passed};
pub use gateway::{ChatGateway, ChatGatewayOptions};
pub use socket::{Closing, Conversation, FRAME_BYTES_MAX};
