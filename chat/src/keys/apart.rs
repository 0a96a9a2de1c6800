//! Keys outside the channels' partitions: of users, of the outbox, of the directory of users, of the review queue.

use bytes::{BufMut, Bytes, BytesMut};
use keevo_core::{Error, Result, partition_hash};

use super::{BLOCK, LISTING, MUTE, USER_BUCKETS, broken, partition, tagged, text};
use crate::ids::{AppId, ChannelId};

const PARTITION_USER: u8 = 0x02;
const PARTITION_OUTBOX: u8 = 0x03;
const PARTITION_USERS: u8 = 0x04;
const PARTITION_QUEUE: u8 = 0x05;
const USER: u8 = 0x11;
const PREFERENCE: u8 = 0x12;
const APP_BAN: u8 = 0x15;

/// The partition of a user's own rows.
pub(crate) fn user_partition(app: AppId, user: &str) -> Bytes {
    partition(app, PARTITION_USER, user.as_bytes())
}

/// The sort key of a channel in a user's list.
pub(crate) fn listing(channel: &str) -> Bytes {
    tagged(LISTING, channel)
}

/// The app and user of a user's partition; `None` for a partition of another kind.
pub(crate) fn parse_user(partition: &[u8]) -> Option<(AppId, &str)> {
    let (app, rest) = partition.split_first_chunk::<4>()?;
    let user = std::str::from_utf8(rest.strip_prefix(&[PARTITION_USER])?).ok()?;
    Some((AppId(u32::from_be_bytes(*app)), user))
}

/// The channel that the sort key of a listing names.
pub(crate) fn parse_listing(sort: &[u8]) -> Result<ChannelId> {
    match sort.split_first() {
        Some((&LISTING, channel)) => text(channel)?.parse().map_err(|error: Error| broken().with_source(error)),
        _ => Err(broken()),
    }
}

/// The sort key of what is known of a user, in its own partition.
pub(crate) fn user() -> Bytes {
    Bytes::from_static(&[USER])
}

/// The partition of the bucket of the directory that names a user; there, its id is the sort key.
pub(crate) fn directory_partition(app: AppId, user: &str) -> Bytes {
    directory_bucket(app, partition_hash(user.as_bytes()) % USER_BUCKETS)
}

/// The partition of one bucket of the directory of users.
pub(crate) fn directory_bucket(app: AppId, bucket: u16) -> Bytes {
    partition(app, PARTITION_USERS, &bucket.to_be_bytes())
}

/// The sort key of what a user wants of a channel.
pub(crate) fn preference(channel: &str) -> Bytes {
    tagged(PREFERENCE, channel)
}

/// The sort key of a user whom the partition's user has muted.
pub(crate) fn mute(user: &str) -> Bytes {
    tagged(MUTE, user)
}

/// The sort key of a user whom the partition's user has blocked.
pub(crate) fn block(user: &str) -> Bytes {
    tagged(BLOCK, user)
}

/// The sort key of the user's ban from the whole app.
pub(crate) fn app_ban() -> Bytes {
    Bytes::from_static(&[APP_BAN])
}

/// The name at the end of a sort key with a tag of one byte.
pub(crate) fn trailing_name(sort: &[u8]) -> Result<&str> {
    sort.split_first().map_or_else(|| Err(broken()), |(_, name)| text(name))
}

/// The partition of one bucket of the queue of what is to be reviewed.
pub(crate) fn queue_partition(app: AppId, bucket: u16) -> Bytes {
    partition(app, PARTITION_QUEUE, &bucket.to_be_bytes())
}

/// The sort key of a message in that queue.
pub(crate) fn queued(channel: &str, id: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + channel.len() + id.len());
    out.put_slice(channel.as_bytes());
    out.put_u8(0);
    out.put_slice(id.as_bytes());
    out.freeze()
}

/// The channel and the message that an entry of the queue names.
pub(crate) fn parse_queued(sort: &[u8]) -> Result<(ChannelId, &str)> {
    let (channel, id) = text(sort)?.split_once('\0').ok_or_else(broken)?;
    Ok((channel.parse().map_err(|error: Error| broken().with_source(error))?, id))
}

/// The partition of one bucket of the outbox.
pub(crate) fn outbox_partition(app: AppId, bucket: u16) -> Bytes {
    partition(app, PARTITION_OUTBOX, &bucket.to_be_bytes())
}
