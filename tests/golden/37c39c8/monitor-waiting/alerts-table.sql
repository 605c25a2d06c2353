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

INSERT INTO tripline._sqlx_migrations VALUES (1, 'alerts', '2026-11-27 20:55:22.823509+00', true, '\x93e3fe309e4ec41d5ccfd0e5a7a5e9183541d14f79339f13d1e7895b0dcc5d939f7a1545127d68efb654e2a0624eec85', 5212603);
INSERT INTO tripline._sqlx_migrations VALUES (2, 'generations', '2026-11-27 20:55:22.829225+00', true, '\xda80d4f6c7c1b2431b12ce160351e6066f39e63abd90055853716f73242c475106793f660c9b1e22b89711478e172270', 2752784);


--
-- Data for Name: alerts; Type: TABLE DATA; Schema: tripline; Owner: -
--

INSERT INTO tripline.alerts VALUES ('492cdea0-daf6-5844-8c2d-6175f0dd31ae', 'golden-waiting', '01a21eca-9997-751a-b015-dfeeab4dc9e0', 'weekly-spend', '18876e8a38a358a8', 'firing', 'critical', '{"user_id": 201}', 'User 201 ($4,000.00)', '{"total": "4000.00", "transactions": 1}', '{"total": "4000.00", "transactions": 1}', 'SUM(ABS(amount)) > 3000', '2016-11-27 20:55:23.835319+00', '2026-11-27 20:55:23.835319+00', '{"op": "c", "pk": {"id": 1}, "lsn": 22000136, "topic": "golden-waiting.streaming.transactions", "tx_id": 501, "offset": 0, "partition": 1, "event_time": "2026-11-20T08:00:00.000001Z", "committed_at": "2026-11-27T18:00:00.761123Z"}', '{"ms": 4, "as_of": "2026-11-27T20:55:23.835319Z", "attempts": 1, "required": true, "snapshot": "782:782:"}', '2026-11-27 20:55:23.839736+00', '1.0');
INSERT INTO tripline.alerts VALUES ('5765b92b-a4e2-5a25-8ece-7692559a700c', 'golden-waiting', '01a21eca-9997-751a-b015-dfeeab4dc9e0', 'busy', 'fdbdfcb4c80755f3', 'firing', 'warning', '{"user_id": 203}', 'User 203: 3 transactions', '{"transactions": 3}', '{"transactions": 3}', 'COUNT(*) >= 3', '2016-11-29 20:55:23.835319+00', '2026-11-27 20:55:23.835319+00', '{"op": "c", "pk": {"id": 5}, "lsn": 22000680, "topic": "golden-waiting.streaming.transactions", "tx_id": 505, "offset": 2, "partition": 1, "event_time": "2026-11-20T10:02:00.000005Z", "committed_at": "2026-11-27T18:00:04.765123Z"}', '{"ms": 24, "as_of": "2026-11-27T20:55:23.835319Z", "attempts": 1, "required": true, "snapshot": "783:783:"}', '2026-11-27 20:55:23.859502+00', '2.0');


--
-- Data for Name: generations; Type: TABLE DATA; Schema: tripline; Owner: -
--

INSERT INTO tripline.generations VALUES ('golden-waiting', 1795812924636, 'vm:31581', '2026-11-27 20:55:24.636048+00');


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


