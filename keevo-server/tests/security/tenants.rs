//! Apps A and B on one cluster: a key of the one reaches nothing of the other, in feeds, chat and keys.

use keevo_core::{Batch, Consistency, Engine, ErrorKind, KeyspaceKind, Scan, WatchFrom, WatchRange};
use keevo_proto::admin::v1 as admin;
use keevo_proto::admin::v1::apps_client::AppsClient;
use keevo_proto::chat::v1 as chat;
use keevo_proto::chat::v1::chat_client::ChatClient;
use keevo_proto::error_from_status;
use keevo_proto::feeds::v1 as feeds;
use keevo_proto::feeds::v1::feeds_client::FeedsClient;
use keevo_proto::feeds::v1::social_client::SocialClient;
use tonic::{Request, Status};

use super::support::{ADMIN_KEY, Guarded, patiently};

fn kind<T>(result: Result<T, Status>) -> Option<ErrorKind> {
    result.err().map(|status| error_from_status(&status).kind())
}

/// A request about an app; `None` = it names none.
fn about<T>(app: Option<u32>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(app) = app {
        request.metadata_mut().insert("keevo-app", app.into());
    }
    request
}

fn activity(app: Option<u32>) -> Request<feeds::AddActivityRequest> {
    let activity = feeds::Activity {
        actor: "ann".to_owned(),
        verb: "like".to_owned(),
        object: "photo:1".to_owned(),
        ..Default::default()
    };
    about(app, feeds::AddActivityRequest { feed: "user:ann".to_owned(), activity: Some(activity) })
}

fn read(app: Option<u32>) -> Request<feeds::GetFeedRequest> {
    about(app, feeds::GetFeedRequest { feed: "user:ann".to_owned(), ..Default::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_one_app_reaches_nothing_of_another() {
    let guarded = Guarded::start(&[]).await;
    let mut apps = AppsClient::new(guarded.connection(ADMIN_KEY));
    let mut made = Vec::new();
    for name in ["a", "b"] {
        let request = admin::CreateAppRequest { name: name.to_owned(), ..Default::default() };
        let app = apps.create_app(request).await.expect("an app").into_inner().app.expect("it").id;
        let everything = format!("read,write,watch,admin feeds:{app}");
        let keyspace = format!("app-{name}");
        let keys = format!("read,write,watch,admin kv:{keyspace}");
        let talk = format!("read,write,watch chat:{app}");
        let (_, key) = guarded.key(&format!("app-{name}"), &[&everything, &keys, &talk]).await;
        made.push((app, key, keyspace));
    }
    let denied = Some(ErrorKind::PermissionDenied);
    for (own, other) in [(0, 1), (1, 0)] {
        let ((app, key, keyspace), (foreign, _, foreign_keyspace)) = (&made[own], &made[other]);
        let mut client = FeedsClient::new(guarded.connection(key));
        assert_eq!(kind(client.add_activity(activity(Some(*app))).await), None);
        assert_eq!(kind(client.get_feed(read(Some(*app))).await), None);
        for app in [Some(*foreign), Some(999)] {
            assert_eq!(kind(client.add_activity(activity(app)).await), denied);
            assert_eq!(kind(client.get_feed(read(app)).await), denied);
        }
        // A call that names no app is about the first one.
        let first = if *app == 1 { None } else { denied };
        assert_eq!(kind(client.get_feed(read(None)).await), first);
        let mut twice = read(Some(*app));
        twice.metadata_mut().append("keevo-app", (*foreign).into());
        let page = client.get_feed(twice).await.expect("the first of two counts for both sides").into_inner();
        assert_eq!(page.activities.len(), 1, "the page of the own app");
        let mut social = SocialClient::new(guarded.connection(key));
        let export =
            |app: u32| about(Some(app), feeds::ExportIdsRequest { user_id: "ann".to_owned(), ..Default::default() });
        assert_eq!(kind(social.export_ids(export(*app)).await), None);
        assert_eq!(kind(social.export_ids(export(*foreign)).await), denied);
        // Chat over gRPC is app 1's.
        let mut chat = ChatClient::new(guarded.connection(key));
        let list = || chat::ListChannelsRequest { user: "ann".to_owned(), ..Default::default() };
        let named = chat.list_channels(about(Some(*app), list())).await;
        assert_eq!(kind(named), if *app == 1 { None } else { denied }, "whatever app the call names");
        // Keys, and the keyspaces in which the layers keep every app's data.
        let engine = guarded.engine(key).await;
        let mine = engine.keyspace(keyspace, KeyspaceKind::Hashed).await.expect("it may make its own");
        engine.write(Batch::new().put(mine.key("p", "s"), app.to_string())).await.expect("and write there");
        let theirs = guarded.admin.keyspace(foreign_keyspace, KeyspaceKind::Hashed).await.expect("the admin may");
        let refused = |error: keevo_core::Error| Some(error.kind());
        for keyspace in [theirs, guarded.admin.find_keyspace("feeds").await.expect("there")] {
            let key = keyspace.key("p", "s");
            assert_eq!(engine.get(key.clone(), Consistency::Linearizable).await.err().and_then(refused), denied);
            assert_eq!(engine.write(Batch::new().put(key, "x")).await.err().and_then(refused), denied);
            assert_eq!(engine.scan(Scan::partition(keyspace, "p", 1)).await.err().and_then(refused), denied);
            let watch = engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::Now).await;
            assert_eq!(watch.err().and_then(refused), denied);
        }
        let found = engine.find_keyspace(foreign_keyspace).await;
        assert_eq!(found.err().and_then(refused), denied, "not even its id");
        // Administration.
        let mut apps = AppsClient::new(guarded.connection(key));
        assert_eq!(kind(apps.get_app(admin::GetAppRequest { id: *app }).await), denied);
        assert_eq!(kind(apps.delete_app(admin::DeleteAppRequest { id: *foreign }).await), denied);
    }
    let written = patiently("a read", || guarded.admin.find_keyspace("app-b")).await;
    let found = guarded.admin.get(written.key("p", "s"), Consistency::Linearizable).await.expect("a read");
    assert_eq!(found.expect("there").value, made[1].0.to_string(), "each wrote to its own");
}
