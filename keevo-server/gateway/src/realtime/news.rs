//! What is told of changed feeds: one object a feed.

use std::collections::BTreeMap;

use keevo_core::Result;
use keevo_feeds::{ActivityId, AppId, FeedChange, FeedId};
use serde_json::{Value, json};

use crate::registry::Registry;
use crate::render;

/// What happened to one feed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Changed {
    added: Vec<ActivityId>,
    removed: Vec<ActivityId>,
}

/// Changes, gathered by feed. An activity that came and left, or came twice, is told as it was left in the end.
#[derive(Debug, Default)]
pub(crate) struct News(BTreeMap<(AppId, FeedId), Changed>);

impl News {
    /// Adds a change.
    pub(crate) fn add(&mut self, change: FeedChange) {
        let changed = self.0.entry((change.app, change.feed)).or_default();
        changed.added.retain(|id| *id != change.activity);
        changed.removed.retain(|id| *id != change.activity);
        let list = if change.added { &mut changed.added } else { &mut changed.removed };
        list.push(change.activity);
    }

    /// How many activities they hold.
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(|changed| changed.added.len() + changed.removed.len()).sum()
    }

    /// The objects to tell, each with its app and feed. Activities that are gone by now are left out of `new`; one
    /// that still stands in the feed, since it had come in two ways, is told as deleted none the less.
    pub(crate) async fn tell(self, registry: &Registry, now_ms: u64) -> Result<Vec<(AppId, FeedId, Value)>> {
        let mut told = Vec::new();
        for ((app, feed), changed) in self.0 {
            let feeds = registry.open(app).await?;
            let added = feeds.activities(&changed.added).await?;
            let new: Vec<Value> = added.iter().rev().map(|one| Value::Object(render::activity(one))).collect();
            let names = feeds.foreign_ids(&changed.removed).await?;
            let named = |id: &ActivityId| names.get(id).map(|name| json!([name, id.time().to_string()]));
            let deleted_foreign_ids: Vec<Value> = changed.removed.iter().filter_map(named).collect();
            let deleted: Vec<String> = changed.removed.iter().map(ToString::to_string).collect();
            if new.is_empty() && deleted.is_empty() {
                continue;
            }
            let data = json!({
                "feed": feed.as_str(),
                "app_id": app.0,
                "new": new,
                "deleted": deleted,
                "deleted_foreign_ids": deleted_foreign_ids,
                "published_at": render::stamp_ms(now_ms),
            });
            told.push((app, feed, data));
        }
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_feeds::Identity;

    #[test]
    fn the_last_change_of_an_activity_counts() {
        let time = "2026-01-01T00:00:00".parse().expect("a time");
        let id = |name| ActivityId::compute(AppId(1), time, Identity::ForeignId(name));
        let change =
            |activity, added| FeedChange { app: AppId(1), feed: "user:1".parse().expect("a feed"), activity, added };
        let mut news = News::default();
        for (name, added) in [("a", true), ("a", true), ("b", true), ("b", false), ("c", false), ("c", true)] {
            news.add(change(id(name), added));
        }
        assert_eq!(news.len(), 3);
        let changed = news.0.into_values().next().expect("one feed");
        assert_eq!(changed, Changed { added: vec![id("a"), id("c")], removed: vec![id("b")] });
    }
}
