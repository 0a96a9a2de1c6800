-- What people decided on a version; appended, and never changed.
CREATE TABLE keevo_reviews (
    app bigint NOT NULL,
    kind text NOT NULL,
    channel text NOT NULL,
    id text NOT NULL,
    hash text NOT NULL,
    -- allow, remove or ban.
    ruling text NOT NULL,
    reviewer text NOT NULL,
    -- The labels that hold of the text.
    labels text[] NOT NULL,
    note text NOT NULL,
    decided_at timestamptz NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app, kind, channel, id, hash)
);
CREATE INDEX keevo_reviews_decided_at ON keevo_reviews (app, decided_at);
