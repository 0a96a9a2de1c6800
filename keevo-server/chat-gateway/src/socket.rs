//! Realtime: one connection a client, the events of its channels, resumed exactly.
//!
//! ```text
//! websocket, conversation ── bring a client's frames, and write what its outbox holds
//!    │
//! session ── hears a client: hello, subscribe, typing               outbox
//!    │                                                              ▲
//!    ▼                                                              │ frames, bounded
//! hub ── channel ── line ── one Subscription of keevo-chat ── event ┘   1,000 watchers, one watch
//!    └── users: one watch of what happens to users
//! ```
//!
//! Invariants: what a socket gets of a channel is a gapless run of its events, each once, or ends with `channel.reload`
//! or `channel.removed`; what waits for a socket is bounded, and one that is too slow is closed and resumes; a token is
//! put into the queue behind the events that it covers.

mod channel;
mod conversation;
mod event;
mod frame;
mod hub;
mod line;
mod outbox;
mod presence;
mod session;
mod users;
mod websocket;

use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::Response;

use crate::error::Refusal;
use crate::gateway::ChatGateway;
use crate::serve;

pub use conversation::Conversation;
pub(crate) use hub::Hub;
pub use outbox::Closing;

/// The largest frame of a client, in bytes.
pub const FRAME_BYTES_MAX: usize = 128 << 10;
/// Memory of a socket for what is read and written, in bytes: most frames are small, and most sockets silent.
const BUFFER_BYTES: usize = 4 << 10;

/// Takes a socket.
pub(crate) async fn serve(
    State(gateway): State<ChatGateway>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response<Body> {
    match upgrade {
        Ok(upgrade) => upgrade
            .max_message_size(FRAME_BYTES_MAX)
            .max_frame_size(FRAME_BYTES_MAX)
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .on_upgrade(move |socket| websocket::run(gateway, socket)),
        Err(_no_upgrade) => {
            let refusal = Refusal::input("this path takes WebSockets alone");
            serve::response(Err(refusal), std::time::Duration::ZERO)
        }
    }
}
