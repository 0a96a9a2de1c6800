//! Keys and private keys show in no log, no dump of the configuration, no metrics and no error.

use std::process::Stdio;

use keevo_core::{Consistency, Engine, KeyspaceKind};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::apps_client::AppsClient;
use keevo_proto::admin::v1::auth_client::AuthClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{ADMIN_KEY, Certs, Guarded, keevod, keyed, options};

const APP_SECRET: &str = "the-secret-of-an-app-of-this-test";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_shows_anywhere() {
    let guarded = Guarded::start(&["--log-level", "trace"]).await;
    let (_, key) = guarded.key("sales", &["read kv:orders"]).await;
    let wrong = format!("{}x", &key[..key.len() - 1]);
    let keyspace = guarded.admin.keyspace("orders", KeyspaceKind::Hashed).await.expect("made");
    let engine = guarded.engine(&key).await;
    engine.get(keyspace.key("p", "s"), Consistency::Linearizable).await.expect("it may");
    let address = guarded.node.grpc.to_string();
    let refused = keevo_client::RemoteEngine::connect(vec![address.clone()], options(keyed(&wrong))).await;
    let refused = format!("{:?}", refused.expect_err("not the key"));
    let mut apps = AppsClient::new(guarded.connection(ADMIN_KEY));
    let create = pb::CreateAppRequest { name: "shop".into(), key: "shop-1".into(), secret: APP_SECRET.into() };
    apps.create_app(create).await.expect("an app");
    let mut auth = AuthClient::new(guarded.connection(ADMIN_KEY));
    let entries = auth.list_audit(pb::ListAuditRequest::default()).await.expect("answered").into_inner().entries;
    let audit: Vec<String> = entries.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    assert!(audit.iter().any(|entry| entry.contains("shop-1")), "{audit:?}");
    let keys = auth.list_keys(pb::ListKeysRequest {}).await.expect("answered").into_inner();
    let mut socket = tokio::net::TcpStream::connect(guarded.node.http).await.expect("connects");
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("asked");
    let mut metrics = String::new();
    socket.read_to_string(&mut metrics).await.expect("answered");
    let counted = |line: &&str| line.starts_with("keevo_auth_unauthenticated_total ") && !line.ends_with(" 0");
    assert!(metrics.lines().any(|line| counted(&line)), "{metrics}");
    let log = guarded.node.log();
    assert!(log.len() > 10_000, "the log says everything that it can: {} bytes", log.len());
    let secret = |text: &str| text.rsplit('_').next().expect("a part").to_owned();
    for hidden in [ADMIN_KEY.to_owned(), secret(&key), secret(&wrong), APP_SECRET.to_owned()] {
        for (place, text) in [
            ("log", &log),
            ("metrics", &metrics),
            ("audit log", &audit.concat()),
            ("list of keys", &format!("{keys:?}")),
            ("error", &refused),
            ("client", &format!("{engine:?}")),
        ] {
            assert!(!text.contains(&hidden), "the {place} shows {hidden}");
        }
    }
}

#[tokio::test]
async fn the_configuration_names_files_and_not_what_is_in_them() {
    let certs = Certs::new();
    let mut settings = certs.settings(1);
    let key = certs.path("admin.key");
    std::fs::write(&key, ADMIN_KEY).expect("written");
    settings.extend([
        "--auth".to_owned(),
        "true".to_owned(),
        "--auth-admin-key-file".to_owned(),
        key.display().to_string(),
    ]);
    settings.splice(0..0, ["config".to_owned(), "print".to_owned(), "--origin".to_owned()]);
    let nowhere = "127.0.0.1:1".parse().expect("an address");
    let output = keevod(nowhere, nowhere, certs.dir.path(), &settings).stdout(Stdio::piped()).output();
    let output = output.expect("keevod starts");
    let shown = String::from_utf8(output.stdout).expect("text");
    assert!(shown.contains("admin.key") && shown.contains("node-1.key"), "{shown}");
    assert!(!shown.contains(ADMIN_KEY) && !shown.contains("PRIVATE"), "{shown}");
}
