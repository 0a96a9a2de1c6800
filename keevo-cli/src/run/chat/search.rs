//! `keevo-cli chat search`.

use bytes::Bytes;
use keevo_client::Connection;
use keevo_proto::chat::v1 as pb;
use keevo_proto::chat::v1::chat_search_client::ChatSearchClient;

use crate::args::chat::{Search, Sort};
use crate::connect::{Context, Effect, QUICK};
use crate::failure::Failure;
use crate::output::show;
use crate::render;

/// The most messages of one answer.
const PAGE: usize = 200;

/// Finds messages, page by page.
pub(super) async fn search(
    context: &Context,
    mut client: ChatSearchClient<Connection>,
    args: Search,
) -> Result<(), Failure> {
    let most = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let order = match args.sort {
        None => pb::SearchOrder::Unspecified,
        Some(Sort::Relevance) => pb::SearchOrder::Relevance,
        Some(Sort::Newest) => pb::SearchOrder::Newest,
        Some(Sort::Oldest) => pb::SearchOrder::Oldest,
    };
    let mut found = render::chat::Found { messages: Vec::new(), more: false, partial: false, catching_up: false };
    let mut after = Bytes::new();
    loop {
        let request = pb::SearchMessagesRequest {
            app: args.app,
            query: args.query.clone(),
            channel: args.channel.clone(),
            user: args.user.clone(),
            after_ms: args.from,
            before_ms: args.to,
            order: order.into(),
            limit: u32::try_from((most - found.messages.len()).min(PAGE)).unwrap_or(u32::MAX),
            after,
        };
        let page = context.ask(Effect::Reads, QUICK, client.search_messages(request)).await?;
        found.messages.extend(page.messages);
        found.messages.truncate(most);
        found.partial |= page.partial;
        found.catching_up |= page.catching_up;
        found.more = !page.next.is_empty();
        if !found.more || found.messages.len() == most {
            return show(context.output, &found);
        }
        after = page.next;
    }
}
