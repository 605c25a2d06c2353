--
-- PostgreSQL database dump
--


-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: tripline; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA tripline;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: _sqlx_migrations; Type: TABLE; Schema: tripline; Owner: -
--

CREATE TABLE tripline._sqlx_migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);


--
-- Name: alerts; Type: TABLE; Schema: tripline; Owner: -
--

CREATE TABLE tripline.alerts (
    id uuid NOT NULL,
    "group" text NOT NULL,
    lineage text NOT NULL,
    rule text NOT NULL,
    rule_version text NOT NULL,
    status text NOT NULL,
    severity text NOT NULL,
    key jsonb NOT NULL,
    message text NOT NULL,
    stream jsonb NOT NULL,
    database jsonb,
    "having" text NOT NULL,
    window_from timestamp with time zone,
    window_to timestamp with time zone NOT NULL,
    trigger jsonb,
    confirmation jsonb NOT NULL,
    emitted_at timestamp with time zone NOT NULL,
    episode text
);


--
-- Name: TABLE alerts; Type: COMMENT; Schema: tripline; Owner: -
--

COMMENT ON TABLE tripline.alerts IS 'what tripline has told: one row per firing or resolved alert';


--
-- Name: COLUMN alerts.episode; Type: COMMENT; Schema: tripline; Owner: -
--

COMMENT ON COLUMN tripline.alerts.episode IS 'the epoch in which the episode fired and its ordinal there, such as 12.0; the same for firing and resolved';


--
-- Name: generations; Type: TABLE; Schema: tripline; Owner: -
--

CREATE TABLE tripline.generations (
    "group" text NOT NULL,
    generation bigint NOT NULL,
    owner text NOT NULL,
    raised_at timestamp with time zone NOT NULL
);


--
-- Name: TABLE generations; Type: COMMENT; Schema: tripline; Owner: -
--

COMMENT ON TABLE tripline.generations IS 'which instance of a group writes to tripline.alerts; to be left alone while one runs';


--
-- Name: COLUMN generations.generation; Type: COMMENT; Schema: tripline; Owner: -
--

COMMENT ON COLUMN tripline.generations.generation IS 'raised by one by each instance that begins; only the newest may write';


--
-- Name: COLUMN generations.owner; Type: COMMENT; Schema: tripline; Owner: -
--

COMMENT ON COLUMN tripline.generations.owner IS 'host name and process id of the instance that raised it; nothing depends on it';


--
-- Name: COLUMN generations.raised_at; Type: COMMENT; Schema: tripline; Owner: -
--

COMMENT ON COLUMN tripline.generations.raised_at IS 'when it was raised';


--
-- Data for Name: _sqlx_migrations; Type: TABLE DATA; Schema: tripline; Owner: -
--

INSERT INTO tripline._sqlx_migrations VALUES (1, 'alerts', '2026-11-27 20:55:02.745549+00', true, '\x93e3fe309e4ec41d5ccfd0e5a7a5e9183541d14f79339f13d1e7895b0dcc5d939f7a1545127d68efb654e2a0624eec85', 4607232);
INSERT INTO tripline._sqlx_migrations VALUES (2, 'generations', '2026-11-27 20:55:02.750637+00', true, '\xda80d4f6c7c1b2431b12ce160351e6066f39e63abd90055853716f73242c475106793f660c9b1e22b89711478e172270', 2350474);


--
-- Data for Name: alerts; Type: TABLE DATA; Schema: tripline; Owner: -
--

INSERT INTO tripline.alerts VALUES ('d2194572-db93-5a53-a41e-273cf67e8873', 'golden-unfinished', '01a21eca-4b29-7671-83c2-aa3b2a288dd7', 'weekly-spend', '18876e8a38a358a8', 'firing', 'critical', '{"user_id": 301}', 'User 301 ($3,500.00)', '{"total": "3500.00", "transactions": 2}', '{"total": "3500.00", "transactions": 2}', 'SUM(ABS(amount)) > 3000', '2016-11-27 20:55:03.760722+00', '2026-11-27 20:55:03.760722+00', '{"op": "c", "pk": {"id": 1}, "lsn": 22000136, "topic": "golden-unfinished.streaming.transactions", "tx_id": 501, "offset": 0, "partition": 1, "event_time": "2026-11-20T08:00:00.000001Z", "committed_at": "2026-11-27T18:00:00.761123Z"}', '{"ms": 6, "as_of": "2026-11-27T20:55:03.760722Z", "attempts": 1, "required": true, "snapshot": "761:761:"}', '2026-11-27 20:55:03.766785+00', '1.0');
INSERT INTO tripline.alerts VALUES ('a89324e5-4afe-5021-99a8-66cf40dfab8c', 'golden-unfinished', '01a21eca-4b29-7671-83c2-aa3b2a288dd7', 'weekly-spend', '18876e8a38a358a8', 'firing', 'critical', '{"user_id": 304}', 'User 304 ($3,500.00)', '{"total": "3500.00", "transactions": 1}', '{"total": "3500.00", "transactions": 1}', 'SUM(ABS(amount)) > 3000', '2016-11-27 20:55:03.760722+00', '2026-11-27 20:55:03.760722+00', '{"op": "c", "pk": {"id": 6}, "lsn": 22000816, "topic": "golden-unfinished.streaming.transactions", "tx_id": 506, "offset": 2, "partition": 0, "event_time": "2026-11-20T11:00:00.000006Z", "committed_at": "2026-11-27T18:00:05.766123Z"}', '{"ms": 6, "as_of": "2026-11-27T20:55:03.760722Z", "attempts": 1, "required": true, "snapshot": "761:761:"}', '2026-11-27 20:55:03.766785+00', '1.1');
INSERT INTO tripline.alerts VALUES ('235394ab-06a0-59cb-8275-223b4076d12b', 'golden-unfinished', '01a21eca-4b29-7671-83c2-aa3b2a288dd7', 'busy', 'fdbdfcb4c80755f3', 'firing', 'warning', '{"user_id": 305}', 'User 305: 3 transactions', '{"transactions": 3}', '{"transactions": 3}', 'COUNT(*) >= 3', '2016-11-29 20:55:03.760722+00', '2026-11-27 20:55:03.760722+00', '{"op": "c", "pk": {"id": 9}, "lsn": 22001224, "topic": "golden-unfinished.streaming.transactions", "tx_id": 509, "offset": 4, "partition": 1, "event_time": "2026-11-20T12:02:00.000009Z", "committed_at": "2026-11-27T18:00:08.769123Z"}', '{"ms": 30, "as_of": "2026-11-27T20:55:03.760722Z", "attempts": 1, "required": true, "snapshot": "762:762:"}', '2026-11-27 20:55:03.790979+00', '2.0');


--
-- Data for Name: generations; Type: TABLE DATA; Schema: tripline; Owner: -
--

INSERT INTO tripline.generations VALUES ('golden-unfinished', 1795812905080, 'vm:31290', '2026-11-27 20:55:05.080301+00');


--
-- Name: _sqlx_migrations _sqlx_migrations_pkey; Type: CONSTRAINT; Schema: tripline; Owner: -
--

ALTER TABLE ONLY tripline._sqlx_migrations
    ADD CONSTRAINT _sqlx_migrations_pkey PRIMARY KEY (version);


--
-- Name: alerts alerts_pkey; Type: CONSTRAINT; Schema: tripline; Owner: -
--

ALTER TABLE ONLY tripline.alerts
    ADD CONSTRAINT alerts_pkey PRIMARY KEY (id);


--
-- Name: generations generations_pkey; Type: CONSTRAINT; Schema: tripline; Owner: -
--

ALTER TABLE ONLY tripline.generations
    ADD CONSTRAINT generations_pkey PRIMARY KEY ("group");


--
-- Name: alerts_by_key; Type: INDEX; Schema: tripline; Owner: -
--

CREATE INDEX alerts_by_key ON tripline.alerts USING gin (key);


--
-- Name: alerts_by_rule; Type: INDEX; Schema: tripline; Owner: -
--

CREATE INDEX alerts_by_rule ON tripline.alerts USING btree (rule, emitted_at DESC);


--
-- Name: alerts_by_time; Type: INDEX; Schema: tripline; Owner: -
--

CREATE INDEX alerts_by_time ON tripline.alerts USING btree (emitted_at DESC, id DESC);


--
-- PostgreSQL database dump complete
--


