-- The same text runs on SQLite and PostgreSQL. CTEXT is text in the order of its
-- bytes: in PostgreSQL a domain that Open makes beforehand (COLLATE "C"), in SQLite
-- simply text. Times are microseconds since 1970, documents are JSON.

-- +goose Up
CREATE TABLE sites (
  key CTEXT NOT NULL PRIMARY KEY, revision BIGINT NOT NULL, created BIGINT NOT NULL, changed BIGINT NOT NULL,
  doc TEXT NOT NULL
);

CREATE TABLE machines (
  key CTEXT NOT NULL PRIMARY KEY, revision BIGINT NOT NULL, created BIGINT NOT NULL, changed BIGINT NOT NULL,
  site CTEXT NOT NULL, item CTEXT NOT NULL, state CTEXT NOT NULL,
  doc TEXT NOT NULL
);
CREATE INDEX machines_site ON machines (site, key);
CREATE INDEX machines_item ON machines (item, key);
CREATE INDEX machines_state ON machines (state, key);

CREATE TABLE nodes (
  key CTEXT NOT NULL PRIMARY KEY, revision BIGINT NOT NULL, created BIGINT NOT NULL, changed BIGINT NOT NULL,
  site CTEXT NOT NULL, role CTEXT NOT NULL, state CTEXT NOT NULL,
  doc TEXT NOT NULL
);
CREATE INDEX nodes_site ON nodes (site, key);
CREATE INDEX nodes_role ON nodes (role, key);
CREATE INDEX nodes_state ON nodes (state, key);

CREATE TABLE enrolments (
  key CTEXT NOT NULL PRIMARY KEY, revision BIGINT NOT NULL, created BIGINT NOT NULL, changed BIGINT NOT NULL,
  site CTEXT NOT NULL, role CTEXT NOT NULL,
  doc TEXT NOT NULL
);
CREATE INDEX enrolments_site ON enrolments (site, key);
CREATE INDEX enrolments_role ON enrolments (role, key);

CREATE TABLE tokens (
  key CTEXT NOT NULL PRIMARY KEY, revision BIGINT NOT NULL, created BIGINT NOT NULL, changed BIGINT NOT NULL,
  doc TEXT NOT NULL
);

CREATE TABLE policies (
  key CTEXT NOT NULL PRIMARY KEY, revision BIGINT NOT NULL, created BIGINT NOT NULL, changed BIGINT NOT NULL,
  doc TEXT NOT NULL
);

CREATE TABLE items (
  key CTEXT NOT NULL PRIMARY KEY, revision BIGINT NOT NULL, created BIGINT NOT NULL, changed BIGINT NOT NULL,
  site CTEXT NOT NULL, state CTEXT NOT NULL,
  doc TEXT NOT NULL,
  record TEXT NOT NULL
);
CREATE INDEX items_site ON items (site, key);
CREATE INDEX items_state ON items (state, key);

CREATE TABLE jobs (
  key CTEXT NOT NULL PRIMARY KEY, revision BIGINT NOT NULL, created BIGINT NOT NULL, changed BIGINT NOT NULL,
  item CTEXT NOT NULL, state CTEXT NOT NULL, request CTEXT NOT NULL,
  doc TEXT NOT NULL
);
CREATE INDEX jobs_created ON jobs (created, key);
CREATE INDEX jobs_item ON jobs (item, created, key);
CREATE INDEX jobs_state ON jobs (state, created, key);
CREATE INDEX jobs_request ON jobs (request, created, key);

CREATE TABLE artefacts (
  key CTEXT NOT NULL PRIMARY KEY, revision BIGINT NOT NULL, created BIGINT NOT NULL, changed BIGINT NOT NULL,
  site CTEXT NOT NULL, state CTEXT NOT NULL,
  doc TEXT NOT NULL
);
CREATE INDEX artefacts_site ON artefacts (site, key);
CREATE INDEX artefacts_state ON artefacts (state, key);

CREATE TABLE alerts (
  key CTEXT NOT NULL PRIMARY KEY, revision BIGINT NOT NULL, created BIGINT NOT NULL, changed BIGINT NOT NULL,
  state CTEXT NOT NULL,
  doc TEXT NOT NULL
);
CREATE INDEX alerts_created ON alerts (created, key);
CREATE INDEX alerts_state ON alerts (state, created, key);

CREATE TABLE proofs (
  key CTEXT NOT NULL PRIMARY KEY, created BIGINT NOT NULL,
  data TEXT NOT NULL
);

CREATE TABLE scores (
  item CTEXT NOT NULL, n BIGINT NOT NULL,
  doc TEXT NOT NULL,
  PRIMARY KEY (item, n)
);

CREATE TABLE audit (
  id BIGINT NOT NULL PRIMARY KEY,
  doc TEXT NOT NULL
);

CREATE TABLE events (
  id BIGINT NOT NULL PRIMARY KEY, happened BIGINT NOT NULL,
  kind CTEXT NOT NULL, subject CTEXT NOT NULL, what CTEXT NOT NULL
);

CREATE TABLE settings (
  name CTEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
);

-- +goose Down
DROP TABLE settings;
DROP TABLE events;
DROP TABLE audit;
DROP TABLE scores;
DROP TABLE proofs;
DROP TABLE alerts;
DROP TABLE artefacts;
DROP TABLE jobs;
DROP TABLE items;
DROP TABLE policies;
DROP TABLE tokens;
DROP TABLE enrolments;
DROP TABLE nodes;
DROP TABLE machines;
DROP TABLE sites;
