//! Apps: keys, secrets, suspension, and what their store refuses.

use keevo_core::ErrorKind;
use keevo_gateway::apps::{GroupSetting, Secret, Webhook};
use serde_json::json;

use super::support::{KEY, Lab, server};

#[tokio::test]
async fn a_revoked_key_and_a_suspended_app_are_refused() {
    let lab = Lab::new().await;
    let apps = lab.gateway.apps();
    assert_eq!(lab.get("feed/user/1/", &server()).await.status, 200);
    lab.change(|app| app.suspended = true).await;
    assert_eq!(lab.get("feed/user/1/", &server()).await.refused(), (401, 7));
    lab.change(|app| app.suspended = false).await;
    assert_eq!(lab.get("feed/user/1/", &server()).await.status, 200);
    apps.revoke_key(lab.app.id, KEY).await.expect("revoked");
    assert_eq!(lab.get("feed/user/1/", &server()).await.refused(), (401, 2));
    let again = apps.add_key(lab.app.id, Some((KEY.to_owned(), Secret::new("another"))));
    assert_eq!(again.await.expect_err("refused").kind(), ErrorKind::Conflict, "a key is given once");
}

#[tokio::test]
async fn keys_are_made_up_and_belong_to_one_app() {
    let lab = Lab::new().await;
    let apps = lab.gateway.apps();
    let other = apps.create("other", None).await.expect("an app");
    assert_ne!(other.app.id, lab.app.id);
    assert_eq!((other.key.key.len(), other.key.secret.expose().len()), (16, 64));
    assert!(!format!("{other:?}").contains(other.key.secret.expose()), "no debug text holds a secret");
    let taken = apps.create("third", Some((KEY.to_owned(), Secret::new("secret"))));
    assert_eq!(taken.await.expect_err("refused").kind(), ErrorKind::Conflict);
    let names: Vec<String> = apps.list().await.expect("a list").into_iter().map(|app| app.name).collect();
    assert_eq!(names, ["test", "other"]);
    apps.delete(other.app.id).await.expect("deleted");
    assert_eq!(apps.get(other.app.id).await.expect_err("gone").kind(), ErrorKind::NotFound);
    assert_eq!(apps.list().await.expect("a list").len(), 1);
    let next = apps.create("next", None).await.expect("an app");
    assert!(next.app.id > other.app.id, "an id is given once");
    let found = apps.ensure("x", KEY.to_owned(), Secret::new(super::support::SECRET)).await.expect("found");
    assert_eq!(found.id, lab.app.id);
    assert!(apps.ensure("x", KEY.to_owned(), Secret::new("another secret")).await.is_err());
}

#[tokio::test]
async fn what_an_app_cannot_be_is_refused() {
    let lab = Lab::new().await;
    let apps = lab.gateway.apps();
    for (key, secret) in [("", "secret"), ("a b", "secret"), ("k", "short"), ("ü", "secret")] {
        let made = apps.create("x", Some((key.to_owned(), Secret::new(secret)))).await;
        assert_eq!(made.expect_err("refused").kind(), ErrorKind::Invalid, "{key} {secret}");
    }
    assert!(apps.create("", None).await.is_err() && apps.create("a\n", None).await.is_err());
    let bad = |change: fn(&mut keevo_gateway::apps::App)| {
        let apps = apps.clone();
        let id = lab.app.id;
        async move {
            let changed = apps.change(id, |app| {
                change(app);
                Ok(())
            });
            changed.await.expect_err("refused").kind()
        }
    };
    let hook = |url: &str, secret: &str| Webhook { url: url.to_owned(), secret: Secret::new(secret), groups: vec![] };
    assert_eq!(bad(|app| drop(app.groups.insert("a b".to_owned(), GroupSetting::default()))).await, ErrorKind::Invalid);
    assert_eq!(bad(|app| app.rates.extend([("nothing".to_owned(), 1)])).await, ErrorKind::Invalid);
    for hook in [hook("ftp://x/", "secret"), hook("nonsense", "secret"), hook("http://x/", "short")] {
        let changed = apps.change(lab.app.id, |app| {
            app.webhooks.push(hook.clone());
            Ok(())
        });
        assert_eq!(changed.await.expect_err("refused").kind(), ErrorKind::Invalid, "{hook:?}");
    }
}

#[tokio::test]
async fn racing_changes_are_all_made() {
    let lab = Lab::new().await;
    let id = lab.app.id;
    let make = |number: usize| {
        let apps = lab.gateway.apps().clone();
        async move {
            let change = apps.change(id, |app| {
                app.groups.insert(format!("g{number}"), GroupSetting::default());
                Ok(())
            });
            change.await.expect("made");
        }
    };
    futures::future::join_all((0..8).map(make)).await;
    let app = lab.gateway.apps().get(id).await.expect("the app");
    assert!((0..8).all(|number| app.groups.contains_key(&format!("g{number}"))));
    assert_eq!(lab.get("feed/g7/1/", &server()).await.good()["results"], json!([]));
}
