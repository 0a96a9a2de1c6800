-- One row a text version that was judged; the key is what makes it one.
CREATE TABLE keevo_verdicts (
    app bigint NOT NULL,
    -- message, activity or reaction.
    kind text NOT NULL,
    -- Of a message; else empty.
    channel text NOT NULL,
    -- Of the message, activity or reaction.
    id text NOT NULL,
    -- 16 bytes of SHA-256 over the whole text, in hexadecimal.
    hash text NOT NULL,
    -- chat:CHANNEL_TYPE, feeds:FEED_GROUP or feeds:reaction:KIND.
    scope text NOT NULL,
    author text NOT NULL,
    -- U+0000 is stored as U+FFFD: PostgreSQL's text cannot hold it.
    text text NOT NULL,
    -- How many bytes were cut off the end of a very long text.
    cut_bytes bigint NOT NULL,
    written_at timestamptz NOT NULL,
    -- allow, flag, mask, hold, shadow, bounce or block.
    action text NOT NULL,
    reasons jsonb NOT NULL,
    -- Of each label, 0 to 1; empty where no model was asked.
    scores jsonb NOT NULL,
    model text NOT NULL,
    masked text,
    judged_at timestamptz NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app, kind, channel, id, hash)
);
CREATE INDEX keevo_verdicts_judged_at ON keevo_verdicts (app, judged_at);
CREATE INDEX keevo_verdicts_author ON keevo_verdicts (app, author);
