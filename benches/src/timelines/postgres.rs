//! PostgreSQL as timelines are kept there: a table of entries, written by one statement a post and read by one join.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use tokio_postgres::{Client, Config, NoTls, Statement};

use super::{PAGE, Shape, Timelines, USERS, text_of, user_of, user_text};

/// Connections, dealt out in turn: PostgreSQL works one statement after another on each.
const CONNECTIONS: usize = 12;
/// How often it is tried to connect: it accepts before it serves.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

const TABLES: &str = "
create table users (id text primary key, data text not null);
create table follows (target text, follower bigint, primary key (target, follower));
create table activities (id bigserial primary key, actor text not null, verb text not null, object text not null,
    data text not null);
create table timeline (follower bigint, activity bigint, primary key (follower, activity));
";
const POST: &str = "
with added as (insert into activities (actor, verb, object, data) values ($1, 'post', $2, $3) returning id)
insert into timeline (follower, activity) select follower, id from follows, added where target = 'author'";
const READ: &str = "
select a.id, a.actor, a.verb, a.object, a.data, u.data
from timeline t join activities a on a.id = t.activity join users u on u.id = a.actor
where t.follower = $1 order by t.activity desc limit $2";

/// One connection with its statements prepared.
struct Connection {
    client: Client,
    post: Statement,
    read: Statement,
}

/// The timelines of one PostgreSQL.
#[derive(Clone)]
pub(crate) struct PostgresTimelines {
    connections: Arc<[Connection]>,
    turn: Arc<AtomicUsize>,
    shape: Shape,
}

impl PostgresTimelines {
    /// Connects, and makes the tables, users and follows. `Unavailable`: it does not answer.
    pub(crate) async fn open(address: &str, shape: Shape) -> Result<Self> {
        let first = connect(address).await?;
        first.batch_execute(TABLES).await.map_err(unanswered)?;
        let add = first.prepare("insert into users values ($1, $2)").await.map_err(unanswered)?;
        for number in 0..USERS {
            first.execute(&add, &[&user_of(number), &user_text(number)]).await.map_err(unanswered)?;
        }
        let follows = "insert into follows select 'author', f from generate_series(0, $1::bigint - 1) f";
        first.execute(follows, &[&i64::from(shape.followers)]).await.map_err(unanswered)?;
        first.batch_execute("analyze").await.map_err(unanswered)?;
        // The first one stays: a process that ends would be missed while the others are measured.
        let mut clients = vec![first];
        while clients.len() < CONNECTIONS {
            clients.push(connect(address).await?);
        }
        let mut connections = Vec::with_capacity(CONNECTIONS);
        for client in clients {
            let post = client.prepare(POST).await.map_err(unanswered)?;
            let read = client.prepare(READ).await.map_err(unanswered)?;
            connections.push(Connection { client, post, read });
        }
        Ok(Self { connections: connections.into(), turn: Arc::default(), shape })
    }

    fn connection(&self) -> Result<&Connection> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let connection = self.connections.get(turn % self.connections.len().max(1));
        connection.ok_or_else(|| Error::new(ErrorKind::Unavailable, "there is no connection to postgres"))
    }
}

impl Timelines for PostgresTimelines {
    async fn post(&self) -> Result<()> {
        let number = u64::try_from(self.turn.load(Ordering::Relaxed)).unwrap_or_default();
        let Connection { client, post, .. } = self.connection()?;
        let text = text_of(number, self.shape.text_bytes);
        let added = client.execute(post, &[&user_of(number), &format!("post:{number}"), &text]).await;
        let added = added.map_err(unanswered)?;
        if added != u64::from(self.shape.followers) {
            return Err(Error::corrupt(format!("a post of postgres made {added} entries")));
        }
        Ok(())
    }

    async fn page(&self, follower: u32) -> Result<usize> {
        let Connection { client, read, .. } = self.connection()?;
        let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
        let rows = client.query(read, &[&i64::from(follower), &limit]).await.map_err(unanswered)?;
        let whole = |row: &&tokio_postgres::Row| row.try_get::<_, String>(5).is_ok_and(|data| !data.is_empty());
        Ok(rows.iter().filter(whole).count())
    }

    async fn entries(&self) -> Result<u64> {
        let Connection { client, .. } = self.connection()?;
        let row = client.query_one("select count(*) from timeline", &[]).await.map_err(unanswered)?;
        let count: i64 = row.try_get(0).map_err(unanswered)?;
        Ok(u64::try_from(count).unwrap_or_default())
    }
}

/// A connection, once PostgreSQL serves.
async fn connect(address: &str) -> Result<Client> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "5432"));
    let mut config = Config::new();
    config.host(host).user("bench").dbname("postgres");
    config.port(port.parse().map_err(|error| Error::invalid("a port is a number").with_source(error))?);
    let mut attempts = 0;
    loop {
        attempts += 1;
        match config.connect(NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return Ok(client);
            }
            Err(error) if attempts == ATTEMPTS => {
                return Err(Error::new(ErrorKind::Unavailable, "postgres cannot be reached").with_source(error));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn unanswered(error: tokio_postgres::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "postgres refuses a statement, or does not answer").with_source(error)
}
