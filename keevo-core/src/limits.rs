//! The limits that every engine enforces alike, whatever is underneath.

/// The longest partition, in bytes.
pub const PARTITION_BYTES_MAX: usize = 512;
/// The longest sort key, in bytes.
pub const SORT_BYTES_MAX: usize = 2_048;
/// The largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// The most operations and preconditions in a batch.
pub const BATCH_OPS_MAX: usize = 4_096;
/// The most bytes of keys and values in a batch.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// The most targets in one fan-out call.
pub const FAN_OUT_TARGETS_MAX: usize = 65_536;
/// The most bytes that one fan-out may expand to: targets × (key + payload).
pub const FAN_OUT_EXPANDED_BYTES_MAX: usize = 16 << 20;
/// The most keys in one `multi_get`.
pub const MULTI_GET_KEYS_MAX: usize = 4_096;
/// The most records on one page of a scan.
pub const SCAN_LIMIT_MAX: usize = 10_000;
/// The most bytes of values on one page of a scan; a page ends early at this size.
pub const SCAN_BYTES_MAX: usize = 4 << 20;
/// The longest keyspace name, in bytes.
pub const KEYSPACE_NAME_BYTES_MAX: usize = 64;
/// The longest partition length that an ordered keyspace may declare, in bytes.
pub const ORDERED_PARTITION_BYTES_MAX: u8 = 64;
/// The longest time to live: ten years, in milliseconds.
pub const TTL_MS_MAX: u64 = 10 * 365 * 24 * 3_600 * 1_000;
/// The most rows that a restore puts in place at once.
pub const RESTORE_ROWS_MAX: usize = 4_096;
/// The most bytes of their keys and records.
pub const RESTORE_BYTES_MAX: usize = 4 << 20;
/// The most shards of a backup that a restore puts in place.
pub const RESTORE_SOURCES_MAX: usize = 65_536;
/// The most requests of one client that may be in flight at once, in one shard.
pub const SESSION_WINDOW: u64 = 1_024;
/// The most sessions that one shard keeps; the least recently used gives way.
pub const SESSIONS_MAX: usize = 4_096;
/// A session unused for this long, by the shard's clock, may be dropped (24 hours).
pub const SESSION_IDLE_MS_MAX: u64 = 24 * 3_600 * 1_000;
